"""What operators are told by the portal itself: once when it begins, once when it is over, to real listeners."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa
from cryptography import x509

from jobs.relay import Relay
from portal.clients.smtp import SmtpTransport
from portal.domain.model import State
from portal.ledger import (
    circuits,
    counters,
    decisions,
    fulfillments,
    installation,
    orders,
    outbox,
    placements,
    totals,
    workers,
)
from portal.ledger.engine import Ledger
from portal.ledger.schema import fulfillments as fulfillments_table
from portal.ledger.schema import orders as orders_table
from portal.ops.alerts import certificates, evaluate, rules
from portal.ops.alerts.rules import RULES
from portal.ops.metrics import FromLedger
from portal.services import Services
from portal.settings import Settings
from tests.certificates import tls_server
from tests.fakes import Clock
from tests.listeners import Mails, Receiver, mailing, receiving
from tests.stack import Stack

ROOT = Path(__file__).parents[2]
ORDER = "801000000000001AAA"
MINUTE = 60.0


class Portal:
    """One ledger, operators' two addresses, and a clock that the test sets; `look` is what any process does."""

    def __init__(self, ledger: Ledger, receiver: Receiver, mails: Mails, **changes: Any) -> None:
        self.clock = Clock()
        self.settings = Settings(
            secret_key="k" * 32,
            security_alert_webhook=receiver.url,
            alert_emails=("ops@example.com", "boss@example.com"),
            smtp_url=mails.url,
            mail_from="portal@example.com",
            **changes,
        )
        self.ledger, self.receiver, self.mails = ledger, receiver, mails
        fake = SimpleNamespace(
            settings=self.settings,
            ledger=ledger,
            smtp=SmtpTransport.from_settings(self.settings),
            now=self.clock,
        )
        self.services = cast(Services, fake)
        with ledger.write() as connection:
            for kind in ("fulfill", "sweep"):
                workers.register(connection, kind, kind, "host", 1, now=self.clock())
        self.look()
        self.look(evaluate.EVERY)

    def beat(self, *kinds: str) -> None:
        """Heartbeats of now."""
        with self.ledger.write() as connection:
            for kind in kinds:
                workers.count_heartbeat(connection, kind, now=self.clock())

    def look(self, later: float = 0.0, *, beating: bool = True) -> None:
        """Go on by so many seconds, and look as the sweep does; a relay then carries what there is."""
        self.clock.now += later
        if beating:
            self.beat("fulfill", "sweep")
        evaluate.evaluate(self.services)
        relay = Relay(self.services, "relay")
        while relay._send({"alert": relay._alert}):
            pass

    def write(self, do: Callable[[Any], object]) -> None:
        """Change the ledger."""
        with self.ledger.write() as connection:
            do(connection)

    def told(self) -> list[tuple[str, str, str]]:
        """What was received since the last time, which must be the same by HTTP and by mail to both addresses."""
        posts = [(body["alert"], body["about"], body["state"]) for body in self.receiver.bodies]
        subjects = sorted(str(message["Subject"]) for message in self.mails.messages)
        titles = {rule.id: rule.title for rule in RULES}
        wanted = sorted(
            f"[Northwind Hosting] {'All clear: ' if state == 'resolved' else ''}{titles[rule]}"
            f"{f' ({about})' if about else ''}"
            for rule, about, state in posts
            for _address in range(2)
        )
        assert subjects == wanted
        self.receiver.received.clear()
        self.mails.messages.clear()
        return posts


@pytest.fixture
def portal(ledger: Ledger) -> Iterator[Portal]:
    with receiving(200) as receiver, mailing() as mails:
        yield Portal(ledger, receiver, mails)


def attempts(good: int, bad: int) -> Callable[[Any], object]:
    def add(connection: Any) -> None:
        counters.add(connection, totals.ATTEMPTS, "true", good)
        counters.add(connection, totals.ATTEMPTS, "false", bad)

    return add


def order(state: State, *, age: float = 0.0) -> Callable[[Portal], object]:
    """An order in this state that was asked for `age` seconds ago."""

    def make(portal: Portal) -> None:
        now = portal.clock()

        def add(connection: Any) -> None:
            fulfillments.request_fulfillment(connection, ORDER, now=now, requested_at=now - age)
            connection.execute(sa.update(fulfillments_table).values(state=state, due_at=now - age))
            totals.moved(connection, State.QUEUED, state)

        portal.write(add)

    return make


def settled(portal: Portal) -> None:
    def end(connection: Any) -> None:
        state = fulfillments.get(connection, ORDER)
        assert state is not None
        connection.execute(sa.update(fulfillments_table).values(state=State.PROVISIONED))
        totals.moved(connection, state.state, State.PROVISIONED)

    portal.write(end)


def circuit(name: str, *, closed: bool = False) -> Callable[[Portal], object]:
    def change(portal: Portal) -> None:
        now = portal.clock()
        if closed:
            portal.write(lambda c: circuits.note_ok(c, name, now=now))
        else:
            portal.write(lambda c: circuits.note_failure(c, name, now=now, error="timed out", opens_at=1, pause=1.0))

    return change


def refused(portal: Portal) -> None:
    def add(connection: Any) -> None:
        message = outbox.put(connection, "salesforce", ORDER, {}, now=portal.clock())
        assert message is not None
        later = portal.clock() + 1e6
        outbox.again(connection, message, now=portal.clock(), due_at=later, error="FIELD", refused=True)

    portal.write(add)


def due_mail(portal: Portal) -> None:
    portal.write(lambda c: outbox.put(c, "mail", "x", {}, now=portal.clock(), due_at=portal.clock() - 3600.0))


def taken(kind: str) -> Callable[[Portal], object]:
    def send(portal: Portal) -> None:
        def settle(connection: Any) -> None:
            (message,) = outbox.due(connection, kind, now=portal.clock() + 1e9, limit=1)
            outbox.sent(connection, message.id, now=portal.clock())

        portal.write(settle)

    return send


def quota(left: int) -> Callable[[Portal], object]:
    value = {"used": 15_000 - left, "total": 15_000}
    return lambda portal: portal.write(lambda c: installation.put(c, totals.QUOTA, value, now=portal.clock()))


def expiry(days: float) -> Callable[[Portal], object]:
    def put(portal: Portal) -> None:
        value = {"WHMCS_API_URL": portal.clock() + days * 86_400.0}
        portal.write(lambda c: installation.put(c, certificates.KEY, value, now=portal.clock()))

    return put


def placed(portal: Portal, reference: str = "PO-1") -> None:
    def add(connection: Any) -> None:
        orders.insert_placed_here(
            connection,
            reference=reference,
            checkout_key=reference,
            account_id="001000000000001AAA",
            email="ada@example.com",
            items=[],
            currency="USD",
            total="5.00",
            now=portal.clock() - 7200.0,
        )

    portal.write(add)


def taken_by_salesforce(portal: Portal) -> None:
    portal.write(lambda c: placements.settle_placed(c, "PO-1", ORDER, now=portal.clock()))


def refused_by_salesforce(portal: Portal) -> None:
    placed(portal)

    def refuse(connection: Any) -> None:
        placements.settle_refused(connection, "PO-1", "FIELD_CUSTOM_VALIDATION_EXCEPTION", now=portal.clock())
        connection.execute(sa.update(orders_table).values(created_at=portal.clock()))

    portal.write(refuse)


def long_ago(portal: Portal) -> None:
    portal.write(lambda c: c.execute(sa.update(orders_table).values(created_at=portal.clock() - 86_400.0)))


CASES = [
    (rules.UNDECIDED, "", order(State.NEEDS_DECISION), settled),
    (rules.STUCK, "", order(State.RUNNING, age=7200.0), settled),
    (rules.NOT_PLACED, "waiting", placed, taken_by_salesforce),
    (rules.NOT_PLACED, "refused", refused_by_salesforce, long_ago),
    (rules.QUEUE_GROWING, "", order(State.QUEUED, age=90.0), settled),
    (rules.UPSTREAM_DOWN, "whmcs", circuit("whmcs"), circuit("whmcs", closed=True)),
    (rules.SETUP_FAULT, "salesforce", circuit("sa:fetch_order"), circuit("sa:fetch_order", closed=True)),
    (rules.WRITE_BACKS_REFUSED, "", refused, taken("salesforce")),
    (rules.MESSAGES_UNSENT, "mail", due_mail, taken("mail")),
    (rules.QUOTA, "", quota(100), quota(9_000)),
    (rules.CERTIFICATE, "WHMCS_API_URL", expiry(20.0), expiry(90.0)),
]


@pytest.mark.parametrize(("rule", "about", "begin", "end"), CASES, ids=[f"{case[0].id} {case[1]}" for case in CASES])
def test_it_is_told_once_and_its_end_once(
    portal: Portal,
    rule: rules.Rule,
    about: str,
    begin: Callable[[Portal], object],
    end: Callable[[Portal], object],
) -> None:
    portal.look(MINUTE)
    assert portal.told() == []
    begin(portal)
    portal.look(evaluate.EVERY)
    if rule.patient:
        assert portal.told() == []  # it may pass by itself
        portal.look(2 * MINUTE)
    assert portal.told() == [(rule.id, about, "firing")]
    for _ in range(3):
        portal.look(MINUTE)
    assert portal.told() == []
    end(portal)
    portal.look(evaluate.EVERY)
    assert portal.told() == []  # it may come back
    portal.look(2 * MINUTE)
    assert portal.told() == [(rule.id, about, "resolved")]
    portal.look(10 * MINUTE)
    assert portal.told() == []


def test_every_rule_has_a_case() -> None:
    tested = {case[0] for case in CASES} | {rules.FAILURE_RATE, rules.NOBODY_WORKING}
    assert tested == set(RULES)


def test_a_high_failure_rate(portal: Portal) -> None:
    """The guide's own: above 10 % of a window's attempts, where there are enough of them to say so."""
    portal.look(evaluate.EVERY)
    portal.write(attempts(0, 9))
    portal.look(MINUTE)
    assert portal.told() == []  # nine attempts say nothing
    portal.write(attempts(81, 0))
    portal.look(MINUTE)
    assert portal.told() == []  # 9 of 90: no more than 10 %
    portal.write(attempts(0, 2))
    portal.look(MINUTE)
    (post,) = portal.receiver.bodies
    assert post["title"] == "High order provisioning failure rate"
    assert "High order provisioning failure rate. 11 of 92 attempts (12%) failed within 60 min." in post["text"]
    assert post["cure"] == rules.FAILURE_RATE.cure
    assert post["runbook"] == "docs/runbook.md#alert-failure-rate"
    assert portal.told() == [("failure-rate", "", "firing")]
    for _ in range(70):
        portal.look(MINUTE)
    assert portal.told() == [("failure-rate", "", "resolved")]  # they have left the window


def test_nobody_working_is_told_of_each_kind(portal: Portal) -> None:
    portal.look(MINUTE, beating=False)
    portal.look(2 * MINUTE, beating=False)
    assert portal.told() == [("nobody-working", "fulfill", "firing"), ("nobody-working", "sweep", "firing")]
    portal.look(evaluate.EVERY)
    for _ in range(10):
        portal.look(20.0)
    assert sorted(portal.told()) == [("nobody-working", "fulfill", "resolved"), ("nobody-working", "sweep", "resolved")]


def test_what_passes_by_itself_is_never_told(portal: Portal) -> None:
    for _ in range(3):
        circuit("whmcs")(portal)
        portal.look(MINUTE)
        circuit("whmcs", closed=True)(portal)
        portal.look(MINUTE)
    assert portal.told() == []


def test_what_comes_back_soon_is_one_alert(portal: Portal) -> None:
    circuit("whmcs")(portal)
    portal.look(evaluate.EVERY)
    portal.look(2 * MINUTE)
    for _ in range(3):
        circuit("whmcs", closed=True)(portal)
        portal.look(MINUTE)
        circuit("whmcs")(portal)
        portal.look(MINUTE)
    assert portal.told() == [("upstream-down", "whmcs", "firing")]


def test_an_alert_says_what_to_do(portal: Portal) -> None:
    order(State.NEEDS_DECISION)(portal)
    portal.look(evaluate.EVERY)
    message = portal.mails.messages[0]
    assert message["From"] == "Northwind Hosting <portal@example.com>"
    assert [str(each["To"]) for each in portal.mails.messages] == ["ops@example.com", "boss@example.com"]
    text = message.get_content()
    assert rules.UNDECIDED.cure in text
    assert f"1 of them; the oldest is {ORDER}." in text
    assert "docs/runbook.md#alert-undecided" in text


def test_metrics_show_how_long_an_order_isnt_in_salesforce(portal: Portal) -> None:
    def age() -> float:
        (family,) = [
            each
            for each in FromLedger(portal.ledger, now=portal.clock).collect()
            if each.name == "portal_orders_unplaced_age_seconds"
        ]
        return family.samples[0].value

    assert age() == 0.0
    placed(portal)
    assert age() == 7200.0
    taken_by_salesforce(portal)
    assert age() == 0.0


def test_handled_orders_wait_for_nobody(portal: Portal) -> None:
    order(State.NEEDS_DECISION)(portal)
    portal.look(evaluate.EVERY)
    assert portal.told() == [("undecided", "", "firing")]
    portal.write(lambda c: decisions.mark_handled(c, ORDER, now=portal.clock(), actor="olga", why="by hand"))
    portal.look(evaluate.EVERY)
    portal.look(2 * MINUTE)
    assert portal.told() == [("undecided", "", "resolved")]
    other = "801000000000002AAA"

    def second(connection: Any) -> None:
        fulfillments.request_fulfillment(connection, other, now=portal.clock(), requested_at=portal.clock())
        row = fulfillments_table.c.sf_order_id == other
        connection.execute(sa.update(fulfillments_table).where(row).values(state=State.NEEDS_DECISION))
        totals.moved(connection, State.QUEUED, State.NEEDS_DECISION)

    portal.write(second)
    portal.look(evaluate.EVERY)
    assert f"1 of them; the oldest is {other}." in portal.receiver.bodies[0]["text"]
    assert portal.told() == [("undecided", "", "firing")]


def test_many_processes_tell_once(each_ledger: Ledger) -> None:
    with receiving(200) as receiver, mailing() as mails:
        portal = Portal(each_ledger, receiver, mails)
        order(State.NEEDS_DECISION)(portal)
        for _ in range(3):
            portal.clock.now += evaluate.EVERY
            portal.beat("fulfill", "sweep")
            barrier = threading.Barrier(6)

            def look(barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                evaluate.evaluate(portal.services)

            threads = [threading.Thread(target=look) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        portal.look(evaluate.EVERY)
        assert portal.told() == [("undecided", "", "firing")]


def test_a_listener_that_refuses_gets_it_later_and_the_other_one_at_once(ledger: Ledger) -> None:
    with receiving(503, 200) as receiver, mailing() as mails:
        portal = Portal(ledger, receiver, mails)
        order(State.NEEDS_DECISION)(portal)
        portal.look(evaluate.EVERY)
        assert len(mails.messages) == 2
        assert len(receiver.received) == 1
        portal.look(MINUTE)
        assert len(receiver.received) == 2
        assert receiver.received[0][1] == receiver.received[1][1]
        assert len(mails.messages) == 2


def test_nobody_to_tell_costs_nothing(ledger: Ledger) -> None:
    services = SimpleNamespace(settings=Settings(), now=Clock(), ledger=None)
    assert evaluate.evaluate(cast(Services, services)) is False


def test_the_runbook_has_each_paragraph() -> None:
    runbook = " ".join((ROOT / "docs" / "runbook.md").read_text(encoding="utf-8").split())
    for rule in RULES:
        assert f'<a id="alert-{rule.id}"></a>{rule.title} ' in runbook, rule.id
        assert rule.cure in runbook, rule.id


# --- certificates --------------------------------------------------------------------------------------------------


def test_certificates_are_looked_at(ledger: Ledger, tmp_path: Path) -> None:
    """Of a server that is asked, and of the file; what can't be seen now keeps what was known."""
    context, pem = tls_server(tmp_path)
    expires = x509.load_pem_x509_certificate(pem.read_bytes()).not_valid_after_utc.timestamp()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _address = listener.accept()
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as encrypted:
                encrypted.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        settings = Settings(
            whmcs_api_url=f"https://127.0.0.1:{listener.getsockname()[1]}/includes/api.php", sf_certificate_path=pem
        )
        services = cast(Services, SimpleNamespace(settings=settings, ledger=ledger, now=Clock()))
        certificates.look(services)
        thread.join()
    seen = {"WHMCS_API_URL": expires, "SF_CERTIFICATE_PATH": expires}
    with ledger.read() as connection:
        assert installation.get(connection, certificates.KEY) == seen
    certificates.look(services)  # nobody listens any more
    with ledger.read() as connection:
        assert installation.get(connection, certificates.KEY) == seen


# --- the whole portal ----------------------------------------------------------------------------------------------


def test_a_portal_whose_workers_end_says_so_and_when_they_are_back(own_stack: Stack) -> None:
    """The sweep carries it where no worker does; a restart of the sweep tells nothing twice."""
    with receiving(200) as receiver:
        own_stack.settings |= {"SECURITY_ALERT_WEBHOOK": receiver.url, "ALERT_AFTER_SECONDS": "1"}
        own_stack.start()

        def alerts(state: str) -> list[str]:
            return [body["about"] for body in receiver.bodies if body.get("state") == state]

        own_stack.kill("worker")
        own_stack.wait_for(lambda: alerts("firing") == ["fulfill"], "the alert", 60)
        unsent = "SELECT id FROM outbox WHERE kind = 'alert' AND state = 'pending'"
        own_stack.wait_for(lambda: not own_stack.ledger(unsent), "the ledger to know that it was taken", 60)
        own_stack.restart("sweep")
        own_stack.restart("worker")
        own_stack.wait_for(lambda: alerts("resolved") == ["fulfill"], "the all-clear", 60)
        assert alerts("firing") == ["fulfill"]

        def mails() -> list[str]:
            found = own_stack.mailbox.get("messages", to="operator@northwind.example")["messages"]
            return [mail["subject"] for mail in found if "Nobody works on orders" in mail["subject"]]

        own_stack.wait_for(lambda: len(mails()) == 2, "both mails", 60)
