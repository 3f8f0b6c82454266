"""WHMCS' door with the web server running, and the hook file that WHMCS' administrators install, under real PHP."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.webhooks.callout import WHMCS_SECRET, Call, Event
from tests.webhooks.running import ROOT, RunningPortal

HOOK_FILE = ROOT / "integrations/whmcs/includes/hooks/order_portal.php"
STUB = ROOT / "tests/webhooks/whmcs_stub.php"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    folder = tmp_path_factory.mktemp("portal")
    with RunningPortal(folder, SECURITY_ALERT_WEBHOOK="http://127.0.0.1:9/alerts") as running:
        yield running


def post(portal: RunningPortal, sent: Event | Call, **changed: str) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", portal.port, timeout=30)) as connection:
        headers = {**sent.headers(), "Prefer": "respond-async", **changed}
        connection.request("POST", sent.path, sent.body(), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def known_order(portal: RunningPortal, **columns: Any) -> str:
    """An order the portal was asked for, in a state a worker might have left it in."""
    call = Call()
    assert post(portal, call)[0] == 202
    for name, value in columns.items():
        portal.change(f"UPDATE fulfillments SET {name} = ? WHERE sf_order_id = ?", value, call.order_id)
    return call.order_id


def fulfillment(portal: RunningPortal, order_id: str) -> dict[str, Any]:
    with closing(sqlite3.connect(portal.folder / "ledger.sqlite3", timeout=30)) as database:
        database.row_factory = sqlite3.Row
        return dict(database.execute("SELECT * FROM fulfillments WHERE sf_order_id = ?", [order_id]).fetchone())


def remembered(portal: RunningPortal, order_id: str) -> list[str]:
    return [row[0] for row in portal.query("SELECT kind FROM events WHERE subject = ? ORDER BY id", order_id)]


@pytest.mark.parametrize(
    "event",
    [
        "order.accepted",
        "order.cancelled",
        "service.active",
        "service.failed",
        "service.suspended",
        "service.terminated",
    ],
)
@pytest.mark.parametrize("by", ["orderId", "serviceId"])
def test_an_event_has_the_order_looked_at_in_whmcs(portal: RunningPortal, event: str, by: str) -> None:
    number = str(time.time_ns())[-15:].lstrip("0")
    order_id = known_order(portal, state="provisioned", elected_whmcs_id=number, audit_due_at=None)
    portal.change("INSERT INTO services (service_id, sf_order_id) VALUES (?, ?)", number, order_id)
    before = time.time()
    assert post(portal, Event(event, {by: number, "status": "Whatever it says"})) == (202, {"status": "accepted"})
    row = fulfillment(portal, order_id)
    assert row["audit_due_at"] >= before - 1
    assert row["state"] == "provisioned"  # a hint, never a truth
    assert remembered(portal, order_id) == [f"whmcs:{event}"]


def test_a_waiting_order_goes_on_at_once(portal: RunningPortal) -> None:
    order_id = known_order(portal, state="waiting", elected_whmcs_id="7001", due_at=time.time() + 3600)
    assert post(portal, Event("order.accepted", {"orderId": "7001"}))[0] == 202
    assert fulfillment(portal, order_id)["due_at"] <= time.time()


def test_events_are_taken_once_whatever_their_nonce(portal: RunningPortal) -> None:
    order_id = known_order(portal, state="provisioned", elected_whmcs_id="7002")
    first, again = (Event("service.suspended", {"orderId": "7002"}, id="evt_once", dated=True) for _ in range(2))
    assert post(portal, first) == (202, {"status": "accepted"})
    assert post(portal, again) == (202, {"status": "duplicate"})
    assert post(portal, again)[1]["code"] == "nonce_already_used"
    assert remembered(portal, order_id) == ["whmcs:service.suspended"]


def test_a_payment_method_resumes_what_failed_for_the_lack_of_one(portal: RunningPortal) -> None:
    unpaid = known_order(portal, state="failed", error_code="PAYMENT_METHOD_MISSING", client_id="42")
    other_client = known_order(portal, state="failed", error_code="PAYMENT_METHOD_MISSING", client_id="43")
    other_cause = known_order(portal, state="failed", error_code="PRODUCT_MAPPING_MISSING", client_id="42")
    event = Event("paymethod.added", {"clientId": "42", "payMethodId": "1"})
    before = time.time()
    assert post(portal, event) == (202, {"status": "accepted"})
    # A hint, never a truth: an audit asks WHMCS, and lets the order go on.
    row = fulfillment(portal, unpaid)
    assert (row["state"], row["attempt"]) == ("failed", 1)
    assert before - 1 <= row["audit_due_at"] <= time.time()
    assert fulfillment(portal, other_client)["audit_due_at"] is fulfillment(portal, other_cause)["audit_due_at"] is None
    assert post(portal, event) == (202, {"status": "duplicate"})
    assert remembered(portal, unpaid) == ["whmcs:paymethod.added"]


def test_a_payment_method_of_a_client_without_a_waiting_order_costs_nothing(portal: RunningPortal) -> None:
    done = known_order(portal, state="provisioned", client_id="45", elected_whmcs_id="45045", audit_due_at=None)
    for number in range(3):
        assert post(portal, Event("paymethod.added", {"clientId": "45", "payMethodId": str(number + 1)}))[0] == 202
        assert post(portal, Event("paymethod.added", {"clientId": "4646", "payMethodId": str(number + 1)}))[0] == 202
    assert fulfillment(portal, done)["audit_due_at"] is None  # and nobody else's, who might be asked about
    assert portal.query("SELECT count(*) FROM fulfillments WHERE client_id = '4646'") == [(0,)]


def test_a_payment_method_that_was_just_asked_for_is_asked_for_again_later(portal: RunningPortal) -> None:
    unpaid = known_order(portal, state="failed", error_code="PAYMENT_METHOD_MISSING", client_id="47")
    assert post(portal, Event("paymethod.added", {"clientId": "47", "payMethodId": "1"}))[0] == 202
    asked = time.time()  # by the worker, whose audit is over
    portal.change("UPDATE payment_hints SET asked_at = ? WHERE client_id = '47'", asked)
    portal.change("UPDATE fulfillments SET audit_due_at = NULL WHERE sf_order_id = ?", unpaid)
    for number in range(20):
        assert post(portal, Event("paymethod.added", {"clientId": "47", "payMethodId": str(number + 2)}))[0] == 202
    assert fulfillment(portal, unpaid)["audit_due_at"] == pytest.approx(asked + 60, abs=1)


@pytest.mark.parametrize("data", [{"userid": "52"}, {"clientid": 52}, {"ClientId": "52", "userid": ""}])
def test_whmcs_own_spellings_are_understood(portal: RunningPortal, data: dict[str, object]) -> None:
    unpaid = known_order(portal, state="failed", error_code="PAYMENT_METHOD_MISSING", client_id="52")
    assert post(portal, Event("paymethod.added", data)) == (202, {"status": "accepted"})
    assert remembered(portal, unpaid) == ["whmcs:paymethod.added"]
    portal.change("DELETE FROM fulfillments WHERE sf_order_id = ?", unpaid)


def test_unknown_events_and_orders_are_taken_and_change_nothing(portal: RunningPortal) -> None:
    assert post(portal, Event("invoice.paid", {"invoiceId": "1"})) == (202, {"status": "ignored"})
    assert post(portal, Event("order.accepted", {"orderId": "999999"})) == (202, {"status": "accepted"})
    assert post(portal, Event("order.accepted", {"orderId": "1' OR '1'='1"})) == (202, {"status": "accepted"})


def test_without_a_secret_the_door_does_not_exist(tmp_path: Path) -> None:
    with RunningPortal(tmp_path / "p", WHMCS_WEBHOOK_SECRET="", WEB_CONCURRENCY="1") as running:
        status, told = post(running, Event())
        assert (status, told["code"]) == (404, "not_found")


def test_refusals_are_counted_and_told_as_one_digest(portal: RunningPortal) -> None:
    for _ in range(30):
        assert post(portal, Event(secret="not-the-secret"))[0] == 401
    digests = portal.wait_for(
        lambda: portal.query("SELECT payload FROM outbox WHERE kind = 'alert' AND subject = 'security'"),
        "the security digest",
    )
    told = json.loads(digests[0][0])
    assert told["url_setting"] == "security_alert_webhook"
    assert "invalid_signature" in told["body"]["text"]
    assert told["body"]["events"]["invalid_signature"] >= 20
    assert told["body"]["addresses"] == {"127.0.0.1": sum(told["body"]["events"].values())}
    for _ in range(30):  # within the cooldown: no second one
        post(portal, Event(secret="not-the-secret"))
    portal.wait_for(
        lambda: portal.query(
            "SELECT label FROM counters WHERE name = 'webhook_security_events_total' AND label = 'invalid_signature'"
            " GROUP BY label HAVING sum(value) >= 60"
        ),
        "the counter",
    )
    assert len(portal.query("SELECT 1 FROM outbox WHERE kind = 'alert'")) == 1


# --- the hook file, under PHP ------------------------------------------------------------------------------------


Act = tuple[str, dict[str, Any]]  # a hook and its variables, or what is to be done to a table ("insert:tblorders")


class Whmcs:
    """A WHMCS of one hook file: a database, and hooks that fire."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.options = options
        self.database = folder / "whmcs.json"
        self.run(
            ("insert:tblhosting", {"id": 1, "orderid": 1, "password": "x"}),
            ("insert:tblorders", {"id": 1, "userid": 2, "notes": "sfOrderId=801000000000001AAA"}),
            ("insert:tblcustomfieldsvalues", {"fieldid": 1, "relid": 1, "value": "blue"}),
            ("insert:tblpaymethods", {"id": 1, "userid": 5, "description": "old card 4242"}),
        )

    def run(self, *acts: Act, **environ: str) -> str:
        """Change the database, fire hooks; returns the activity log."""
        told = []
        for name, values in acts:
            what, colon, table = name.partition(":")
            if what == "fill":
                told.append({what: table, "rows": values["rows"]})
            else:
                told.append({what: table, "row": values} if colon else {"hook": name, "vars": values})
        done = subprocess.run(
            ["php", "-d", "display_errors=stderr", *self.options, str(STUB), str(self.database), str(HOOK_FILE)],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"PATH": os.environ["PATH"], **environ},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def outbox(self) -> list[tuple[str, dict[str, Any], int]]:
        rows = json.loads(self.database.read_text())["mod_order_portal_outbox"]["rows"]
        return [(row["event"], json.loads(row["data"]), row["attempts"]) for row in rows]


@pytest.fixture(params=["as installed", "without cURL"])
def whmcs(tmp_path: Path, request: pytest.FixtureRequest) -> Whmcs:
    if shutil.which("php") is None:
        pytest.skip("php isn't installed: the WHMCS hook file isn't run")
    without = ("-d", "disable_functions=curl_init") if request.param == "without cURL" else ()
    return Whmcs(tmp_path, *without)


MODULE = {
    "serviceid": 31,
    "userid": 42,
    "pid": 5,
    "password": "hunter2-never-sent",
    "username": "u",
    "domain": "x.example",
    "clientsdetails": {"email": "person@example.com"},
}
CRON = ("AfterCronJob", {})


@pytest.mark.example
def test_the_hook_file_tells_of_everything_and_of_nothing_secret(portal: RunningPortal, whmcs: Whmcs) -> None:
    number = int(str(time.time_ns())[5:14])
    order_id = known_order(portal, state="provisioned", elected_whmcs_id=str(number))
    unpaid = known_order(portal, state="failed", error_code="PAYMENT_METHOD_MISSING", client_id=str(number))
    settings = {"ORDER_PORTAL_URL": f"http://127.0.0.1:{portal.port}/", "ORDER_PORTAL_SECRET": WHMCS_SECRET}
    assert whmcs.run(CRON, **settings) == ""
    assert whmcs.outbox() == []
    log = whmcs.run(
        ("insert:tblhosting", {"id": 31, "orderid": number, "password": "hunter2-never-sent"}),
        ("insert:tblorders", {"id": number, "userid": 42, "notes": f"by phone sfOrderId={order_id}"}),
        ("insert:tblpaymethods", {"id": 2, "userid": number, "description": "new card 4242"}),
        ("AcceptOrder", {"orderid": number}),
        ("AfterModuleCreate", {"params": MODULE}),
        ("AfterModuleCreateFailed", {"params": MODULE, "failureResponseMessage": "hunter2-never-sent"}),
        ("AfterModuleSuspend", {"params": MODULE}),
        ("AfterModuleUnsuspend", {"params": MODULE}),
        ("AfterModuleTerminate", {"params": MODULE}),
        ("CancelOrder", {"orderid": number}),
        ("FraudOrder", {"orderid": number}),
        ("CancelAndRefundOrder", {"orderid": number}),
    )
    assert log == ""
    kept = whmcs.outbox()
    assert [event for event, _, _ in kept] == [
        "order.accepted",
        "service.active",
        "service.failed",
        "service.suspended",
        "service.active",
        "service.terminated",
        "order.cancelled",
        "order.cancelled",
        "order.cancelled",
    ]
    assert kept[0][1] == {"orderId": str(number), "clientId": "42", "status": "Active"}
    assert kept[2][1] == {
        "serviceId": "31",
        "orderId": str(number),
        "clientId": "42",
        "productId": "5",
        "status": "Pending",
    }
    assert all(secret not in json.dumps(kept) for secret in ("hunter2", "person@example.com", "4242"))

    assert whmcs.run(CRON, **settings) == ""  # the real receiver took all of them, the new payment method, too
    assert whmcs.outbox() == []
    assert len(remembered(portal, order_id)) == 9
    assert remembered(portal, unpaid) == ["whmcs:paymethod.added"]


DUE = ("change:mod_order_portal_outbox", {"next_try": 0})


@pytest.mark.example
def test_what_is_not_taken_is_tried_again_later_and_nobody_waits(portal: RunningPortal, whmcs: Whmcs) -> None:
    wrong = {"ORDER_PORTAL_URL": f"http://127.0.0.1:{portal.port}", "ORDER_PORTAL_SECRET": "wrong-secret"}
    assert whmcs.run(("AcceptOrder", {"orderid": 1})) == ""
    told = whmcs.run(CRON, **wrong)
    assert "HTTP 401" in told
    assert "wrong-secret" not in told
    assert [attempts for _, _, attempts in whmcs.outbox()] == [1]
    assert whmcs.run(CRON, **wrong) == ""  # not due yet
    nobody = {**wrong, "ORDER_PORTAL_URL": "http://127.0.0.1:9"}
    assert "no answer, attempt 2" in whmcs.run(DUE, CRON, **nobody)
    right = {**wrong, "ORDER_PORTAL_SECRET": WHMCS_SECRET}
    assert whmcs.run(DUE, CRON, **right) == ""
    assert whmcs.outbox() == []
    # too old to be of use
    whmcs.run(("AcceptOrder", {"orderid": 1}))
    old = ("change:mod_order_portal_outbox", {"created": int(time.time()) - 700_000})
    assert "gave up 1 events" in whmcs.run(old, CRON, **nobody)
    assert whmcs.outbox() == []


@pytest.mark.example
def test_only_the_portals_own_orders_are_told(whmcs: Whmcs) -> None:
    foreign = MODULE | {"serviceid": 41}
    by_field = MODULE | {"serviceid": 42}
    acts: list[Act] = [
        ("insert:tblorders", {"id": 40, "userid": 7, "notes": "by phone"}),
        ("insert:tblhosting", {"id": 41, "orderid": 40, "password": "x"}),
        ("insert:tblorders", {"id": 50, "userid": 7, "notes": ""}),
        ("insert:tblhosting", {"id": 42, "orderid": 50, "password": "x"}),
        ("insert:tblcustomfieldsvalues", {"fieldid": 9, "relid": 42, "value": "sfOrderId=801000000000002AAA"}),
    ]
    assert whmcs.run(*acts, ("AfterModuleSuspend", {"params": foreign}), ("CancelOrder", {"orderid": 40})) == ""
    assert len(whmcs.outbox()) == 2  # no mark was ever seen: this WHMCS may not keep any
    whmcs.run(("AcceptOrder", {"orderid": 1}))  # it does
    whmcs.run(
        ("AfterModuleSuspend", {"params": foreign}),
        ("CancelOrder", {"orderid": 40}),
        ("AfterModuleSuspend", {"params": by_field}),
        ("CancelOrder", {"orderid": 50}),
    )
    told = [(event, data["orderId"]) for event, data, _ in whmcs.outbox()[2:]]
    assert told == [("order.accepted", "1"), ("service.suspended", "50"), ("order.cancelled", "50")]


@pytest.mark.example
def test_a_full_outbox_is_emptied_by_one_cron_run_and_new_payment_methods_come_first(
    portal: RunningPortal, whmcs: Whmcs
) -> None:
    settings = {"ORDER_PORTAL_URL": f"http://127.0.0.1:{portal.port}", "ORDER_PORTAL_SECRET": WHMCS_SECRET}
    whmcs.run(CRON, *[("AcceptOrder", {"orderid": 1}) for _ in range(120)])
    cards = [{"id": 100 + n, "userid": 60_000 + n // 2, "description": "card"} for n in range(80)]
    first = portal.query("SELECT coalesce(max(id), 0) FROM events")[0][0]
    assert whmcs.run(("fill:tblpaymethods", {"rows": cards}), CRON, **settings) == ""
    assert whmcs.outbox() == []
    taken = portal.query("SELECT kind, detail FROM events WHERE id > ? AND actor = 'whmcs' ORDER BY id", first)
    clients = [json.loads(detail)["clientId"] for kind, detail in taken if kind == "whmcs:paymethod.added"]
    assert clients == [str(60_039 - n) for n in range(40)]  # once a client, the newest first
    assert [kind for kind, _ in taken[:25]] == ["whmcs:paymethod.added"] * 25
    assert len([kind for kind, _ in taken if kind == "whmcs:order.accepted"]) == 120


@pytest.mark.example
def test_an_event_that_cant_be_kept_is_in_the_activity_log_and_a_payment_method_is_found_again(whmcs: Whmcs) -> None:
    whmcs.run(CRON)
    whmcs.run(("insert:tblpaymethods", {"id": 9, "userid": 99, "description": "card"}))
    table = json.loads(whmcs.database.read_text())
    whole = json.dumps(table)
    table["mod_order_portal_outbox"]["columns"]["new_column"] = "text"  # an insert fails: it has no default
    whmcs.database.write_text(json.dumps(table))
    log = whmcs.run(("AcceptOrder", {"orderid": 1}), CRON)
    assert 'could not keep the event order.accepted {"orderId":"1"' in log
    assert 'could not keep the event paymethod.added {"clientId":"99","payMethodId":"9"}' in log
    whmcs.database.write_text(whole)
    whmcs.run(CRON)
    assert [event for event, _, _ in whmcs.outbox()] == ["paymethod.added"]


@pytest.mark.example
def test_a_broken_database_never_disturbs_whmcs(whmcs: Whmcs) -> None:
    log = whmcs.run(
        ("drop:tblhosting", {}),
        ("drop:tblpaymethods", {}),
        ("AfterModuleCreate", {"params": MODULE}),
        ("AfterModuleCreate", {}),
        CRON,
    )
    assert "could not look up the order of service 31" in log
    assert "hunter2" not in log
    assert whmcs.outbox()[0][1]["serviceId"] == "31"
