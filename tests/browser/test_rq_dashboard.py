"""The RQ dashboard in a real browser: it works over the portal's JSON jobs, and its known holes stay closed.

Whatever an operator presses on it while an order is under way, the order becomes one active WHMCS order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from rq import Queue
from rq.serializers import JSONSerializer

from tests.browser.conftest import Tab, Visit
from tests.browser.served import served
from tests.customer_routes import rules_of
from tests.customers_in_process import browser, call
from tests.fulfilling import provisioned, sends, statuses
from tests.operators import ACTS, LOOKS, get, operator_browser, post, services_of, session_of
from tests.stack import Stack

pytestmark = pytest.mark.browser

RQ = "/ops/rq"
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture
def queue(ops: Flask) -> Iterator[Queue]:
    """A queue beside the portal's own, which no worker listens to."""
    made = Queue("beside", connection=services_of(ops).redis, serializer=JSONSerializer)
    yield made
    made.delete(delete_jobs=True)


@contextmanager
def signed_in(ops: Flask, visit: Visit, portal: str, email: str = ACTS) -> Iterator[Tab]:
    with visit(portal=portal) as tab:
        tab.context.add_cookies([{"name": "portal_operator", "value": session_of(ops, email), "url": f"{portal}/ops"}])
        yield tab


def open_running_job(tab: Tab) -> None:
    """From the list of workers to the job that one of them runs. The list is drawn anew again and again: no clicks."""
    link = tab.page.get_by_role("link", name=re.compile("fulfill_order")).first
    address = link.get_attribute("href")
    assert address
    tab.go(address)
    tab.waits_for("fulfill an order")


def rq_rules(app: Flask) -> list[tuple[str, str]]:
    """Path and method of every route of the dashboard, for a queue, job and registry that could be."""
    names = {"instance_number": "0", "registry_name": "queued", "per_page": "8", "page": "1", "order": "asc"}
    found = []
    for rule, method in rules_of(app):
        if rule.endpoint.startswith("rq_dashboard."):
            path = rule.rule
            for argument in rule.arguments:
                path = re.sub(rf"<(?:[^<>:]+:)?{argument}>", names.get(argument, "beside"), path)
            found.append((path, method))
    return found


def test_every_route_asks_for_a_sign_in(ops: Flask) -> None:
    rules = rq_rules(ops)
    assert len(rules) > 15
    for path, method in rules:
        answer = call(browser(ops), method, path)
        if answer.status_code == 308 and answer.headers["Location"].endswith("/ops/rq/"):
            continue  # another address of a page whose first one is asked for here, too
        assert answer.status_code == 303, f"{method} {path}"
        assert answer.headers["Location"].endswith("/ops/sign-in"), f"{method} {path}"


def test_get_changes_nothing_and_who_only_looks_presses_nothing(ops: Flask, queue: Queue) -> None:
    job = queue.enqueue_call("nowhere.at_all", args=("x",), description="a job")
    failed = queue.enqueue_call("nowhere.at_all", args=("x",))
    failed_registry = queue.failed_job_registry
    queue.remove(failed)
    failed_registry.add(failed, ttl=100)
    client, looker = operator_browser(ops), operator_browser(ops, LOOKS)
    for path, method in rq_rules(ops):
        if method == "GET":
            get(client, path).close()
            continue
        assert post(looker, path, "/ops").status_code == 403, path
        assert call(client, "POST", path, token=False).status_code == 400, path
        foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert call(client, "POST", path, token=False, **foreign).status_code == 400, path
    assert get(client, f"{RQ}/requeue/beside").status_code == 405
    assert queue.get_job_ids() == [job.id]
    assert failed_registry.get_job_ids(cleanup=False) == [failed.id]
    assert get(client, f"{RQ}/1/view/queues").status_code == 404
    assert get(client, f"{RQ}/0/view/job/none").status_code == 404


def test_a_jobs_texts_dont_run_in_the_operators_browser(ops: Flask, queue: Queue, visit: Visit) -> None:
    job = queue.enqueue_call("nowhere.at_all", args=(EVIL,), description=EVIL, meta={"note": EVIL})
    with served(ops) as portal, signed_in(ops, visit, portal) as tab:
        for path in (f"{RQ}/0/view/job/{job.id}", f"{RQ}/0/view/jobs/beside/queued/8/asc/1"):
            tab.go(path)
            tab.waits_for("onerror=")  # shown as text
            assert tab.page.title() == "RQ dashboard"
            assert tab.page.locator("img[src='x']").count() == 0


def test_it_shows_queues_jobs_and_a_running_job(ops: Flask, stack: Stack, visit: Visit, silent: None) -> None:
    order = stack.order("starter")
    stack.whmcs.fault("pause_point", action="AddOrder", order=order)
    assert stack.fulfill(order, prefer="respond-async").status == 202
    held = stack.whmcs.wait_for_call(action="AddOrder", state="held", order=order)
    try:
        with served(ops) as portal, signed_in(ops, visit, portal) as tab:
            tab.go(f"{RQ}/")
            tab.waits_for("fulfillments")
            tab.go(f"{RQ}/0/view/workers")
            tab.waits_for("fulfill_order")  # the running job, though it is JSON
            open_running_job(tab)
            tab.waits_for("started")
    finally:
        stack.whmcs.post("release", {"call": held["id"]})
    provisioned(stack, order)


def test_empty_delete_and_requeue_in_the_middle_leave_one_active_order(
    ops: Flask, stack: Stack, visit: Visit, silent: None
) -> None:
    order = stack.order("starter")
    waiting = [stack.order("starter") for _ in range(3)]
    stack.whmcs.fault("pause_point", action="AddOrder", order=order)
    assert stack.fulfill(order, prefer="respond-async").status == 202
    held = stack.whmcs.wait_for_call(action="AddOrder", state="held", order=order)
    with served(ops) as portal, signed_in(ops, visit, portal) as tab:
        tab.go(f"{RQ}/0/view/workers")
        open_running_job(tab)
        tab.page.locator("#delete-job-btn").click()
        with tab.page.expect_response("**/delete", timeout=90_000) as deleted:
            tab.page.locator("#confirmation-modal-yes").click()
        assert deleted.value.status == 200
        tab.page.wait_for_url("**/ops/rq/")
        for each in waiting:
            assert stack.fulfill(each, prefer="respond-async").status == 202
        tab.go(f"{RQ}/0/view/jobs/fulfillments/queued/8/asc/1")
        tab.page.locator("#empty-btn").click()
        with tab.page.expect_response("**/empty", timeout=90_000) as emptied:
            tab.page.locator("#confirmation-modal-yes").click()
        assert emptied.value.status == 200
        tab.go(f"{RQ}/0/view/jobs/fulfillments/failed/8/asc/1")
        tab.page.locator("#requeue-all-btn").click()
        with tab.page.expect_response("**/requeue/fulfillments", timeout=90_000) as requeued:
            tab.page.locator("#confirmation-modal-yes").click()
        assert requeued.value.status == 200
    stack.whmcs.post("release", {"call": held["id"]})
    for each in (order, *waiting):
        provisioned(stack, each, 90)
        assert statuses(stack, each) == ["Active"]
        assert sends(stack, each, "AddOrder") == 1
    kinds = {row["kind"] for row in stack.ledger("SELECT kind FROM events WHERE actor = ?", ACTS)}
    assert {"rq_delete_job_view", "rq_empty_queue", "rq_requeue_all"} <= kinds
