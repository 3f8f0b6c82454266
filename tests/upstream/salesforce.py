"""A Salesforce client of ours over a wire that says what a test wants."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from portal.clients.salesforce.client import SalesforceClient
from portal.clients.salesforce.records import NewOrder, NewOrderItem
from tests.upstream.sandboxes import salesforce_client
from tests.upstream.wire import Act, Wire, answer, drop, serving

ORDER_ID = "801D000000K0fXOIAZ"


TOKEN_CANARY = "00Dcanary!token-91c3"


EXPIRED = [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]


NO_RECORDS = {"totalSize": 0, "done": True, "records": []}


def token_answer(wire_address: str, token: str = TOKEN_CANARY) -> Act:
    """A sign-in that succeeds, at this address."""
    return answer(
        {
            "access_token": token,
            "scope": "api",
            "instance_url": wire_address,
            "token_type": "Bearer",
            "id": "https://login.salesforce.com/id/00DD000000K0fXO/005D000000K0fXO",
        }
    )


@contextlib.contextmanager
def talking_to(*acts: Act, **limits: Any) -> Iterator[tuple[Wire, SalesforceClient]]:
    """A server whose first act is a successful sign-in; `acts` follow."""
    with serving(drop) as wire:
        wire.acts = [token_answer(wire.address), *acts]
        client = salesforce_client(wire.address, **limits)
        try:
            yield wire, client
        finally:
            client.close()


def requests_of(wire: Wire) -> list[str]:
    """Method and path of each request, in order."""
    return [f"{seen.method} {urlsplit(seen.target).path}" for seen in wire.seen]


# --- errors --------------------------------------------------------------------------------------------


def sf_error(code: str, message: str = "no", status: int = 400) -> Act:
    """An error as Salesforce answers it."""
    return answer([{"message": message, "errorCode": code, "fields": []}], status)


def new_order(names: dict[str, str], reference: str = "ref-1", account: str = "acme") -> NewOrder:
    """An order to be created, of one product."""
    return NewOrder(
        reference=reference,
        account_id=names[account],
        pricebook_id=names["book"],
        effective_date=datetime.date(2026, 11, 21),
        items=(
            NewOrderItem(names["e1"], 2, "12.50", domain="ada.example"),
            NewOrderItem(names["e1"], 1, "12.50", hostname="h1"),
        ),
    )
