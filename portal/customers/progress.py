"""What a customer is told about an order: plain sentences made of the ledger's facts, and the five stages they see.

No error code, step name or other internal term leaves this module. The sentences follow the GOV.UK habit: what is
happening, what happens next and when, and what the customer needs (or needn't) do. They are made in the current
language (portal.web.languages), and so is everything that is made of them.

Moments are seconds since 1970.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from portal.domain.model import CustomerStatus, State, Step
from portal.ledger.fulfillments import Fulfillment
from portal.ledger.orders import PLACING, REFUSED, UNWANTED, WITHDRAWN, Order
from portal.web.languages import current, gettext, ngettext

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


class Stage(NamedTuple):
    """One of the customer's five stages: `state` is done, current, ahead or stopped; `at` when it was done."""

    name: str
    state: str
    at: float | None = None


@dataclass(frozen=True)
class Progress:
    """Everything the order's page says that can change."""

    status: CustomerStatus
    tag: str  # one or two words
    tone: str  # quiet | active | good | waiting | attention | stopped: the tag's shape and colour, never the only sign
    headline: str
    sentences: tuple[str, ...]
    stages: tuple[Stage, ...]
    lead_time: str  # "Usually done in 2 minutes.", or ""
    late: bool
    can_withdraw: bool
    needs_payment_method: bool
    final: bool
    updated_at: float
    locale: str  # all of it is said in

    @property
    def version(self) -> str:
        """Changes whenever the page would say something else."""
        shown = (
            *(self.locale, self.tag, self.headline, self.sentences, self.stages),
            *(self.lead_time, self.can_withdraw, self.final),
        )
        return hashlib.blake2s(repr(shown).encode(), digest_size=6).hexdigest()

    @property
    def spoken(self) -> str:
        """What a screen reader says when a stage changes."""
        return f"{self.tag}. {self.headline}"


def _stage_names() -> tuple[str, ...]:
    return (
        gettext("Order received"),
        gettext("Review by our team"),
        gettext("Preparation"),
        gettext("Set-up of your services"),
        gettext("Ready to use"),
    )


def tell(
    order: Order,
    fulfillment: Fulfillment | None,
    done_at: Mapping[str, float],
    *,
    now: float,
    lead_time_seconds: float | None,
    review_time: str,
) -> Progress:
    """The order as its customer may know it.

    done_at: when each step was done, by its name (`portal.ledger.runs.done_at`); now: seconds since 1970, as these are;
    lead_time_seconds: how long orders usually take to set up, if known; review_time: how long the review before takes,
    as text for people (BRAND_REVIEW_TIME).
    """
    late = _late(order, fulfillment, now=now, lead_time_seconds=lead_time_seconds)
    message = _message(order, fulfillment, late=late, review_time=review_time)
    lead_time = ""
    if lead_time_seconds is not None and order.status is CustomerStatus.ACTIVATING and not late:
        lead_time = gettext("Usually done in %(duration)s.", duration=duration(lead_time_seconds))
    return Progress(
        status=order.status,
        tag=word_of(order.status, needs_customer=order.needs_customer),
        tone=message.tone,
        headline=message.headline,
        sentences=message.sentences,
        stages=_stages(order, fulfillment, done_at),
        lead_time=lead_time,
        late=late,
        can_withdraw=order.status is CustomerStatus.PENDING_REVIEW and fulfillment is None,
        needs_payment_method=order.needs_customer,
        final=order.final,
        updated_at=max(order.updated_at, fulfillment.updated_at if fulfillment else 0.0),
        locale=current(),
    )


def tag_of(order: Order) -> tuple[str, str]:
    """The order's tag and tone in a list, where nothing of its fulfillment is read."""
    message = _message(order, None, late=False, review_time="")
    return word_of(order.status, needs_customer=order.needs_customer), message.tone


def duration(seconds: float) -> str:
    """`seconds` for people to read, rounded up: "a minute", "2 minutes", "an hour", "3 hours", "2 days"."""
    if seconds <= 55 * 60:
        return ngettext("a minute", "%(num)s minutes", max(1, -int(-seconds // 60)))
    if seconds <= 23 * 3600:
        return ngettext("an hour", "%(num)s hours", -int(-seconds // 3600))
    return ngettext("a day", "%(num)s days", -int(-seconds // (24 * 3600)))


def word_of(status: CustomerStatus, *, needs_customer: bool = False) -> str:
    """What customers call a status, and one that waits for them: the API's words are the guide's."""
    match status:
        case CustomerStatus.PENDING_REVIEW:
            return gettext("In review")
        case CustomerStatus.ACTIVATING:
            return gettext("Being set up")
        case CustomerStatus.PROVISIONED:
            return gettext("Ready")
        case CustomerStatus.CANCELLED:
            return gettext("Cancelled")
        case CustomerStatus.FAILED:
            return gettext("Needs you") if needs_customer else gettext("Not possible")


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
            return _Message(
                "good", gettext("Your order is ready"), (gettext("Everything you ordered has been set up."),)
            )
        case CustomerStatus.CANCELLED:
            return _cancelled(order, fulfillment)
        case CustomerStatus.FAILED:
            return _failed(order)


def _in_review(order: Order, review_time: str) -> _Message:
    if order.placing == PLACING:
        return _Message(
            "quiet",
            gettext("We have your order"),
            (
                gettext("We’re passing it on to our team, who check every order before we set it up."),
                gettext("You don’t need to do anything. We’ll e-mail you when it’s ready."),
            ),
        )
    return _Message(
        "quiet",
        gettext("We’re checking your order"),
        (
            gettext(
                "Our team checks every order before we set it up. This usually takes %(time)s.",
                time=review_time,
            ),
            gettext("You don’t need to do anything. We’ll e-mail you when it’s ready."),
        ),
    )


def _activating(late: bool) -> _Message:
    if late:
        return _Message(
            "active",
            gettext("This is taking longer than usual"),
            (
                gettext("Your order is safe, and our team can see that it is late."),
                gettext(
                    "You don’t need to do anything, and please don’t order again. We’ll e-mail you when it’s ready."
                ),
            ),
        )
    return _Message(
        "active",
        gettext("We’re setting up your services"),
        (
            gettext("Your order has been checked and is being set up now."),
            gettext("You can close this page: we’ll e-mail you when it’s ready."),
        ),
    )


def _cancelled(order: Order, fulfillment: Fulfillment | None) -> _Message:
    if order.error_code == WITHDRAWN:
        return _Message(
            "stopped",
            gettext("You withdrew this order"),
            (gettext("Nothing has been set up, and you haven’t been charged."),),
        )
    if order.error_code == UNWANTED and fulfillment is None:
        return _Message(
            "stopped",
            gettext("We couldn’t accept this order"),
            (
                gettext(
                    "Our team checked it and couldn’t accept it. Nothing has been set up, and you haven’t been charged."
                ),
                gettext("If you’d like to know why, ask us and quote the reference."),
            ),
        )
    return _Message(
        "stopped",
        gettext("This order was cancelled"),
        (
            gettext("Nothing more will be set up for it."),
            gettext("If you didn’t expect this, ask us and quote the reference."),
        ),
    )


def _failed(order: Order) -> _Message:
    if order.placing == REFUSED:
        return _Message(
            "attention",
            gettext("We couldn’t take this order"),
            (
                gettext(
                    "Something in it can’t be ordered any more. Nothing has been set up, and you haven’t been charged."
                ),
                gettext("Please choose again from our products, or ask us and quote the reference."),
            ),
        )
    if order.needs_customer:
        return _Message(
            "waiting",
            gettext("Add a payment method to go on"),
            (
                gettext("We can’t set up your order yet, because there’s no payment method on your account."),
                gettext(
                    "Add one, then tell us here. We’ll carry on from where we stopped: you don’t need to order again."
                ),
            ),
        )
    return _Message(
        "attention",
        gettext("There is a problem with your order"),
        (
            gettext("We couldn’t finish setting it up. Our team has been told and is looking into it."),
            gettext("You don’t need to order again. If you’d like to ask about it, quote the reference."),
        ),
    )


_PREPARING: Final = (Step.VALIDATION, Step.SF_STATUS_UPDATE, Step.ORDER_DETAILS, Step.MAPPING)
_SETTING_UP: Final = (Step.WHMCS_CREATE, Step.WHMCS_ACCEPT)


def _stages(order: Order, fulfillment: Fulfillment | None, done_at: Mapping[str, float]) -> tuple[Stage, ...]:
    ready = order.status is CustomerStatus.PROVISIONED
    reached: list[float | None] = [order.created_at]  # of each stage that is done, when, if that is known
    if fulfillment is not None or ready:
        reached.append(fulfillment.created_at if fulfillment else None)
        prepared = done_at.get(Step.MAPPING)
        if ready or all(step in done_at for step in _PREPARING):
            reached.append(prepared)
            accepted = done_at.get(Step.WHMCS_ACCEPT)
            if ready or all(step in done_at for step in _SETTING_UP):
                reached.append(accepted)
    if ready:
        reached.append(fulfillment.finished_at if fulfillment else order.updated_at)
    names = _stage_names()
    stages = [Stage(name, DONE, at) for name, at in zip(names, reached, strict=False)]
    for name in names[len(reached) :]:
        first = len(stages) == len(reached)
        if order.final:
            stages.append(Stage(name, STOPPED if first else AHEAD))
        else:
            stages.append(Stage(name, CURRENT if first else AHEAD))
    return tuple(stages)
