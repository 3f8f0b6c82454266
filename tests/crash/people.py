"""What people do to chaos' orders meanwhile: they cancel and change them, add cards, put right what failed, click.

Some of it happens while a sandbox holds a call of the order, the rest once the order stands as they wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from tests.crash.harness import CrashStack, unsettled
from tests.crash.plan import Planned
from tests.crash.senders import Senders
from tests.crash.trouble import say

REFUSED_SECONDS: Final = 60.0  # for which Salesforce refuses what is told of an order
EVENT_SECONDS: Final = 1.5  # what an event may take to arrive while its order's call is held

#: What the org refuses writes of one record with: rights that the integration user has lost.
REFUSALS: Final = ("INSUFFICIENT_ACCESS_OR_READONLY", "INVALID_FIELD_FOR_INSERT_UPDATE")


class People:
    """Operators, staff and customers."""

    def __init__(self, stack: CrashStack, plan: Sequence[Planned], senders: Senders) -> None:
        self.stack = stack
        self._plan = plan
        self._senders = senders
        self._to_put_right = [each for each in plan if each.trouble == "lost click" or each.cleared]
        self._done: set[str] = set()
        self._refused = {
            each.wanted.order: (each.at, REFUSALS[each.wanted.number % 2])
            for each in plan
            if each.trouble == "refused write-back"
        }
        self._looked = 0.0
        self.busy = True  # whether an order still waits for somebody to put it right, or for the portal to hear of it
        self._tell_refusals()

    def _tell_refusals(self) -> None:
        self.stack.org.settings(refused_writes={order: code for order, (_, code) in self._refused.items()})

    # --- while a call is held ---

    def meanwhile(self, planned: Planned, _entry: dict[str, Any]) -> bool:
        """Do what is planned for the moment in which this order's call is held; False when nothing is."""
        shop, client = self.stack.shop, planned.wanted.client
        if planned.trouble == "card added during the run":
            shop.seed(paymethods=[{"userid": client}])  # WHMCS tells of it
        elif planned.trouble in ("cancelled in WHMCS", "cancelled during the last step"):
            live = [order for order in shop.orders_of(client) if order["status"] in ("Pending", "Active")]
            if live:
                told = planned.trouble == "cancelled during the last step" or planned.wanted.number % 2 == 0
                shop.staff("cancel", order=live[0]["id"], event=told)
        else:
            return False
        deadline = time.monotonic() + EVENT_SECONDS
        while time.monotonic() < deadline and any(not each["delivered"] for each in shop.outbox()[-20:]):
            time.sleep(0.05)
        return True

    # --- once an order stands as they wait for it ---

    def turn(self, seconds: float) -> None:
        """Everything there is to do now. `seconds`: since the first order was asked for."""
        if time.monotonic() - self._looked < 1.0:
            return
        self._looked = time.monotonic()
        over = [order for order, (at, _) in self._refused.items() if seconds > at + REFUSED_SECONDS]
        if over:
            self._refused = {order: what for order, what in self._refused.items() if order not in over}
            self._tell_refusals()
        for each in self._to_put_right:
            if each.wanted.order not in self._done and self._stands(each):
                self._done.add(each.wanted.order)
                self._put_right(each)
        self.busy = any(not self._heard(each) for each in self._to_put_right)

    def _heard(self, planned: Planned) -> bool:
        order = planned.wanted.order
        return order in self._done and self.stack.org.order(order)["Provisioning_Status__c"] != "Requested"

    def end_refusals(self) -> None:
        """Salesforce takes everything again."""
        self._refused = {}
        self._tell_refusals()

    def restored(self) -> None:
        """What they did may be forgotten; they will see in Salesforce, and do it again."""
        self._done.clear()
        self.busy = True

    def _stands(self, planned: Planned) -> bool:
        """Whether it has failed, both sides show it, and nothing more is to be told of it."""
        order = planned.wanted.order
        row = self.stack.fulfillment(order)
        state = "needs_decision" if planned.cleared else "failed"
        if row is None or row["state"] != state or self.stack.org.order(order)["Provisioning_Status__c"] != "Failed":
            return row is not None and row["state"] == "provisioned"  # there is nothing to put right any more
        return not any(line.startswith(order) for line in unsettled(self.stack, [order]))

    def _put_right(self, planned: Planned) -> None:
        order, org = planned.wanted.order, self.stack.org
        row = self.stack.fulfillment(order)
        if row is None or row["state"] == "provisioned":
            return
        if planned.cleared:
            say(f"clone {order}: its WHMCS_Order_ID__c is cleared, and clicked again")
            org.set("Order", order, WHMCS_Order_ID__c=None)
            self._senders.click_again(planned)
        else:
            say(f"draft {order}: it is put into review, and clicked; the click gets lost")
            org.staff(order, Status="Pending Review")
            org.provision(order, mode="package", lost=True)
