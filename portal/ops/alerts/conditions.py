"""Which of the rules hold now, by what the ledger says. Cheap however many orders there are.

Moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.engine import Connection

from portal.domain.model import State
from portal.ledger import circuits, counters, installation, outbox, placements, queueing, statistics, totals, workers
from portal.ops.alerts import certificates, rules
from portal.ops.alerts.rules import Rule
from portal.settings import Settings

#: Processes beat twice a second: one that hasn't for so long is gone, frozen, or has another clock.
SILENT_SECONDS: Final = 10.0
#: How long the order that was due first may wait for a worker, in seconds.
QUEUE_SECONDS: Final = 60.0
#: How long a write-back or a mail may be due before somebody ought to look, in seconds.
UNSENT_SECONDS: Final = 600.0
#: Share of Salesforce's daily calls that must be left.
QUOTA_LEFT: Final = 0.1

_TITLES: Final = {"salesforce": "Salesforce", "whmcs": "WHMCS"}
_PROCESSES: Final = {"fulfill": "worker (`python -m jobs.worker`)", "sweep": "sweep (`python -m jobs.sweep`)"}

#: When, how many attempts had ended well until then, and how many not.
Sample = tuple[float, float, float]


@dataclass(frozen=True)
class Condition:
    """One rule that holds. about: of what, where a rule watches several; detail: the figures, in words."""

    rule: Rule
    about: str
    detail: str

    @property
    def key(self) -> str:
        """What it is known by while it lasts."""
        return f"{self.rule.id}:{self.about}" if self.about else self.rule.id


def holding(
    connection: Connection, settings: Settings, samples: Sequence[Sample], *, now: float
) -> Iterator[Condition]:
    """Every condition that holds now. `samples`: of the window ALERT_WINDOW_SECONDS, oldest first."""
    yield from _failure_rate(settings, samples)
    yield from _orders(connection, settings, now=now)
    yield from _processes(connection, now=now)
    yield from _sides(connection)
    yield from _messages(connection, now=now)
    yield from _expiring(connection, settings, now=now)


def sample(connection: Connection, *, now: float) -> Sample:
    """How many attempts have ended until now."""
    counted = counters.of(connection, totals.ATTEMPTS)
    return now, counted.get("true", 0.0), counted.get("false", 0.0)


def in_window(samples: Sequence[Sample], window: float, *, now: float) -> list[Sample]:
    """The samples that a window of so many seconds needs: those inside, and the last one before it."""
    inside = [each for each in samples if each[0] > now - window]
    before = [each for each in samples if each[0] <= now - window][-1:]
    return before + inside


def _failure_rate(settings: Settings, samples: Sequence[Sample]) -> Iterator[Condition]:
    if not samples:
        return
    good, bad = (max(0.0, samples[-1][index] - samples[0][index]) for index in (1, 2))
    if good + bad >= settings.alert_minimum_attempts and bad > settings.alert_failure_rate * (good + bad):
        minutes = max(1, round(settings.alert_window_seconds / 60))
        share = f"{bad / (good + bad):.0%}"
        yield Condition(
            rules.FAILURE_RATE, "", f"{bad:.0f} of {good + bad:.0f} attempts ({share}) failed within {minutes} min."
        )


def _orders(connection: Connection, settings: Settings, *, now: float) -> Iterator[Condition]:
    undecided = statistics.standings(connection)[State.NEEDS_DECISION]
    oldest = statistics.oldest(connection)
    if undecided > 0 and State.NEEDS_DECISION in oldest:
        sf_order_id, _since = oldest[State.NEEDS_DECISION]
        yield Condition(rules.UNDECIDED, "", f"{undecided} of them; the oldest is {sf_order_id}.")
    paused = installation.paused(connection)
    unfinished = [oldest[state] for state in (State.QUEUED, State.WAITING, State.RUNNING) if state in oldest]
    if unfinished:
        sf_order_id, since = min(unfinished, key=lambda each: each[1])
        if now - since > settings.alert_stuck_seconds:
            why = " Fulfillments are paused." if paused else ""
            yield Condition(rules.STUCK, "", f"{sf_order_id} was asked for {_span(now - since)} ago.{why}")
    yield from _not_placed(connection, settings, now=now)
    due = queueing.longest_overdue(connection)
    if due is not None and not paused and now - due > QUEUE_SECONDS:
        yield Condition(rules.QUEUE_GROWING, "", f"The order that was due first waits {_span(now - due)} for a worker.")


def _not_placed(connection: Connection, settings: Settings, *, now: float) -> Iterator[Condition]:
    waiting = placements.waiting(connection, until=now - settings.alert_stuck_seconds, limit=1)
    if waiting:
        since = _span(now - waiting[0].created_at)
        yield Condition(rules.NOT_PLACED, "waiting", f"{waiting[0].reference} was placed {since} ago.")
    refused = placements.refused(connection, since=now - settings.alert_window_seconds, limit=1)
    if refused:
        yield Condition(rules.NOT_PLACED, "refused", f"The newest is {refused[0].reference}.")


def _processes(connection: Connection, *, now: float) -> Iterator[Condition]:
    beats = workers.last_heartbeats(connection)
    for kind, title in _PROCESSES.items():
        if now - beats.get(kind, 0.0) > SILENT_SECONDS:
            last = f"since {_moment(beats[kind])}" if kind in beats else "at all"
            yield Condition(rules.NOBODY_WORKING, kind, f"No heartbeat of any {title} {last}.")


def _sides(connection: Connection) -> Iterator[Condition]:
    for side, title in _TITLES.items():
        rows = circuits.of_side(connection, side)
        away, setup = circuits.open_of(rows, side)
        if away:
            yield Condition(rules.UPSTREAM_DOWN, side, f"{title}: {rows[side].last_error or 'no answer'}.")
        if setup:
            words = next(row.last_error for name, row in rows.items() if name != side and row.opened_at is not None)
            yield Condition(rules.SETUP_FAULT, side, f"{title}: {words}.")
    quota = installation.get(connection, totals.QUOTA)
    if quota is not None and quota["total"] - quota["used"] < QUOTA_LEFT * quota["total"]:
        yield Condition(
            rules.QUOTA, "", f"{max(0, quota['total'] - quota['used'])} of {quota['total']} are left today."
        )


def _messages(connection: Connection, *, now: float) -> Iterator[Condition]:
    refused = outbox.longest_refused(connection, "salesforce")
    if refused is not None:
        yield Condition(rules.WRITE_BACKS_REFUSED, "", f"The oldest has been refused for {_span(now - refused)}.")
    for kind, title in (("salesforce", "Write-backs to Salesforce"), ("mail", "Mails to customers")):
        due = outbox.longest_overdue(connection, kind)
        if due is not None and now - due > UNSENT_SECONDS:
            yield Condition(rules.MESSAGES_UNSENT, kind, f"{title}: the first has been due for {_span(now - due)}.")


def _expiring(connection: Connection, settings: Settings, *, now: float) -> Iterator[Condition]:
    for name, expires in sorted((installation.get(connection, certificates.KEY) or {}).items()):
        if expires - now < settings.alert_certificate_days * 86_400.0:
            words = "has expired" if expires <= now else "expires"
            yield Condition(rules.CERTIFICATE, name, f"The certificate of {name} {words} on {_moment(expires)[:10]}.")


def _span(seconds: float) -> str:
    for size, word in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(0.0, seconds):.0f} s"


def _moment(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
