"""The relay where something goes wrong between taking a message up and telling it; the ledger is real."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from jobs.relay import CLAIM_SECONDS, Relay, _Carrier
from portal.domain.model import CustomerStatus, State, UpstreamError
from portal.errors import PortalError
from portal.ledger import fulfillments, outbox
from portal.ledger.engine import Ledger
from portal.ledger.schema import fulfillments as table
from portal.ledger.schema import outbox as messages
from portal.settings import Settings
from tests.fakes import ACCOUNT, ORDER, Clock, FakeSalesforce

OTHER = "801000000000002AAA"
AWAY = UpstreamError("Salesforce", "Salesforce answered with 503", permanent=False, code="http_503")


class Org(FakeSalesforce):
    """Notes of which order it is told what; may be away for some questions."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str]] = []
        self.on_account: Callable[[], object] = lambda: None
        self.on_requested: Callable[[], object] = lambda: None

    def update_order(self, sf_order_id: str, fields: Any) -> None:
        """Note it."""
        self.told.append((sf_order_id, fields["Provisioning_Status__c"]))

    def set_whmcs_client(self, account_id: str, client_id: str) -> None:
        """Afterwards."""
        self.on_account()
        super().set_whmcs_client(account_id, client_id)

    def requested_orders(self, limit: int) -> list[str]:
        """Nobody, afterwards."""
        self.on_requested()
        return []


@pytest.fixture
def org() -> Org:
    return Org()


@pytest.fixture
def relay(ledger: Ledger, clock: Clock, org: Org) -> Callable[[str], Relay]:
    services = SimpleNamespace(ledger=ledger, now=clock, salesforce=org, settings=Settings(secret_key="k" * 40))
    return lambda name: Relay(cast(Any, services), name)


def ended(ledger: Ledger, clock: Clock, order: str, state: State, **values: Any) -> None:
    """An order that has ended, of which Salesforce is to be told now."""
    with ledger.write() as connection:
        fulfillments.request_fulfillment(connection, order, now=clock.now, requested_at=clock.now)
        connection.execute(
            sa.update(table).where(table.c.sf_order_id == order).values(state=state, finished_at=clock.now, **values)
        )
        fulfillments.plan_resync(connection, order, now=clock.now, due_at=clock.now)


def put_account(ledger: Ledger, clock: Clock) -> None:
    with ledger.write() as connection:
        payload = {"account": ACCOUNT, "fields": {"WHMCS_Client_ID__c": "17"}}
        outbox.put(connection, "salesforce", ACCOUNT, payload, now=clock.now)


def pending(ledger: Ledger) -> list[tuple[str, int, str | None]]:
    """Subject, tries and last error of each message that isn't sent."""
    query = sa.select(messages.c.subject, messages.c.tries, messages.c.error).where(messages.c.state == "pending")
    with ledger.read() as connection:
        return [(row.subject, row.tries, row.error) for row in connection.execute(query.order_by(messages.c.id))]


def refuse() -> None:
    raise AWAY


def test_what_another_relay_has_told_meanwhile_isnt_told_again(
    ledger: Ledger, clock: Clock, org: Org, relay: Callable[[str], Relay]
) -> None:
    """It took the message over: what the first one knows may be older than what that one has told."""
    put_account(ledger, clock)
    ended(ledger, clock, ORDER, State.PROVISIONED, elected_whmcs_id="1")

    def stop_for_long() -> None:
        clock.now += CLAIM_SECONDS + 1.0
        org.on_account = lambda: None
        relay("bob").write_back()

    org.on_account = stop_for_long
    relay("ada").write_back()
    assert org.told == [(ORDER, "Provisioned")]
    assert pending(ledger) == []


def test_a_failed_that_may_cover_up_a_click_waits_until_salesforce_can_be_asked(
    ledger: Ledger, clock: Clock, org: Org, relay: Callable[[str], Relay]
) -> None:
    about = {"error_code": "ORDER_HAS_NO_ITEMS", "error_message": "none", "salesforce_status": CustomerStatus.FAILED}
    ended(ledger, clock, ORDER, State.FAILED, **about)
    ended(ledger, clock, OTHER, State.PROVISIONED, elected_whmcs_id="1")
    org.on_requested = refuse
    assert relay("ada").write_back() == 2
    assert org.told == [(OTHER, "Provisioned")]  # whom that doesn't concern
    assert pending(ledger) == [(ORDER, 1, str(AWAY))]
    org.on_requested = lambda: None
    clock.now += 60.0
    assert relay("ada").write_back() == 1
    assert org.told[1:] == [(ORDER, "Failed")]
    assert pending(ledger) == []


def test_an_account_whose_client_salesforce_doesnt_take_is_told_again(
    ledger: Ledger, clock: Clock, org: Org, relay: Callable[[str], Relay]
) -> None:
    put_account(ledger, clock)
    ended(ledger, clock, ORDER, State.PROVISIONED, elected_whmcs_id="1")
    org.on_account = refuse
    relay("ada").write_back()
    assert org.told == [(ORDER, "Provisioned")]
    assert pending(ledger) == [(ACCOUNT, 1, str(AWAY))]
    org.on_account = lambda: None
    clock.now += 60.0
    relay("ada").write_back()
    assert org.order.whmcs_client_id == "17"
    assert pending(ledger) == []


# --- its threads ---------------------------------------------------------------------------------------


class Stopping(threading.Event):
    """Lets nobody wait, and notes for how long they would have."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float | None] = []
        self.rests = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set, at once; `timeout` (seconds) is noted."""
        self.waited.append(timeout)
        self.rests.set()
        return self.is_set()


@pytest.fixture
def stopping() -> Iterator[Stopping]:
    made = Stopping()
    yield made
    made.set()


@pytest.mark.parametrize(
    ("error", "said", "pause"),
    [(PortalError("gone"), "Can't carry messages now", 1.0), (KeyError("to"), "Carrying messages failed", 5.0)],
)
def test_a_carrier_outlives_whatever_happens_to_it(
    stopping: Stopping, caplog: pytest.LogCaptureFixture, error: Exception, said: str, pause: float
) -> None:
    """It rests for `pause` seconds."""
    carried, failures = threading.Event(), [error]

    def carry() -> int:
        if failures:
            raise failures.pop()
        carried.set()
        return 0

    carrier = _Carrier(stopping, {"mail"}, carry)
    carrier.start()
    carrier.wake.set()
    assert stopping.rests.wait(10)
    assert not carried.is_set()  # not at once: what is away would be asked again and again
    carrier.wake.set()
    assert carried.wait(10)
    assert stopping.waited == [pause]
    assert said in caplog.text
    stopping.set()
    carrier.wake.set()
    carrier.join(10)
    assert not carrier.is_alive()
