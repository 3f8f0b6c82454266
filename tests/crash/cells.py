"""The cells of the crash matrix: every upstream call, at every moment, struck in every way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.crash.harness import (
    Holder,
    Wanted,
)

# The moments.
NOT_SENT = "killed before sending"


LOST = "done but answer lost"


UNRECORDED = "answered but not recorded"


LATE = "committed after the maximum request time"


BETWEEN = "between two calls"


# What happens to the process that runs the order.
KILL = "SIGKILL"


STOP = "SIGSTOP longer than the TTL, then going on"


STOP_LONG = "SIGSTOP until another has finished, then going on"


SUPERVISOR = "SIGKILL of its supervisor"


HANG = "its thread hangs, its process goes on"


@dataclass(frozen=True)
class Call:
    """One upstream call of an order, how the journal shows it, and the fault points around it."""

    name: str
    side: str  # salesforce | whmcs
    action: str  # in the journal
    point: str  # our name of it
    nth: int = 1  # of the point: it is reached so often
    contains: str = ""
    seen: int = 1  # the so-manieth call that the journal shows to fit
    by: str = "order"  # what the journal knows the call by: order | client | nothing
    effect: bool = False
    duplicate_possible: bool = False  # happens only where an AddOrder's outcome was unknown
    before: str = ""  # the product's own fault points, where it has some
    after: str = ""


CALLS = (
    Call("token", "salesforce", "token", "sign_in", by="nothing"),
    Call("query", "salesforce", "query", "fetch_order"),
    Call("Activating", "salesforce", "update:Order", "update_order", contains="Activating", effect=True),
    Call("GetPayMethods", "whmcs", "GetPayMethods", "GetPayMethods", by="client"),
    Call("GetClientsDetails", "whmcs", "GetClientsDetails", "GetClientsDetails", by="client"),
    Call("GetOrders (before AddOrder)", "whmcs", "GetOrders", "GetOrders", by="client"),
    Call(
        "AddOrder",
        "whmcs",
        "AddOrder",
        "AddOrder",
        effect=True,
        before="add_order:intended",
        after="add_order:answered",
    ),
    Call("GetOrders (read back)", "whmcs", "GetOrders", "GetOrders", nth=2),
    Call("GetClientsProducts (before AcceptOrder)", "whmcs", "GetClientsProducts", "GetClientsProducts", by="client"),
    Call(
        "AcceptOrder",
        "whmcs",
        "AcceptOrder",
        "AcceptOrder",
        effect=True,
        before="accept_order:intended",
        after="accept_order:answered",
    ),
    Call("GetClientsProducts", "whmcs", "GetClientsProducts", "GetClientsProducts", nth=2, seen=2, by="client"),
    Call("Provisioned", "salesforce", "update:Order", "update_order", nth=2, contains="Provisioned", effect=True),
    Call("GetOrders (look)", "whmcs", "GetOrders", "GetOrders", nth=2, seen=2, by="client", duplicate_possible=True),
    Call(
        "CancelOrder",
        "whmcs",
        "CancelOrder",
        "CancelOrder",
        effect=True,
        duplicate_possible=True,
        before="cancel_stray:intended",
        after="cancel_stray:answered",
    ),
)


#: Moments that belong to no call's before or after: the product's other points, and right before the bytes leave.
OTHER_POINTS = (
    "claimed",
    "add_order:recorded",
    "accept_order:recorded",
    "whmcs_create:begun",
    "sf_success_update:begun",
    "elected",
    "AddOrder:sending",
    "AcceptOrder:sending",
    "CancelOrder:sending",
)


@dataclass(eq=False)
class Cell:
    """One square of the matrix, with the order that was brought there."""

    what: str  # the call's or the point's name
    moment: str
    strike: str
    call: Call | None
    wanted: Wanted = field(default_factory=lambda: Wanted(0, 0, []))
    holder: Holder | None = None
    struck_at: float = 0.0
    first: dict[str, int] = field(default_factory=dict)  # last journal ids before the order was asked for
    held: dict[str, Any] | None = None  # the held call's journal entry
    updated_at: float = 0.0  # of the order's row at the strike
    trouble: str = ""  # why the cell didn't come about, or what was wrong with it

    @property
    def in_call(self) -> bool:
        """Whether the sandbox holds the call, instead of a fault point the process."""
        return self.moment in (LOST, LATE)

    @property
    def name(self) -> str:
        """The cell in the words of its test's id."""
        return f"{self.what} | {self.moment} | {self.strike}"


def all_cells() -> list[Cell]:
    """The whole matrix."""
    cells = []
    for strike in (KILL, STOP, STOP_LONG, SUPERVISOR, HANG):
        for call in CALLS:
            if strike == STOP_LONG and not call.effect:
                continue  # the same as STOP: nothing depends on how late a read ends
            moments = [NOT_SENT, LOST, UNRECORDED] + ([LATE] if call.effect and strike != STOP_LONG else [])
            if strike == HANG:
                moments = [NOT_SENT, UNRECORDED]  # a call ends at its deadline, whatever happens: nobody hangs in one
            cells += [Cell(call.name, moment, strike, call) for moment in moments]
        if strike != STOP_LONG:
            cells += [Cell(point, BETWEEN, strike, None) for point in OTHER_POINTS]
    return cells
