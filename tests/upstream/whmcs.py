"""A WHMCS client of ours over a wire that says what a test wants, and what a right answer looks like."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from portal.clients.whmcs.client import WhmcsClient
from portal.domain.ids import external_reference
from portal.domain.model import OrderLine
from tests.upstream.sandboxes import whmcs_client
from tests.upstream.wire import Act, Wire, serving

SUCCESS = {"result": "success"}


ADDED = {"result": "success", "orderid": "7", "serviceids": "11,12", "invoiceid": "3"}


LINES = [OrderLine(pid="5", billing_cycle="monthly", quantity=1)]


@contextlib.contextmanager
def talking_to(*acts: Act, **limits: Any) -> Iterator[tuple[Wire, WhmcsClient]]:
    """A client, and the server it talks to."""
    with serving(*acts) as wire:
        client = whmcs_client(wire.address, **limits)
        try:
            yield wire, client
        finally:
            client.close()


def add_order(client: WhmcsClient) -> Any:
    """The same AddOrder each time."""
    return client.add_order("1", "mailin", LINES, notes=external_reference("801D000000K0fXOIAZ"), custom_fields={})
