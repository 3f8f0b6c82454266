"""The customers' ways into WHMCS, and whether WHMCS has a payment method of theirs.

Looking for the payment method never slows a page by more than PATIENCE_SECONDS: a page says nothing of what isn't known
by then, and the answer that comes later is kept for the next one. Moments are seconds since 1970.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Final

from portal.customers import limits
from portal.customers.waiters import NoPlace, Waiters
from portal.domain.model import PortalError, UpstreamError
from portal.fulfillment.customer import gateway_of
from portal.ledger.sessions import Session
from portal.services import Services
from portal.web.context import part, services

log = logging.getLogger("portal.customers")

PAYMENT_METHODS: Final = "clientarea:payment_methods"
PATIENCE_SECONDS: Final = 0.3
#: How long an answer is believed: one that asks the customer to do something for less, they may just have done it.
GOOD_SECONDS: Final = 600.0
MISSING_SECONDS: Final = 20.0
#: Questions under way at once in one process; accounts remembered.
MOST_ASKING: Final = 4
MOST_KEPT: Final = 5000


def way_in(client_id: str, destination: str, *, who: str) -> str | None:
    """An address that opens the client area, signed in; WHMCS_CLIENT_AREA_URL, or None, where WHMCS gives none.

    who: for whom it is counted, ten times a minute.
    """
    target = services().settings.whmcs_client_area_url
    if limits.too_often("whmcs-button", who, most=10, seconds=60):
        return target
    try:
        with part(Waiters).place():
            return services().whmcs.sso_link(client_id, destination)
    except (UpstreamError, NoPlace) as error:
        log.warning("No sign-in link from WHMCS", extra={"error": str(error)})
        return target


@dataclass(frozen=True)
class Answer:
    """What WHMCS said of an account: its client, and whether that one can't pay. None: nothing is known."""

    client_id: str | None
    missing: bool
    at: float

    def fresh(self, *, now: float) -> bool:
        """Whether it is still believed. now: seconds since 1970."""
        return now - self.at < (MISSING_SECONDS if self.missing else GOOD_SECONDS)


class PaymentMethods:
    """What is known of accounts' payment methods; one per application, safe for threads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._known: dict[str, Answer] = {}
        self._asking: dict[str, threading.Thread] = {}
        self._guard = threading.Lock()

    def missing_client(self, account: Session) -> str | None:
        """The WHMCS client of an account that has no way to pay; None where it has one, or that isn't known in time."""
        answer = self._kept(account)
        if answer is None:
            thread = self._ask_beside(account)
            if thread is not None:
                thread.join(PATIENCE_SECONDS)
            answer = self._kept(account)
        return answer.client_id if answer is not None and answer.missing else None

    def forget(self, account_id: str) -> None:
        """The customer says that something has changed."""
        with self._guard:
            self._known.pop(account_id, None)

    def _kept(self, account: Session) -> Answer | None:
        answer = self._known.get(account.account_id)
        return answer if answer is not None and answer.fresh(now=self._services.now()) else None

    def _ask_beside(self, account: Session) -> threading.Thread | None:
        with self._guard:
            running = self._asking.get(account.account_id)
            if running is not None or len(self._asking) >= MOST_ASKING:
                return running
            thread = threading.Thread(target=self._ask, args=(account,), name="payment-method", daemon=True)
            self._asking[account.account_id] = thread
        thread.start()
        return thread

    def _ask(self, account: Session) -> None:
        try:
            answer = self._answer(account)
        except PortalError as error:
            log.info("WHMCS couldn't be asked for a payment method", extra={"error": str(error)})
            answer = None
        except Exception:
            log.exception("WHMCS couldn't be asked for a payment method")
            answer = None
        with self._guard:
            self._asking.pop(account.account_id, None)
            if answer is not None:
                if len(self._known) >= MOST_KEPT:
                    self._known.clear()
                self._known[account.account_id] = answer

    def _answer(self, account: Session) -> Answer:
        whmcs, settings = self._services.whmcs, self._services.settings
        client_id = account.client_id
        if client_id is None:
            client = whmcs.client(email=account.email)
            client_id = client.id if client is not None else None
        missing = client_id is not None and gateway_of(settings, whmcs, client_id) is None
        return Answer(client_id, missing, self._services.now())
