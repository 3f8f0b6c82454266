"""Traces as a real OTLP collector gets them over HTTP: a delivery, its job and its upstream calls are one trace."""

from __future__ import annotations

import gzip
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from portal.clients.traces import Traces
from tests.listeners import serving
from tests.stack import Stack

OUTSIDE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def named(self, name: str) -> list[Any]:
        """The spans of this name, in the order they began."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_delivery_its_job_and_its_calls_are_one_trace_and_a_retry_is_linked(own_stack: Stack) -> None:
    with serving(Collector()) as collector:
        own_stack.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        own_stack.start()
        order = own_stack.order("starter")
        own_stack.whmcs.fault("error", action="GetPayMethods", status=500, body="broken", count=1)
        assert own_stack.fulfill(order, headers={"traceparent": OUTSIDE}).status == 200
        own_stack.wait_for(lambda: len(collector.named("fulfillment")) == 2, "both runs")
        own_stack.wait_for(lambda: collector.named("delivery"), "the delivery")
        own_stack.wait_for(lambda: collector.named("whmcs AcceptOrder"), "the calls")
        [delivery] = collector.named("delivery")
        first, retry = collector.named("fulfillment")
        [refused, *_] = collector.named("whmcs GetPayMethods")
        [added] = collector.named("whmcs AddOrder")
        row = own_stack.fulfillment(order)
        assert row is not None
        assert delivery.trace_id.hex() in row["origin"]
        assert delivery.trace_id.hex() != OUTSIDE.split("-")[1]  # unsigned: nobody's word for it
        assert delivery.parent_span_id == b""
        assert (first.trace_id, first.parent_span_id) == (delivery.trace_id, delivery.span_id)
        assert (refused.trace_id, refused.parent_span_id) == (first.trace_id, first.span_id)
        assert refused.status.code == 2
        assert retry.trace_id != first.trace_id
        assert retry.parent_span_id == b""
        assert [(link.trace_id, link.span_id) for link in retry.links] == [(delivery.trace_id, delivery.span_id)]
        assert (added.trace_id, added.parent_span_id) == (retry.trace_id, retry.span_id)
        assert added.start_time_unix_nano >= retry.start_time_unix_nano
        assert attributes(added) == {"peer.service": "whmcs", "portal.action": "AddOrder", "portal.outcome": "ok"}
        assert attributes(first) == {"portal.sf_order_id": order, "portal.attempt": 1}
        text = repr(collector.spans)
        for secret in ("northwind", "broken", "includes/api", own_stack.secret("whmcs_api_secret")):
            assert secret not in text


def test_a_collector_that_is_away_holds_nothing_back(own_stack: Stack) -> None:
    own_stack.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    own_stack.start()
    assert own_stack.fulfill(own_stack.order("starter")).status == 200


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, app, jobs.worker, jobs.sweep\n"
        "from portal.clients.traces import Traces\n"
        "with Traces(None).delivery('801') as given, Traces(None).run('801', 1, None, first=True):\n"
        "    Traces(None).call('whmcs', 'AddOrder', 'ok', 1.0, None)\n"
        "assert given is None\n"
        # redis-py imports its own part of it wherever it is installed: ours is what makes and sends spans
        "ours = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'google.protobuf')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize("kept", [None, "", "nonsense", "00-0-0-01", "00-zz-b7ad6b7169203331-01"])
def test_a_traceparent_that_cannot_be_read_begins_a_trace(kept: str | None) -> None:
    with serving(Collector()) as collector:
        traces = Traces(collector.url)
        with traces.run("801", 1, kept, first=True):
            traces.call("whmcs", "AddOrder", "unknown", 0.5, "timeout")
        traces.close()
        [run], [call] = collector.named("fulfillment"), collector.named("whmcs AddOrder")
        assert run.parent_span_id == b""
        assert not run.links
        assert call.parent_span_id == run.span_id
        assert attributes(call)["error.type"] == "timeout"
        assert 0.4e9 < call.end_time_unix_nano - call.start_time_unix_nano < 0.6e9


def test_a_call_outside_of_any_run_is_no_trace() -> None:
    with serving(Collector()) as collector:
        traces = Traces(collector.url)
        traces.call("whmcs", "AddOrder", "ok", 0.5, None)
        with traces.delivery("801"):
            pass
        traces.close()
        assert [span.name for span in collector.spans] == ["delivery"]


def test_a_failure_of_the_run_is_no_text_in_its_span() -> None:
    with serving(Collector()) as collector:
        traces = Traces(collector.url)
        with pytest.raises(ValueError, match="canary"), traces.run("801", 1, None, first=True):
            raise ValueError("canary")
        traces.close()
        assert "canary" not in repr(collector.spans)
