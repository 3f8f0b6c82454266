"""openapi.yaml against the running server: what it promises is answered, for anything that can be sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.webhooks.callout import SF_SECRET, WHMCS_SECRET, Call, signature
from tests.webhooks.running import ROOT, RunningPortal

DOCUMENT = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
OPERATIONS = [
    (method.upper(), path)
    for path, item in DOCUMENT["paths"].items()
    for method in item
    if method in ("get", "post", "put", "delete", "patch")
]
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    folder = tmp_path_factory.mktemp("portal")
    with RunningPortal(folder, WEB_CONCURRENCY="1", FULFILLMENT_WAIT_SECONDS="0") as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "signed"),
    [(*each, False) for each in OPERATIONS] + [(*each, True) for each in OPERATIONS if each[0] == "POST"],
)
def test_the_server_keeps_to_the_document(portal: RunningPortal, method: str, path: str, signed: bool) -> None:
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]
    seen: set[int] = set()

    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        if signed and isinstance(case.body, dict):
            sign(case, path)
        answer = case.call(base_url=f"http://127.0.0.1:{portal.port}", timeout=30)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    run()
    if signed and "provision" not in path:
        assert seen - {401, 404, 405}, "no request came past the signature"


def sign(case: Any, path: str) -> None:
    """Make a generated request authentic, so that what comes after the signature is met, too."""
    body = json.dumps(case.body).encode()
    secret, prefix = (WHMCS_SECRET, "X-WHMCS-") if "whmcs" in path else (SF_SECRET, "X-SF-")
    case.body = body
    case.headers = {**(case.headers or {}), f"{prefix}Signature": signature(body, secret)}


def test_every_route_for_machines_is_in_the_document(portal: RunningPortal) -> None:
    listed = portal.flask("routes").stdout
    routes = {
        (method, re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", "{}", rule))
        for _, methods, rule in re.findall(r"^(\S+)\s+([A-Z, ]+?)\s+(/\S*)\s*$", listed, re.MULTILINE)
        for method in re.split(r",\s*", methods)
        if method not in ("HEAD", "OPTIONS")
        and re.match(r"/(?:api|webhooks|health)(?:/|$)|/orders/[^/]+/(?:fulfill|provision)$", rule)
    }
    documented = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in OPERATIONS}
    assert routes == documented


def test_a_right_request_is_answered_as_documented(portal: RunningPortal) -> None:
    call = Call()
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    case = schema["/orders/{sfOrderId}/fulfill"]["POST"].Case(
        path_parameters={"sfOrderId": call.order_id}, headers=call.headers(), body=call.body()
    )
    answer = case.call(base_url=f"http://127.0.0.1:{portal.port}", timeout=30)
    assert answer.status_code == 202
    case.validate_response(answer, checks=CHECKS)


def test_the_examples_are_those_of_the_contract() -> None:
    text = Path(ROOT / "docs/webhooks.md").read_text(encoding="utf-8")
    events = DOCUMENT["components"]["schemas"]["WhmcsEvent"]["properties"]["event"]["examples"]
    assert events
    assert all(f"`{event}`" in text for event in events)
