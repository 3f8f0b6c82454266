"""The logs of a whole portal: one format for every line, an order's lines found by what it is about, nothing told that
another side or a customer said."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from tests.fulfilling import STEPS, check_nothing_told, customer, log_lines, logged, queue_of
from tests.stack import Stack


def every_line(stack: Stack) -> list[dict[str, Any]]:
    """Every line of the portal's processes; each is one JSON object."""
    lines = []
    for path in sorted(stack.logs.glob("*.log")):
        if path.stem.startswith(("web", "worker", "sweep")):
            for text in path.read_text(encoding="utf-8").splitlines()[:-1]:  # the last one may be half written
                try:
                    line = json.loads(text)
                except ValueError:
                    pytest.fail(f"{path.name}: {text}")
                assert {"time", "level", "logger", "message"} <= set(line)
                lines.append(line)
    return lines


def test_an_order_is_found_by_what_it_is_about_in_every_process(own_stack: Stack) -> None:
    own_stack.settings |= {"WEB_ACCESS_LOG": "-"}
    own_stack.start()
    order, key = own_stack.order("starter"), f"click-{secrets.token_hex(4)}"
    answer = own_stack.fulfill(order, headers={"Idempotency-Key": key})
    assert answer.status == 200
    number = answer.headers["x-request-id"]
    [received] = logged(own_stack, "Salesforce order fulfillment request received", "web", sfOrderId=order)
    [started] = logged(own_stack, "Starting fulfillment orchestration", "worker", sfOrderId=order)
    [ended] = logged(own_stack, "Order provisioned", "worker", sfOrderId=order)
    for line in (received, started, ended):
        assert line["requestId"] == number
        assert line["idempotencyKey"] == key
        assert line["attempt"] == 1
    told = logged(own_stack, "Order status updated in Salesforce", "worker", sfOrderId=order)
    assert {line.get("step") for line in told} >= {"sf_status_update", "sf_success_update"}
    assert all(line["requestId"] == number for line in told if "step" in line)
    steps = [line["step"] for line in log_lines(own_stack, "worker") if line.get("step") == line["message"]]
    assert tuple(steps) == STEPS
    # gunicorn's lines are like all others, and a thread that goes on to another request keeps nothing.
    own_stack.get("/health/live")
    own_stack.wait_for(lambda: [x for x in log_lines(own_stack, "web") if "GET /health/live 200" in x["message"]])
    [other] = [line for line in log_lines(own_stack, "web") if "GET /health/live 200" in line["message"]][-1:]
    assert other["logger"] == "gunicorn.access"
    assert not {"sfOrderId", "idempotencyKey"} & set(other)
    loggers = {line["logger"] for line in every_line(own_stack)}
    assert {"gunicorn.error", "gunicorn.access", "portal.webhooks", "portal.fulfillment"} <= loggers


def test_what_the_other_sides_and_customers_say_is_told_nowhere(own_stack: Stack) -> None:
    """A canary in each foreign answer: bodies of every shape, headers, and what a customer has entered."""
    own_stack.settings |= {"WEB_ACCESS_LOG": "-", "WEB_LOG_LEVEL": "debug", "ALERT_AFTER_SECONDS": "0"}
    own_stack.start()
    canary = f"canary{secrets.token_hex(6)}"
    headers = {"X-Canary": canary, "Set-Cookie": f"session={canary}", "Content-Type": "application/json"}
    json_error = {"result": "error", "message": f"Hosting account of {canary} has password {canary}"}
    bodies: list[Any] = [json_error, f"<html><title>{canary}</title>", [{"errorCode": "X", "message": canary}]]
    faults = [
        (own_stack.whmcs, action, body, status)
        for action in ("AddOrder", "AcceptOrder", "GetOrders", "GetClientsProducts", "GetPayMethods")
        for body, status in ((bodies[0], 200), (bodies[1], 500))
    ]
    faults += [
        (own_stack.salesforce, action, body, status)
        for action in ("token", "fetch_order", "query*", "update*", "PATCH*")
        for body, status in ((bodies[2], 400), (bodies[1], 503))
    ]
    for control, action, body, status in faults:
        control.fault("error", action=action, status=status, body=body, headers=headers, count=1)
    own_stack.mailbox.post("smtp-faults", {"kind": "reject", "code": 550, "message": f"{canary} is unknown"})
    for number in range(6):
        who, _ = customer(own_stack, email=f"{canary}{number}@customers.example", lastname=canary, address1=canary)
        own_stack.fulfill(own_stack.order("starter", customer=who), prefer="respond-async")
    own_stack.fulfill(own_stack.order("starter"), secret=canary)

    def ended() -> bool:
        states = own_stack.ledger("SELECT state FROM fulfillments")
        return len(states) == 6 and all(row["state"] in ("provisioned", "failed", "needs_decision") for row in states)

    own_stack.wait_for(ended, "all orders to end", 90)
    check_nothing_told(own_stack, [canary])
    every_line(own_stack)
    with queue_of(own_stack) as store:
        for key in store.scan_iter("*", count=1000):
            kept = {b"string": store.get, b"hash": store.hgetall, b"list": lambda k: store.lrange(k, 0, -1)}
            value = kept.get(store.type(key), lambda _key: b"")(key)
            assert canary not in repr((key, value))
    for table in ("workers", "counters", "installation", "idempotency_keys", "deliveries", "services"):
        assert canary not in json.dumps(own_stack.ledger(f"SELECT * FROM {table}")), table
