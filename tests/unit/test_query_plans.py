"""No statement of the portal reads a whole table: what a request or a job costs doesn't grow with the ledger.

Every line under portal/ and jobs/ that executes a statement is run here once (a tracer tells), and the plan that SQLite
and PostgreSQL make of each statement must search an index, where they are told that each table has a million rows. A
new statement that isn't run here fails the test, too.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from portal.customers import lead_time
from portal.domain.model import (
    CustomerStatus,
    ErrorCode,
    LeaseLost,
    SalesforceOrder,
    State,
    Step,
    StepState,
)
from portal.domain.protocol import Facts
from portal.fulfillment import audit
from portal.fulfillment.run import RunContext
from portal.ledger import (
    acceptor,
    accounts,
    adopting,
    audits,
    bulk,
    circuits,
    counters,
    decisions,
    deliveries,
    events,
    fulfillments,
    hourly,
    housekeeping,
    installation,
    languages,
    operator_sessions,
    order_record,
    order_sync,
    orders,
    outbox,
    payment_hints,
    placements,
    queueing,
    runs,
    search,
    sessions,
    statistics,
    unheard,
    withdrawals,
    workers,
    write_backs,
)
from portal.ledger.accepting import Delivery
from portal.ledger.engine import Ledger
from portal.ledger.migrate import require_migrated, upgrade
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.ledger.schema import metadata
from portal.ops.metrics import FromLedger
from portal.webhooks import security_events
from tests.postgres import Postgres, sqlalchemy_url

ROOT = Path(__file__).resolve().parents[2]
ORDER, OTHER, ACCOUNT = "801000000000001AAA", "801000000000002AAA", "001000000000001AAA"
NOW = 1000.0


def statement_lines() -> set[tuple[str, int]]:
    """File and line of each `connection.execute(…)` under portal/ and jobs/."""
    lines = set()
    for path in [*(ROOT / "portal").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")]:
        if "migrations" in path.parts or path.name in WHOLE_TABLES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "execute"
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("connection", "c")
            ):
                lines.add((str(path), node.lineno))
    return lines


#: A command that moves a whole ledger reads all of it.
WHOLE_TABLES = ("copying.py",)

#: What SQLite never sees: PostgreSQL's locks, and its way to insert.
ONLY_POSTGRESQL = (
    "pg_is_in_recovery",
    "default_transaction_read_only",
    "clock_timestamp",
    "this user may not write the ledger's tables",
    "pg_advisory_xact_lock",
    "SET LOCAL",
    "with_for_update()",
    "postgresql.insert",
)


@contextmanager
def traced() -> Iterator[set[tuple[str, int]]]:
    """Collects the lines that are run under portal/."""
    ran: set[tuple[str, int]] = set()
    prefix = str(ROOT / "portal")

    def local(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            ran.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(prefix) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield ran
    finally:
        sys.settrace(before)


def snapshot(sf_order_id: str, reference: str | None) -> SalesforceOrder:
    return SalesforceOrder(
        id=sf_order_id,
        order_number="1",
        status="Draft",
        account_id=ACCOUNT,
        account_name="A",
        whmcs_client_id=None,
        email="a@example.com",
        provisioning_status=None,
        whmcs_order_id=None,
        portal_reference=reference,
        items=(),
    )


def exercise(ledger: Ledger, settings: Any) -> None:
    """Run every statement once."""
    require_migrated(ledger)
    with ledger.write() as c:
        _workers_and_messages(c)
        _customers(c)
        _doors(c)
        _fulfillments(c)
        counters.add(c, "counter", "label", 1)
        _one_account(c)
        security_events._watch(c, settings, Counter({"forged": 9}), Counter({"192.0.2.1": 9}), now=NOW)
        lead_time.lead_time_seconds(c)
        lead_time.review_seconds(c)
        assert not housekeeping.Round(now=NOW * 10_000, retention=1.0).batch(c)
    with ledger.write() as c:
        _operators(c)
    _after_the_end(ledger, settings)
    list(FromLedger(ledger, now=lambda: NOW).collect())


def _workers_and_messages(c: Connection) -> None:
    for name in ("ada", "bob"):
        workers.register(c, name, "fulfill", "host", 1, now=NOW)
    workers.count_heartbeat(c, "ada", now=NOW)
    workers.alive(c)
    workers.last_heartbeats(c)
    events.record(c, "paused", now=NOW, subject=ORDER)
    events.of_subject(c, ORDER)
    installation.put(c, "key", 1, now=NOW)
    installation.put(c, "key", 2, now=NOW)
    circuits.get(c, "whmcs")
    circuits.of_side(c, "whmcs")
    circuits.note_ok(c, "whmcs", now=NOW)
    circuits.note_failure(c, "salesforce", now=NOW, error="x", opens_at=1, pause=1.0)
    circuits.note_failure(c, "salesforce", now=NOW, error="x", opens_at=1, pause=1.0)
    circuits.claim_probe(c, "salesforce", now=NOW + 9, next_at=NOW + 19)
    circuits.get(c, "salesforce")
    message = outbox.put(c, "salesforce", ORDER, {}, now=NOW, once="once")
    assert message is not None
    outbox.due(c, "salesforce", now=NOW, limit=9)
    assert outbox.kinds_due(c, now=NOW) == {"salesforce"}
    outbox.being_sent(c, "salesforce", ORDER, now=NOW)
    outbox.sent_by_others(c, "salesforce", [ORDER], "bob", now=NOW)
    outbox.leave(c, [message], "bob", due_at=NOW)
    outbox.claim_held(c, [message], "ada", now=NOW)
    outbox.revive(c, "salesforce", ["INVALID_FIELD"], now=NOW)
    outbox.claim(c, [message], "ada", now=NOW, until=NOW + 9)
    outbox.release_all(c, "ada")
    outbox.put_off(c, message, due_at=NOW)
    outbox.drop(c, message, now=NOW)
    outbox.sent(c, message, now=NOW)
    outbox.again(c, message, now=NOW, due_at=NOW, error="x", refused=True)
    outbox.dead(c, message, error="x")


def _customers(c: Connection) -> None:
    for reference, sf_order_id in (("P-1", ORDER), ("P-2", OTHER), ("P-3", None), ("P-4", None)):
        orders.insert_placed_here(
            c,
            reference=reference,
            checkout_key=f"key-{reference}",
            account_id=ACCOUNT,
            email="a@example.com",
            items=[],
            currency="USD",
            total="1.00",
            now=NOW,
        )
        if sf_order_id:
            placements.settle_placed(c, reference, sf_order_id, now=NOW)
    orders.by_checkout_key(c, "key-P-1")
    orders.named(c, ["P-1", "P-2"])
    orders.named_in_salesforce(c, [ORDER, OTHER])
    orders.set_status(c, ORDER, CustomerStatus.ACTIVATING, now=NOW)
    orders.set_cancelled_in_whmcs(c, "801000000000003AAA", now=NOW)
    orders.set_live_again(c, "801000000000003AAA", now=NOW)
    for status in (None, CustomerStatus.PENDING_REVIEW):
        for before in (None, (NOW, "P-1")):
            for waits in (None, True, False):
                orders.page_of_account(c, ACCOUNT, limit=9, status=status, needs_customer=waits, before=before)
    orders.open_of_account(c, ACCOUNT, limit=9)
    placements.due(c, now=NOW, limit=9)
    placements.claim(c, "P-3", now=NOW)
    placements.postpone(c, "P-3", NOW)
    placements.settle_refused(c, "P-4", "REFUSED", now=NOW)
    placements.waiting(c, until=NOW, limit=9)
    placements.refused(c, since=0.0, limit=9)
    orders.withdraw(c, "P-3", now=NOW)
    orders.withdraw(c, "P-2", now=NOW)
    orders.withdrawn(c, ORDER)
    withdrawals.ask_withdrawal(c, "P-2", merchant="m@example.com", email="a@example.com", now=NOW)
    order_sync.sync(c, snapshot("801000000000009AAA", None), now=NOW)
    order_sync.sync(c, snapshot(ORDER, "P-1"), now=NOW, status=CustomerStatus.CANCELLED, reason="REJECTED")
    order_sync.sync(
        c, snapshot("801000000000009AAA", None), now=NOW, status=CustomerStatus.CANCELLED, reason="REJECTED"
    )
    session = sessions.Session("id", "a@example.com", None, ACCOUNT, None, NOW, NOW + 9)
    sessions.insert(c, session)
    sessions.find(c, ["id", "another"], now=NOW)
    languages.choose(c, ACCOUNT, "de", now=NOW)
    languages.note(c, ACCOUNT, "fr", now=NOW)
    languages.of_account(c, ACCOUNT)
    sessions.end(c, "id")
    sessions.end_everywhere(c, "a@example.com")
    sessions.end_all(c, now=NOW)
    sessions.use_link(c, "link", now=NOW, expires_at=NOW + 9)
    sessions.use_link(c, "link", now=NOW, expires_at=NOW + 9)
    sessions.link_used(c, "link", now=NOW)


def _one_account(c: Connection) -> None:
    outbox.put(c, outbox.SIGN_IN, "sign-in", {"address": "a@example.com"}, now=NOW)
    accounts.export(c, ACCOUNT, now=NOW)
    with pytest.raises(accounts.AccountBusy, match="open orders"):
        accounts.forget(c, ACCOUNT, now=NOW, actor="ada", why="x")
    other = "001000000000002AAA"
    orders.insert_placed_here(
        c,
        reference="P-9",
        checkout_key="P-9",
        account_id=other,
        email="b@example.com",
        items=[
            orders.Item(
                name="A", quantity=1, unitPrice="1", cycle=None, domain="b.example", hostname=None, entryId=None
            )
        ],
        currency=None,
        total="1.00",
        now=NOW,
    )
    placements.settle_placed(c, "P-9", "801000000000018AAA", now=NOW)
    fulfillments.request_fulfillment(c, "801000000000018AAA", now=NOW, requested_at=NOW)
    ended = {"state": State.FAILED, "plan": {"clientId": "8"}, "client_id": "8"}
    c.execute(
        sa.update(fulfillments_table).where(fulfillments_table.c.sf_order_id == "801000000000018AAA").values(ended)
    )
    orders.set_status(c, "801000000000018AAA", CustomerStatus.FAILED, now=NOW)
    fulfillments.plan_resync(c, "801000000000018AAA", now=NOW, due_at=NOW)
    with pytest.raises(accounts.AccountBusy, match="hasn't been told yet"):
        accounts.forget(c, other, now=NOW, actor="ada", why="x")
    messages = metadata.tables["outbox"]
    c.execute(sa.update(messages).where(messages.c.id < 1000).values(state="sent"))
    accounts.forget(c, other, now=NOW, actor="ada", why="x")


def _doors(c: Connection) -> None:
    deliveries.claim_key(c, "key", ORDER, now=NOW)
    deliveries.claim_key(c, "key", ORDER, now=NOW)
    deliveries.claim_key(c, "key", ORDER, now=NOW * 10_000)  # it has expired by then
    deliveries.set_attempt(c, "key", 1)
    deliveries.keep_answer(c, "key", 200, {})
    deliveries.record(c, "nonce", now=NOW, keep=9)
    deliveries.recorded(c, "nonce")
    new = Delivery("801000000000008AAA", "new key", "sf:new", 9.0, NOW, resync_at=NOW)
    assert acceptor.accept_new(c, [(new, NOW)]) != [None]


def _fulfillments(c: Connection) -> None:
    fulfillments.request_fulfillment(c, ORDER, now=NOW, requested_at=NOW)
    unheard.request_unheard(c, OTHER, now=NOW)
    row = runs.claim(c, ORDER, "ada", now=NOW)
    assert row is not None
    step = runs.begin_step(c, ORDER, 1, row.fence, Step.VALIDATION, now=NOW)
    runs.end_step(c, step, StepState.DONE, {}, now=NOW)
    runs.steps_of(c, ORDER)
    runs.done_at(c, [ORDER, OTHER])
    fulfillments.get_all(c, [ORDER, OTHER])
    runs.begun_before(c, ORDER, 1, row.fence)
    runs.steps_done(c, ORDER, 1)
    lease = runs.Lease(ORDER, row.fence, "ada")
    runs.record_step(c, lease, 1, Step.MAPPING, {}, started_at=NOW, ended_at=NOW)
    runs.save_facts(c, lease, Facts(), now=NOW)
    runs.elect(c, lease, "7", now=NOW)
    fulfillments.by_elected(c, "7")
    fulfillments.elected_elsewhere(c, OTHER, ["7"])
    fulfillments.failed_for_payment_method(c, "1")
    queueing.due(c, now=NOW, limit=9)
    queueing.note_job(c, OTHER, "job_id", now=NOW)
    queueing.enqueued(c, limit=9)
    queueing.forget_job(c, OTHER, "job_id")
    queueing.forget_jobs(c)
    queueing.longest_overdue(c)
    queueing.any_unfinished(c)
    queueing.waiting(c, now=NOW, limit=9)
    waiting = {"state": State.WAITING, "waiting_code": ErrorCode.WHMCS_UNAVAILABLE, "due_at": NOW + 99}
    c.execute(sa.update(fulfillments_table).where(fulfillments_table.c.sf_order_id == OTHER).values(waiting))
    queueing.wake_waiting(c, ErrorCode.WHMCS_UNAVAILABLE, now=NOW, per_second=2.0)
    fulfillments.hurry(c, OTHER, now=NOW)
    write_backs.note_status(c, OTHER, 1, "Activating")
    write_backs.note_write(c, [OTHER], now=NOW)
    write_backs.standing(c, OTHER)
    runs.update(c, lease, now=NOW, state=State.FAILED)
    queueing.take_over(c, "ada", now=NOW)
    queueing.doubt_unfinished(c, now=NOW, until=NOW)
    c.execute(sa.update(fulfillments_table).where(fulfillments_table.c.sf_order_id == ORDER).values(state=State.FAILED))
    decisions.resume(c, ORDER, now=NOW, actor="ada", why="x")
    again = runs.claim(c, ORDER, "bob", now=NOW)
    assert again is not None
    with pytest.raises(LeaseLost):
        runs.update(c, lease, now=NOW)
    runs.finish(
        c,
        runs.Lease(ORDER, again.fence, "bob"),
        State.PROVISIONED,
        now=NOW,
        error_code=None,
        error_message=None,
        service_ids=["5"],
        audit_due_at=NOW,
        hints=again.hints,
        requested_at=NOW,
    )
    fulfillments.by_service(c, "5")
    unheard.request_forgotten(c, OTHER, now=NOW, provisioned=True)
    provisioned = replace(snapshot("801000000000007AAA", None), provisioning_status="Provisioned", whmcs_order_id="77")
    adopting.note_follows(c, now=NOW)
    assert adopting.follows(c)
    assert not adopting.forgotten(c, provisioned)
    adopting.take_in(c, provisioned, now=NOW)
    adopting.note_verified(c, provisioned.id, "7")
    statistics.any_fulfillment(c)
    audits.hint(c, ORDER, now=NOW)
    audits.note_services(c, ORDER, {"5": "Active"}, now=NOW)
    audits.services_of(c, ORDER)
    unpaid = {"state": State.FAILED, "error_code": ErrorCode.PAYMENT_METHOD_MISSING, "client_id": "1"}
    c.execute(sa.update(fulfillments_table).where(fulfillments_table.c.sf_order_id == OTHER).values(unpaid))
    payment_hints.hear(c, "1", now=NOW)
    payment_hints.note_asked(c, "1", now=NOW)
    payment_hints.heard_since(c, "1", NOW)
    audits.audits_due(c, now=NOW, limit=9)
    audited = fulfillments.get(c, ORDER)
    assert audited is not None
    audits.claim_audit(c, audited, due_again_at=NOW)
    audits.settle(c, audited, due_at=NOW, audits=1)
    audits.doubt(c, audited, ErrorCode.OUTCOME_UNCERTAIN, "x", now=NOW)


def _operators(c: Connection) -> None:
    operator_sessions.insert(c, "id", "olga@example.com", now=NOW, expires_at=NOW + 9)
    operator_sessions.email_of(c, "id", now=NOW)
    operator_sessions.end(c, "id")
    for wanted in (
        search.Filter(),
        search.Filter(State.FAILED),
        search.Filter(State.FAILED, "OUTCOME_UNCERTAIN", NOW - 9, NOW + 9),
        search.Filter(State.WAITING, "WHMCS_UNAVAILABLE"),
        search.Filter(code="OUTCOME_UNCERTAIN", until=NOW),
        search.Filter(handled=True),
        search.Filter(code="OUTCOME_UNCERTAIN", handled=True),
    ):
        for before in (None, (NOW, ORDER)):
            search.page(c, wanted, limit=9, before=before)
        search.count(c, wanted, most=9)
    search.oldest(c, State.WAITING, limit=9)
    item = orders.Item(
        name="Hosting", quantity=1, unitPrice="1", cycle=None, domain="www.example.com", hostname=None, entryId=None
    )
    orders.index_domains(c, "P-1", [item])
    for text in (ORDER, "P-1", "00000100", "7", "a@example.com", "www.example.com", "key", "#5"):
        search.find(c, text)
    order_record.clicks(c, ORDER)
    message = outbox.put(c, "mail", "P-1", {"template": "received"}, now=NOW)
    assert message is not None
    order_record.messages(c, "mail", ["P-1"])
    order_record.mail_again(c, message, ["P-1"], now=NOW, name="again")
    order_record.unsent(c, "mail", most=9)
    hourly.last(c, 24, now=NOW)
    row = {"state": State.FAILED, "plan": {"lines": [{}]}, "elected_whmcs_id": "7"}
    c.execute(sa.update(fulfillments_table).where(fulfillments_table.c.sf_order_id == ORDER).values(row))
    decisions.mark_handled(c, ORDER, now=NOW, actor="olga", why="x")
    decisions.retry_from(c, ORDER, Step.WHMCS_ACCEPT, now=NOW, actor="olga", why="x")
    c.execute(sa.update(fulfillments_table).where(fulfillments_table.c.sf_order_id == ORDER).values(row))
    for act in ("write_back", "retry"):
        number = bulk.freeze(c, act, search.Filter(State.FAILED), shown={}, actor="olga", why="x", now=NOW)
        bulk.some_orders(c, number, limit=9)
        bulk.newest(c, limit=3)
        bulk.begin(c, number, actor="olga", now=NOW)
        bulk.any_running(c)
        bulk.advance(c, now=NOW)
        bulk.get(c, number)
    end = {"state": State.PROVISIONED}
    c.execute(sa.update(fulfillments_table).where(fulfillments_table.c.sf_order_id == ORDER).values(end))


def _after_the_end(ledger: Ledger, settings: Any) -> None:
    with ledger.read() as c:
        row = fulfillments.get(c, ORDER)
    assert row is not None
    none: Any = None
    context = RunContext(ledger, none, none, settings, lambda: NOW, "ada", none, none)
    audit._settle(context, row)


def _scans(step: str) -> bool:
    # json_each: what the statement was given; anon_1: what its own subquery found, by a step of its own
    return step.startswith("SCAN") and "VIRTUAL TABLE" not in step and not step.startswith("SCAN anon_")


class SETTINGS:
    """What the exercised functions read of the settings."""

    security_alert_window_seconds, security_alert_cooldown_seconds, security_alert_events = 60, 60, 1
    whmcs_max_request_seconds = 120.0
    whmcs_audit_schedule = (3600.0,)
    portal_base_url = "https://portal.example"
    security_alert_webhook = "https://alerts.example"


def statements_of(ledger: Ledger) -> list[tuple[str, Any]]:
    """What is sent to the database while everything is exercised, with its parameters."""
    statements: list[tuple[str, Any]] = []

    @sa.event.listens_for(ledger.engine, "before_cursor_execute")
    def _keep(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        statements.append((statement, parameters[0] if many else parameters))

    exercise(ledger, SETTINGS)
    sa.event.remove(ledger.engine, "before_cursor_execute", _keep)
    return statements


def tell_of_a_million(ledger: Ledger) -> None:
    """SQLite takes a table's size from its statistics; what an index finds it guesses then, as it does without any."""
    with ledger.write() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.exec_driver_sql("DELETE FROM sqlite_stat1")
        for table in metadata.tables:
            connection.exec_driver_sql("INSERT INTO sqlite_stat1 VALUES (?, NULL, '1000000')", (table,))
    ledger.dispose()  # statistics are read when a connection is opened


def test_no_statement_reads_a_whole_table(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    upgrade(ledger)
    with traced() as ran:
        statements = statements_of(ledger)
    tell_of_a_million(ledger)
    plans: dict[str, list[str]] = {}
    with ledger.read() as connection:
        for statement, parameters in statements:
            if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT") and statement not in plans:
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                plans[statement] = [row[3] for row in rows]
    ledger.dispose()
    del plans["SELECT version_num FROM alembic_version"]  # a table of one row
    scans = {statement: plan for statement, plan in plans.items() if any(_scans(step) for step in plan)}
    assert not scans, "\n".join(f"{statement}\n   {plan}" for statement, plan in scans.items())
    sorts = {s: plan for s, plan in plans.items() if any("TEMP B-TREE FOR ORDER" in step for step in plan)}
    assert not sorts, "\n".join(f"{statement}\n   {plan}" for statement, plan in sorts.items())
    assert len(plans) > 60
    missed = []
    for path, line in sorted(statement_lines() - ran):
        source = Path(path).read_text(encoding="utf-8").splitlines()
        if not any(word in text for word in ONLY_POSTGRESQL for text in source[line - 1 : line + 2]):
            missed.append(f"{Path(path).relative_to(ROOT)}:{line}: {source[line - 1].strip()}")
    assert not missed, "statements this test doesn't run:\n" + "\n".join(missed)


#: PostgreSQL takes a table's size from its file and its rows a page from here: a million in its first page.
A_MILLION = """
UPDATE pg_class SET reltuples = 1e6, relpages = 1
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""


#: Whether there is any order at all.
TRUE_OF_EVERY_ROW = "((sf_order_id)::text > ''::text)"


def read_whole(plan: dict[str, Any], above: str = "") -> list[str]:
    """What a plan of PostgreSQL (EXPLAIN as JSON) goes through whole, but for the first few rows of a LIMIT."""
    found = []
    first_few = above == "Limit" and plan.get("Filter") in (None, TRUE_OF_EVERY_ROW)
    if plan["Node Type"] == "Seq Scan" and not first_few:
        found.append(f"all rows of {plan['Relation Name']}")
    elif re.search("Index.* Scan", plan["Node Type"]) and "Index Cond" not in plan and not first_few:
        found.append(f"all of {plan['Index Name']}")
    for below in plan.get("Plans", []):
        found += read_whole(below, plan["Node Type"])
    return found


def test_on_postgresql_no_statement_reads_a_whole_table_of_a_million_rows(postgres: Postgres) -> None:
    ledger = Ledger(sqlalchemy_url(postgres.ledger()))
    statements = dict(statements_of(ledger))
    with ledger.write() as connection:
        connection.exec_driver_sql(A_MILLION)

    def plan(statement: str, parameters: Any = None) -> list[str]:
        with ledger.read() as connection:
            told = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
        return read_whole(told[0]["Plan"])

    ours = {
        statement: parameters
        for statement, parameters in statements.items()
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT")
        and "pg_catalog." not in statement
        and "alembic_version" not in statement
    }
    assert len(ours) > 60
    whole = {statement: found for statement, parameters in ours.items() if (found := plan(statement, parameters))}
    assert not whole, "\n".join(f"{statement}\n   {found}" for statement, found in whole.items())
    # What it can't search it would be seen to read.
    assert plan("SELECT 1 FROM fulfillments WHERE error_message = 'x'") == ["all rows of fulfillments"]
    assert plan("SELECT count(*) FROM orders") != []
    ledger.dispose()


def test_a_plan_that_scans_is_recognised(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    metadata.create_all(engine)
    with engine.connect() as connection, suppress(KeyError):
        query = sa.select(fulfillments_table.c.sf_order_id).where(fulfillments_table.c.error_message == "x")
        text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    engine.dispose()
    assert any(step.startswith("SCAN") for step in plan)
