"""What staff do in WHMCS by hand, without asking the API's leave: an order accepted, cancelled, marked as fraud,
deleted or put into a status of one's own, a service changed; with the hook that tells of it, or without."""

from __future__ import annotations

import time
from typing import Any

from sandbox.store import Document, Journal, Transaction
from sandbox.whmcs.model import Refused
from sandbox.whmcs.ordering import Ordering
from sandbox.whmcs.php import to_int

ORDER_ACTIONS = ("accept", "cancel", "delete", "fraud", "pending", "status")


class Staff:
    """Changes orders and services by hand; each change is an entry of the journal (direction `staff`)."""

    def __init__(self, model: Ordering, journal: Journal):
        self.model = model
        self.store = model.store
        self._journal = journal

    def act(self, wanted: Document) -> Document:
        """`action` (one of ORDER_ACTIONS, or `service`), `orderId` or `serviceId`, `status` for `status` and `service`,
        `event` (true; false: no hook tells of it). Raises ValueError where there is nothing to change."""
        action = str(wanted.get("action"))
        if action not in (*ORDER_ACTIONS, "service"):
            raise ValueError(f"unknown action {action!r}; known: {', '.join((*ORDER_ACTIONS, 'service'))}")
        kind, key = ("service", wanted.get("serviceId")) if action == "service" else ("order", wanted.get("orderId"))
        found = self.model.get(kind, to_int(key))
        if found is None:
            raise ValueError(f"no {kind} {key}")
        order = found["orderid"] if kind == "service" else found["id"]
        entry = self._journal.begin(
            direction="staff",
            method="POST",
            path="/_sandbox/staff",
            action=f"staff.{action}",
            order=str(order),
            client=str(found["userid"]),
            params={name: value for name, value in wanted.items() if name != "action"},
        )
        try:
            with self.store.transaction(entry) as change, self.model.events.muted(not wanted.get("event", True)):
                if kind == "service":
                    self.model.service_status(change, found, str(wanted["status"]))
                else:
                    self._order(change, found, action, wanted.get("status"))
        except Refused as refused:
            raise ValueError(str(refused)) from None
        finally:
            self._journal.finish(entry, state="answered", answered=time.time(), inside=0.0)
        return {"changed": found["id"]}

    def _order(self, change: Transaction, order: Document, action: str, status: Any) -> None:
        match action:
            case "accept":
                self.model.accept(change, order, None)
            case "cancel" | "fraud":
                self.model.end_order(change, order, "Cancelled" if action == "cancel" else "Fraud", by_staff=True)
            case "pending":
                self.model.pending(change, order)
            case "delete":
                self.model.delete_order(change, order)
            case "status":
                change.change("order", str(order["id"]), status=str(status))
