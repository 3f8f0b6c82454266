"""OpenTelemetry traces, where OTEL_EXPORTER_OTLP_ENDPOINT is set: a delivery, its job and its upstream calls are one.

Where it isn't set nothing of OpenTelemetry is imported here. What others say of their traces isn't believed: a
traceparent header is unsigned. Spans hold an order's id, what was called and how it ended, and nobody's words.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from portal.settings import Settings

log = logging.getLogger("portal.clients.traces")

#: How a call's end is told where it was no good one.
_GOOD: Final = frozenset({"ok", "expired"})
#: Seconds between two batches of spans, and for the last one when a process ends.
_BATCH_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 3.0


class Traces:
    """Traces of one process; without an endpoint every method does nothing. Forked children each have their own."""

    def __init__(self, endpoint: str | None) -> None:
        """`endpoint`: the collector's address as OTEL_EXPORTER_OTLP_ENDPOINT has it, without /v1/traces."""
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._pid = 0
        self._made: Any = None  # OpenTelemetry's TracerProvider of this process

    @classmethod
    def from_settings(cls, settings: Settings) -> Traces:
        """Those of these settings."""
        return cls(settings.otel_exporter_otlp_endpoint)

    @property
    def on(self) -> bool:
        """Whether there is anybody to send traces to."""
        return self._endpoint is not None

    @contextmanager
    def delivery(self, sf_order_id: str) -> Iterator[str | None]:
        """The root of a trace: one signed delivery. Gives its traceparent, to be kept with the order."""
        if not self.on:
            yield None
            return
        from opentelemetry import trace

        tracer = self._tracer()
        with tracer.start_as_current_span(
            "delivery",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            kind=trace.SpanKind.SERVER,
            attributes={"portal.sf_order_id": sf_order_id},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield _traceparent(span.get_span_context())

    @contextmanager
    def run(self, sf_order_id: str, attempt: int, traceparent: str | None, *, first: bool) -> Iterator[None]:
        """One run of an order. The first one of a click is the delivery's child; a later one (a retry, one that was
        taken over) begins a trace of its own, with a link to that."""
        if not self.on:
            yield
            return
        from opentelemetry import trace

        origin = _context_of(traceparent)
        child = first and origin is not None
        parent = trace.NonRecordingSpan(origin) if child and origin is not None else trace.INVALID_SPAN
        links = [trace.Link(origin)] if origin is not None and not child else []
        with self._tracer().start_as_current_span(
            "fulfillment",
            context=trace.set_span_in_context(parent),
            kind=trace.SpanKind.CONSUMER,
            attributes={"portal.sf_order_id": sf_order_id, "portal.attempt": attempt},
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield

    def call(self, upstream: str, action: str, outcome: str, seconds: float, code: str | None) -> None:
        """One upstream call that has just ended after `seconds`, below what runs in this thread, if anything does."""
        if not self.on:
            return
        from opentelemetry import trace

        if not trace.get_current_span().get_span_context().is_valid:
            return  # of the sweep's chores and of the customers' pages there are no traces
        ended = time.time_ns()
        attributes: dict[str, str] = {"peer.service": upstream, "portal.action": action, "portal.outcome": outcome}
        if code:
            attributes["error.type"] = code
        span = self._tracer().start_span(
            f"{upstream} {action}",
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=ended - int(seconds * 1e9),
        )
        if outcome not in _GOOD:
            span.set_status(trace.StatusCode.ERROR)
        span.end(ended)

    def close(self) -> None:
        """Send what is left; this process is about to end. Never raises."""
        made, self._made = self._made, None
        if made is not None and self._pid == os.getpid():
            made.force_flush(int(_LAST_SECONDS * 1000))
            made.shutdown()

    def _tracer(self) -> Any:
        """This process's own: the thread that sends batches doesn't survive a fork."""
        with self._lock:
            if self._made is None or self._pid != os.getpid():
                self._made, self._pid = _provider(self._endpoint or ""), os.getpid()
            return self._made.get_tracer("order-portal")


def _provider(endpoint: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    import portal

    resource = Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME") or "order-portal",
            "service.version": portal.__version__,
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=int(_LAST_SECONDS))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=int(_BATCH_SECONDS * 1000)))
    return provider


def _traceparent(context: Any) -> str:
    """As W3C's Trace Context writes it."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _context_of(traceparent: str | None) -> Any:
    """The span context that a kept traceparent names; None where there is none."""
    from opentelemetry import trace

    parts = (traceparent or "").split("-")
    if len(parts) != 4:
        return None
    try:
        made = trace.SpanContext(int(parts[1], 16), int(parts[2], 16), True, trace.TraceFlags(int(parts[3], 16)))
    except ValueError:
        return None
    return made if made.is_valid else None
