"""What a customer is told about an order: plain sentences made of the ledger's facts, and the five stages they see.

No error code, step name or other internal term leaves this module. The sentences follow the GOV.UK habit: what is
happening, what happens next and when, and what the customer needs (or needn't) do.

Moments are seconds since 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from portal.domain.model import CustomerStatus, ErrorCode, State, Step, StepState
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.orders import PLACING, REFUSED, UNWANTED, WITHDRAWN, Order
from portal.ledger.runs import StepRow

#: An order that is being set up for this long, in seconds, is called late even where no lead time is known.
LATE_AFTER: Final = 600.0
#: A first hiccup isn't worth a word; after this long it is.
HICCUP_SECONDS: Final = 60.0
#: An order whose time came so many seconds ago and that nobody has taken up is late, however soon after its click.
NOBODY_SECONDS: Final = 30.0

DONE: Final = "done"
CURRENT: Final = "current"
AHEAD: Final = "ahead"
STOPPED: Final = "stopped"


@dataclass(frozen=True)
class Stage:
    """One of the customer's five stages: `state` is done, current, ahead or stopped; `at` when it was done."""

    name: str
    state: str
    at: float | None = None


@dataclass(frozen=True)
class Progress:
    """Everything the order's page says that can change."""

    status: CustomerStatus
    tag: str  # one or two words
    tone: str  # quiet | active | good | attention | stopped: shape and colour of the tag, never the only sign
    headline: str
    sentences: tuple[str, ...]
    stages: tuple[Stage, ...]
    lead_time: str  # "Usually done in 2 minutes.", or ""
    late: bool
    can_withdraw: bool
    needs_payment_method: bool
    final: bool
    updated_at: float

    @property
    def version(self) -> str:
        """Changes whenever the page would say something else."""
        shown = (self.tag, self.headline, self.sentences, self.stages, self.lead_time, self.can_withdraw, self.final)
        return hashlib.blake2s(repr(shown).encode(), digest_size=6).hexdigest()

    @property
    def spoken(self) -> str:
        """What a screen reader says when a stage changes."""
        return f"{self.tag}. {self.headline}"


_RECEIVED, _REVIEW, _PREPARATION, _SET_UP, _READY = (
    "Order received",
    "Review by our team",
    "Preparation",
    "Set-up of your services",
    "Ready to use",
)


def tell(
    order: Order,
    fulfillment: Fulfillment | None,
    steps: Sequence[StepRow],
    *,
    now: float,
    lead_time_seconds: float | None,
    review_time: str,
) -> Progress:
    """The order as its customer may know it.

    now: seconds since 1970; lead_time_seconds: how long orders usually take to set up, if known; review_time: how long
    the review before takes, as text for people (BRAND_REVIEW_TIME).
    """
    late = _late(order, fulfillment, now=now, lead_time_seconds=lead_time_seconds)
    message = _message(order, fulfillment, late=late, review_time=review_time)
    lead_time = ""
    if lead_time_seconds is not None and order.status is CustomerStatus.ACTIVATING and not late:
        lead_time = f"Usually done in {duration(lead_time_seconds)}."
    missing = order.status is CustomerStatus.FAILED and order.error_code == ErrorCode.PAYMENT_METHOD_MISSING.value
    return Progress(
        status=order.status,
        tag=message.tag,
        tone=message.tone,
        headline=message.headline,
        sentences=message.sentences,
        stages=_stages(order, fulfillment, steps),
        lead_time=lead_time,
        late=late,
        can_withdraw=order.status is CustomerStatus.PENDING_REVIEW and fulfillment is None,
        needs_payment_method=missing,
        final=order.final,
        updated_at=max(order.updated_at, fulfillment.updated_at if fulfillment else 0.0),
    )


def tag_of(order: Order) -> tuple[str, str]:
    """The order's tag and tone in a list, where nothing of its fulfillment is read."""
    message = _message(order, None, late=False, review_time="")
    return message.tag, message.tone


def duration(seconds: float) -> str:
    """`seconds` for people to read, rounded up: "a minute", "2 minutes", "an hour", "3 hours"."""
    if seconds <= 60:
        return "a minute"
    if seconds <= 55 * 60:
        return f"{-int(-seconds // 60)} minutes"
    hours = -int(-seconds // 3600)
    return "an hour" if hours == 1 else f"{hours} hours"


def _late(order: Order, fulfillment: Fulfillment | None, *, now: float, lead_time_seconds: float | None) -> bool:
    if order.status is not CustomerStatus.ACTIVATING or fulfillment is None:
        return False
    running_for = now - fulfillment.requested_at
    nobody_took_it = fulfillment.state in (State.QUEUED, State.WAITING) and now - fulfillment.due_at > NOBODY_SECONDS
    return (
        nobody_took_it
        or fulfillment.state is State.NEEDS_DECISION
        or (fulfillment.tries > 0 and running_for > HICCUP_SECONDS)
        or running_for > max(LATE_AFTER, 3 * (lead_time_seconds or 0.0))
    )


class _Message(NamedTuple):
    tag: str
    tone: str
    headline: str
    sentences: tuple[str, ...]


def _message(order: Order, fulfillment: Fulfillment | None, *, late: bool, review_time: str) -> _Message:
    match order.status:
        case CustomerStatus.PENDING_REVIEW:
            return _in_review(order, review_time)
        case CustomerStatus.ACTIVATING:
            return _activating(late)
        case CustomerStatus.PROVISIONED:
            return _Message("Provisioned", "good", "Your order is ready", ("Everything you ordered has been set up.",))
        case CustomerStatus.CANCELLED:
            return _cancelled(order, fulfillment)
        case CustomerStatus.FAILED:
            return _failed(order)


def _in_review(order: Order, review_time: str) -> _Message:
    if order.placing == PLACING:
        return _Message(
            "Pending Review",
            "quiet",
            "We have your order",
            (
                "We’re passing it on to our team, who check every order before we set it up.",
                "You don’t need to do anything. We’ll e-mail you when it’s ready.",
            ),
        )
    return _Message(
        "Pending Review",
        "quiet",
        "We’re checking your order",
        (
            f"Our team checks every order before we set it up. This usually takes {review_time}.",
            "You don’t need to do anything. We’ll e-mail you when it’s ready.",
        ),
    )


def _activating(late: bool) -> _Message:
    if late:
        return _Message(
            "Activating",
            "active",
            "This is taking longer than usual",
            (
                "Your order is safe, and our team can see that it is late.",
                "You don’t need to do anything, and please don’t order again. We’ll e-mail you when it’s ready.",
            ),
        )
    return _Message(
        "Activating",
        "active",
        "We’re setting up your services",
        (
            "Your order has been checked and is being set up now.",
            "You can close this page: we’ll e-mail you when it’s ready.",
        ),
    )


def _cancelled(order: Order, fulfillment: Fulfillment | None) -> _Message:
    if order.error_code == WITHDRAWN:
        return _Message(
            "Cancelled",
            "stopped",
            "You withdrew this order",
            ("Nothing has been set up, and you haven’t been charged.",),
        )
    if order.error_code == UNWANTED and fulfillment is None:
        return _Message(
            "Cancelled",
            "stopped",
            "We couldn’t accept this order",
            (
                "Our team checked it and couldn’t accept it. Nothing has been set up, and you haven’t been charged.",
                "If you’d like to know why, ask us and quote the reference.",
            ),
        )
    return _Message(
        "Cancelled",
        "stopped",
        "This order was cancelled",
        (
            "Nothing more will be set up for it.",
            "If you didn’t expect this, ask us and quote the reference.",
        ),
    )


def _failed(order: Order) -> _Message:
    if order.placing == REFUSED:
        return _Message(
            "Failed",
            "attention",
            "We couldn’t take this order",
            (
                "Something in it can’t be ordered any more. Nothing has been set up, and you haven’t been charged.",
                "Please choose again from our products, or ask us and quote the reference.",
            ),
        )
    if order.error_code == ErrorCode.PAYMENT_METHOD_MISSING.value:
        return _Message(
            "Failed",
            "attention",
            "Add a payment method to go on",
            (
                "We can’t set up your order yet, because there’s no payment method on your account.",
                "Add one, then tell us here. We’ll carry on from where we stopped: you don’t need to order again.",
            ),
        )
    return _Message(
        "Failed",
        "attention",
        "There is a problem with your order",
        (
            "We couldn’t finish setting it up. Our team has been told and is looking into it.",
            "You don’t need to order again. If you’d like to ask about it, quote the reference.",
        ),
    )


_PREPARING: Final = (Step.VALIDATION, Step.SF_STATUS_UPDATE, Step.ORDER_DETAILS, Step.MAPPING)
_SETTING_UP: Final = (Step.WHMCS_CREATE, Step.WHMCS_ACCEPT)


def _stages(order: Order, fulfillment: Fulfillment | None, steps: Sequence[StepRow]) -> tuple[Stage, ...]:
    done_at: dict[str, float] = {
        step.name: step.ended_at for step in steps if step.state == StepState.DONE and step.ended_at is not None
    }
    ready = order.status is CustomerStatus.PROVISIONED
    reached: list[tuple[str, float | None]] = [(_RECEIVED, order.created_at)]
    if fulfillment is not None or ready:
        reached.append((_REVIEW, fulfillment.created_at if fulfillment else None))
        prepared = done_at.get(Step.MAPPING)
        if ready or all(step in done_at for step in _PREPARING):
            reached.append((_PREPARATION, prepared))
            accepted = done_at.get(Step.WHMCS_ACCEPT)
            if ready or all(step in done_at for step in _SETTING_UP):
                reached.append((_SET_UP, accepted))
    if ready:
        reached.append((_READY, fulfillment.finished_at if fulfillment else order.updated_at))
    names = (_RECEIVED, _REVIEW, _PREPARATION, _SET_UP, _READY)
    stages = [Stage(name, DONE, at) for name, at in reached]
    for name in names[len(stages) :]:
        first = len(stages) == len(reached)
        if order.final:
            stages.append(Stage(name, STOPPED if first else AHEAD))
        else:
            stages.append(Stage(name, CURRENT if first else AHEAD))
    return tuple(stages)
