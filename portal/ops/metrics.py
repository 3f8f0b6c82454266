"""GET /metrics for Prometheus, out of the ledger: by METRICS_TOKEN or from METRICS_ALLOWLIST only.

The figures are the ledger's, so they are right whichever process is asked, after restarts and over all hosts. Each is
a row of its own or found by an index: a scrape costs the same however many orders there are.
"""

from __future__ import annotations

import hmac
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from flask import Blueprint, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.engine import Connection

import portal
from portal.clients.http import EXPIRED, OK
from portal.domain.model import Step
from portal.ledger import (
    circuits,
    counters,
    installation,
    migrate,
    outbox,
    placements,
    queueing,
    statistics,
    totals,
    workers,
)
from portal.ledger.engine import Ledger
from portal.ops.alerts import certificates
from portal.web.client_address import inside
from portal.web.context import client_address, services
from portal.web.problems import Problem

blueprint = Blueprint("metrics", __name__)

#: The ledger's counters that are shown as they are: name, labels' names, what it counts.
COUNTERS: Final = (
    (totals.ATTEMPTS, ("success",), "Fulfillment attempts that ended"),
    ("webhook_security_events_total", ("event",), "Webhook requests refused"),
    ("webhook_secret_matched_total", ("secret",), "Right webhook signatures, by receiver and secret"),
    (totals.CALLS, ("upstream", "action", "outcome"), "Calls to Salesforce and WHMCS"),
    (totals.CALL_SECONDS, ("upstream", "action"), "Seconds that calls to Salesforce and WHMCS took"),
    (totals.SENT, ("kind",), "Write-backs, mails and alerts that were taken"),
    (totals.REFUSED, ("kind",), "Times a write-back, mail or alert was refused"),
    (totals.GIVEN_UP, ("kind",), "Write-backs, mails and alerts that nobody will ever take"),
)
#: What is there from the start, so that a rate over it knows its beginning.
FROM_THE_START: Final = {totals.ATTEMPTS: ("true", "false")}

KINDS_OF_MESSAGES: Final = ("salesforce", "mail", "sign_in", "alert")
KINDS_OF_PROCESSES: Final = ("fulfill", "relay", "sweep")
SIDES: Final = ("salesforce", "whmcs")


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus' text format. Raises Problem 403."""
    if not _may_read():
        raise Problem(403, "forbidden", "Forbidden", "For METRICS_TOKEN's bearer and METRICS_ALLOWLIST's addresses.")
    portal_ = services()
    registry = CollectorRegistry()
    registry.register(FromLedger(portal_.ledger, now=portal_.now))
    answer = Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _may_read() -> bool:
    settings = services().settings
    if settings.metrics_token:
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if hmac.compare_digest(given, f"Bearer {settings.metrics_token}".encode()):
            return True
    return inside(client_address(), settings.metrics_allowlist)


class FromLedger(Collector):
    """Everything `/metrics` shows. `now`: the clock, in seconds since 1970."""

    def __init__(self, ledger: Ledger, *, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._now = now

    def describe(self) -> list[Metric]:
        """Nothing is asked of the ledger when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures. Raises LedgerUnavailable."""
        build = {"version": portal.__version__, "schema": migrate.head(), "python": platform.python_version()}
        yield InfoMetricFamily("portal_build", "The running version of the portal, its ledger's schema", value=build)
        with self._ledger.read() as connection:
            yield from _counters(connection)
            yield from _durations(connection)
            yield from _fulfillments(connection, now=self._now())
            yield from _messages(connection, now=self._now())
            yield from _sides(connection)
            yield from _processes(connection)


def _counters(connection: Connection) -> Iterator[Metric]:
    for name, labels, text in COUNTERS:
        counted = dict.fromkeys(FROM_THE_START.get(name, ()), 0.0) | counters.of(connection, name)
        family = CounterMetricFamily(name.removesuffix("_total"), text, labels=labels)
        for value, count in sorted(counted.items()):
            family.add_metric(value.split("|"), count)
        yield family
        if name == totals.CALLS:
            yield _whmcs_errors(counted)


def _whmcs_errors(calls: dict[str, float]) -> Metric:
    family = CounterMetricFamily(
        "whmcs_api_errors", "WHMCS API calls that failed: refused, unavailable or unknown", labels=("action", "outcome")
    )
    for value, count in sorted(calls.items()):
        upstream, action, outcome = value.split("|")
        if upstream == "whmcs" and outcome not in (OK, EXPIRED):
            family.add_metric((action, outcome), count)
    return family


def _durations(connection: Connection) -> Iterator[Metric]:
    attempts = totals.histograms(connection, totals.ATTEMPT_SECONDS, totals.ATTEMPT_BOUNDS)[""]
    yield HistogramMetricFamily(
        totals.ATTEMPT_SECONDS,
        "Seconds from a click's signed timestamp to the end of its attempt",
        buckets=attempts.buckets,
        sum_value=attempts.sum,
    )
    family = HistogramMetricFamily(totals.STEP_SECONDS, "Seconds that a step of a fulfillment took", labels=("step",))
    names = [step.value for step in Step]
    for step, took in totals.histograms(connection, totals.STEP_SECONDS, totals.STEP_BOUNDS, names).items():
        family.add_metric((step,), took.buckets, took.sum)
    yield family


def _fulfillments(connection: Connection, *, now: float) -> Iterator[Metric]:
    """What orders do; `now` in seconds since 1970."""
    states = statistics.standings(connection)
    yield _gauge(totals.FULFILLMENTS, "Fulfillments in each state; those marked as handled apart", "state", states)
    unsettled = {state: states[state] for state in statistics.UNSETTLED}
    yield _gauge("order_fulfillments_unsettled", "Fulfillments that haven't ended for good", "state", unsettled)
    ages = dict.fromkeys(map(str, statistics.UNSETTLED), 0.0)
    ages |= {state: max(0.0, now - since) for state, (_id, since) in statistics.oldest(connection).items()}
    yield _gauge("portal_fulfillments_oldest_age_seconds", "Age of the oldest request in each state", "state", ages)
    unplaced = placements.waiting(connection, until=now, limit=1)
    age = now - unplaced[0].created_at if unplaced else 0.0
    yield _gauge(
        "portal_orders_unplaced_age_seconds", "How long the order placed first waits to be in Salesforce", "", {"": age}
    )
    paused = installation.paused(connection) is not None
    yield _gauge("portal_paused", "Whether an operator has paused fulfillments", "", {"": paused})
    since = None if paused else queueing.longest_overdue(connection)
    overdue = 0.0 if since is None else max(0.0, now - since)
    yield _gauge(
        "portal_queue_age_seconds", "How long the order that was due first waits for a worker", "", {"": overdue}
    )


def _messages(connection: Connection, *, now: float) -> Iterator[Metric]:
    """What is to be sent; `now` in seconds since 1970."""
    counted = dict.fromkeys(KINDS_OF_MESSAGES, 0) | outbox.unsent(connection)
    yield _gauge(
        totals.UNSENT, "Messages that wait to be sent: write-backs to Salesforce, mails, alerts", "kind", counted
    )
    moments = {kind: outbox.longest_overdue(connection, kind) for kind in KINDS_OF_MESSAGES}
    ages = {kind: 0.0 if moment is None else max(0.0, now - moment) for kind, moment in moments.items()}
    yield _gauge("portal_messages_overdue_seconds", "How long the message that was due first waits", "kind", ages)
    moments = {kind: outbox.longest_refused(connection, kind) for kind in KINDS_OF_MESSAGES}
    ages = {kind: 0.0 if moment is None else max(0.0, now - moment) for kind, moment in moments.items()}
    yield _gauge("portal_messages_refused_age_seconds", "Since when an unsent message has been refused", "kind", ages)


def _sides(connection: Connection) -> Iterator[Metric]:
    found = {side: circuits.of_side(connection, side) for side in SIDES}
    opened = {side: circuits.open_of(rows, side) for side, rows in found.items()}
    yield _gauge(
        "portal_upstream_circuit_open",
        "Whether a side doesn't answer, so that calls wait",
        "upstream",
        {side: is_open for side, (is_open, _setup) in opened.items()},
    )
    yield _gauge(
        "portal_upstream_setup_fault",
        "Whether a side refuses because of its set-up",
        "upstream",
        {side: setup for side, (_is_open, setup) in opened.items()},
    )
    answered = {side: rows[side].last_ok_at for side, rows in found.items() if side in rows}
    yield _gauge(
        "portal_upstream_last_answer_timestamp_seconds",
        "When a side last answered well, as far as it was noted",
        "upstream",
        {side: moment for side, moment in answered.items() if moment is not None},
    )
    quota = installation.get(connection, totals.QUOTA)
    if quota is not None:
        left = {"": max(0, quota["total"] - quota["used"])}
        yield _gauge("portal_salesforce_api_calls_left", "Salesforce API calls the org has left today", "", left)
        most = {"": quota["total"]}
        yield _gauge("portal_salesforce_api_calls_limit", "Salesforce API calls the org may make a day", "", most)


def _processes(connection: Connection) -> Iterator[Metric]:
    alive = dict.fromkeys(KINDS_OF_PROCESSES, 0) | workers.count_alive(connection)
    yield _gauge("portal_processes", "Worker processes that nobody has declared dead", "kind", alive)
    beats = workers.last_heartbeats(connection)
    yield _gauge("portal_last_heartbeat_timestamp_seconds", "The latest heartbeat of any process", "kind", beats)
    expiring = installation.get(connection, certificates.KEY) or {}
    yield _gauge("portal_certificate_expiry_timestamp_seconds", "When a certificate expires", "name", expiring)
    swept = installation.noted_at(connection, totals.SWEEP_ROUND)
    if swept is not None:
        yield _gauge("portal_sweep_last_round_timestamp_seconds", "The sweep's last whole round", "", {"": swept})


def _gauge(name: str, text: str, label: str, values: Mapping[Any, float]) -> Metric:
    """One gauge; without a label where that is empty."""
    family = GaugeMetricFamily(name, text, labels=(label,) if label else ())
    for value, number in values.items():
        family.add_metric((str(value),) if label else (), float(number))
    return family
