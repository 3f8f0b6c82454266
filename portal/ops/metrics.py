"""GET /metrics for Prometheus, out of the ledger: by METRICS_TOKEN or from METRICS_ALLOWLIST only.

The figures are the ledger's, so they are right whichever process is asked, after restarts and over all hosts.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Final

from flask import Blueprint, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from portal.ledger import counters, statistics
from portal.ledger.engine import Ledger
from portal.web.client_address import inside
from portal.web.context import client_address, services
from portal.web.problems import Problem

blueprint = Blueprint("metrics", __name__)

#: The ledger's counters that are shown: name, label's name, what it counts.
COUNTERS: Final = (
    ("order_provisioning_attempts_total", "success", "Fulfillment attempts that ended"),
    ("webhook_security_events_total", "event", "Webhook requests refused"),
    ("webhook_secret_matched_total", "secret", "Right webhook signatures, by receiver and secret (current, previous)"),
)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus' text format. Raises Problem 403."""
    if not _may_read():
        raise Problem(403, "forbidden", "Forbidden", "For METRICS_TOKEN's bearer and METRICS_ALLOWLIST's addresses.")
    registry = CollectorRegistry()
    registry.register(_FromLedger(services().ledger))
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


class _FromLedger(Collector):
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        """All figures, of one moment. Raises LedgerUnavailable."""
        with self._ledger.read() as connection:
            for name, label, text in COUNTERS:
                family = CounterMetricFamily(name.removesuffix("_total"), text, labels=[label])
                for value, count in sorted(counters.of(connection, name).items()):
                    family.add_metric([value], count)
                yield family
            gauge = GaugeMetricFamily("order_fulfillments_unsettled", "Fulfillments not ended yet", labels=["state"])
            for state, number in statistics.unsettled(connection).items():
                gauge.add_metric([state.value], number)
            yield gauge
