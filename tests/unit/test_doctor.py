"""The doctor's own rules: order, dependencies, deadlines, waiting, what it prints; and the runbook has each line."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from app import create_commands_app
from portal.clients.probe import _ahead
from portal.clients.salesforce.records import CatalogueEntry
from portal.domain.model import UpstreamError
from portal.ops.doctor import host, network, products, salesforce
from portal.ops.doctor.checks import CHECKS
from portal.ops.doctor.command import doctor
from portal.ops.doctor.model import Check, Context, Finding, Outcome, Report, Result, error, good, warning
from portal.ops.doctor.printer import Printer, as_json
from portal.ops.doctor.runner import choose, run_checks
from portal.settings import Settings

ROOT = Path(__file__).parents[2]


def check(
    name: str,
    run: Callable[[Context], Finding] = lambda context: good(),
    *,
    needs: tuple[str, ...] = (),
    seconds: float = 5,
    retry: bool = False,
) -> Check:
    return Check(
        id=name, description=f"{name} is right", run=run, cure="Mend it", needs=needs, seconds=seconds, retry=retry
    )


def results(report: Report) -> dict[str, str]:
    return {each.check.id: str(each.finding.result) for each in report.outcomes}


def context() -> Context:
    return Context({})


# --- the checks as a whole ---------------------------------------------------------------------------------------


def test_every_check_stands_after_what_it_needs_and_has_a_name_of_its_own() -> None:
    seen: set[str] = set()
    for each in CHECKS:
        assert set(each.needs) <= seen, each.id
        assert each.id not in seen
        assert re.fullmatch(r"[a-z]+(\.[A-Za-z0-9-]+){1,2}", each.id), each.id
        seen.add(each.id)


def test_categories_stand_together() -> None:
    names = [each.category for each in CHECKS]
    assert len(set(names)) == sum(one != other for one, other in zip(names, ["", *names], strict=False))


def test_the_runbook_has_a_row_for_each_check_and_no_other() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert set(re.findall(r'<a id="(doctor-[^"]+)"></a>', text)) == {each.anchor for each in CHECKS}


def test_whatever_the_portal_does_depends_on_the_settings() -> None:
    """A broken setting turns its own line red, and skips all the rest."""
    report = run_checks(CHECKS, Context({}))
    assert report.count(Result.ERROR) == 1
    assert report.count(Result.SKIPPED) == len(CHECKS) - 2
    assert results(report)["settings.values"] == "error"
    assert results(report)["settings.names"] == "success"


# --- running -----------------------------------------------------------------------------------------------------


def test_what_depends_on_a_failed_check_is_skipped_and_says_on_which() -> None:
    checks = [
        check("a.one", lambda _: error("broken")),
        check("a.two", lambda _: pytest.fail("was run"), needs=("a.one",)),
        check("a.three", lambda _: pytest.fail("was run"), needs=("a.two",)),
        check("b.four"),
    ]
    report = run_checks(checks, context())
    assert results(report) == {"a.one": "error", "a.two": "skipped", "a.three": "skipped", "b.four": "success"}
    assert [each.finding.message for each in report.outcomes][1:3] == ["depends on a.one", "depends on a.two"]
    assert not report.success


def test_a_warning_stops_nothing_and_is_a_success() -> None:
    report = run_checks([check("a.one", lambda _: warning("hm")), check("a.two", needs=("a.one",))], context())
    assert results(report) == {"a.one": "warning", "a.two": "success"}
    assert report.success


def test_a_check_that_hangs_is_an_error_of_its_own_words() -> None:
    forever = threading.Event()

    def hang(_context: Context) -> Finding:
        forever.wait(30)
        return good()

    started = time.monotonic()
    report = run_checks([check("a.one", hang, seconds=0.1), check("a.two")], context())
    forever.set()
    assert time.monotonic() - started < 10
    assert report.outcomes[0].finding == error("hung: no result within the 0.1 s this check may take")
    assert results(report)["a.two"] == "success"


def test_other_libraries_words_are_not_repeated() -> None:
    def leak(_context: Context) -> Finding:
        raise RuntimeError("redis://user:hunter2@host")

    def refuse(_context: Context) -> Finding:
        raise UpstreamError("WHMCS", "WHMCS: no", permanent=False)

    report = run_checks([check("a.one", leak), check("a.two", refuse)], context())
    assert [each.finding.message for each in report.outcomes] == ["the check itself failed (RuntimeError)", "WHMCS: no"]


def test_waiting_tries_again_what_may_come_right_and_nothing_else() -> None:
    tries = {"a.one": 0, "a.two": 0}

    def third_time(name: str) -> Callable[[Context], Finding]:
        def run(_context: Context) -> Finding:
            tries[name] += 1
            return good() if tries[name] == 3 else error("not yet")

        return run

    checks = [check("a.one", third_time("a.one"), retry=True), check("a.two", third_time("a.two"))]
    report = run_checks(checks, context(), wait=60, pause=lambda seconds: None)
    assert results(report) == {"a.one": "success", "a.two": "error"}
    assert tries == {"a.one": 3, "a.two": 1}
    assert len(report.outcomes) == 2  # told once each


def test_waiting_ends() -> None:
    checks = [check(f"a.{n}", lambda _: error("never"), retry=True) for n in range(5)]
    started = time.monotonic()
    assert run_checks(checks, context(), wait=0.3).count(Result.ERROR) == 5
    assert time.monotonic() - started < 5


# --- choosing ----------------------------------------------------------------------------------------------------


def ids(checks: list[Check]) -> list[str]:
    return [each.id for each in checks]


def test_only_brings_what_it_depends_on_and_skip_leaves_out() -> None:
    checks = [check("a.one"), check("b.two", needs=("a.one",)), check("b.three"), check("c.four", needs=("b.two",))]
    assert ids(choose(checks)) == ["a.one", "b.two", "b.three", "c.four"]
    assert ids(choose(checks, only=["c"])) == ["a.one", "b.two", "c.four"]
    assert ids(choose(checks, only=["b.three"])) == ["b.three"]
    assert ids(choose(checks, skip=["b", "c.four"])) == ["a.one"]
    report = run_checks(choose(checks, only=["c"], skip=["b.two"]), context())
    assert results(report) == {"a.one": "success", "c.four": "success"}  # who skips takes it for right


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match="no check or category is called c, d"):
        choose([check("a.one")], only=["c"], skip=["d"])
    answer = CliRunner().invoke(doctor, ["--only", "nothing"])
    assert answer.exit_code == 2
    assert "flask doctor --list" in answer.output


# --- telling -----------------------------------------------------------------------------------------------------


REPORT = Report(
    [
        Outcome(check("a.one"), good("fine")),
        Outcome(check("a.two"), warning("hm")),
        Outcome(check("b.three"), error("broken")),
        Outcome(check("b.four"), Finding(Result.SKIPPED, "depends on b.three")),
    ]
)


def test_the_lines() -> None:
    lines: list[str] = []
    printer = Printer(lines.append)
    for outcome in REPORT.outcomes:
        printer.tell(outcome)
    printer.conclude(REPORT)
    assert "\n".join(lines).splitlines() == [
        "a",
        "-",
        "✓ a.one: a.one is right",
        "    fine",
        "‼ a.two: a.two is right",
        "    hm",
        "    → Mend it (docs/runbook.md#doctor-a-two)",
        "",
        "b",
        "-",
        "× b.three: b.three is right",
        "    broken",
        "    → Mend it (docs/runbook.md#doctor-b-three)",
        "– b.four: b.four is right",
        "    skipped: depends on b.three",
        "",
        "× 1 checks passed, 1 warnings, 1 errors, 1 skipped",
    ]


def test_the_json() -> None:
    told = json.loads(as_json(REPORT))
    assert told["success"] is False
    assert [each["categoryName"] for each in told["categories"]] == ["a", "b"]
    assert told["categories"][0]["checks"][0] == {"id": "a.one", "description": "a.one is right", "result": "success"}
    assert told["categories"][1]["checks"] == [
        {
            "id": "b.three",
            "description": "b.three is right",
            "result": "error",
            "error": "broken",
            "hint": "Mend it (docs/runbook.md#doctor-b-three)",
        },
        {
            "id": "b.four",
            "description": "b.four is right",
            "result": "skipped",
            "error": "skipped: depends on b.three",
        },
    ]


# --- without settings --------------------------------------------------------------------------------------------


def test_commands_work_or_say_why_not_without_settings() -> None:
    app = create_commands_app("the portal can't be built:\nSF_USERNAME is missing")
    runner = app.test_cli_runner()
    assert "doctor" in runner.invoke(args=["--help"]).output
    for arguments in (["db", "upgrade"], ["fulfillments", "show", "x"], ["send-fulfillment", "x"]):
        with app.app_context():
            answer = runner.invoke(args=arguments)
        assert answer.exit_code == 1, arguments
        assert "SF_USERNAME is missing" in answer.output, arguments
    listed = runner.invoke(args=["doctor", "--list"])
    assert listed.exit_code == 0
    assert len(listed.output.splitlines()) == len(CHECKS)


def test_an_app_without_settings_serves_nothing() -> None:
    client = create_commands_app("why").test_client()
    assert client.get("/health").status_code == 503


# --- single checks, where no running part can be made to show it -------------------------------------------------


def test_little_room_is_a_warning_and_none_an_error() -> None:
    place = Path("/var")
    assert host.judge(99 * host.MEGABYTE, place).result is Result.ERROR
    assert host.judge(100 * host.MEGABYTE, place).result is Result.WARNING
    assert host.judge(2048 * host.MEGABYTE, place).result is Result.SUCCESS


@pytest.mark.parametrize(
    ("changed", "run", "result"),
    [
        ({"TRUSTED_PROXIES": "10.0.0.0/8"}, network._proxies, Result.SUCCESS),
        ({"TRUSTED_PROXIES": "10.0.0.0/7"}, network._proxies, Result.ERROR),
        ({"TRUSTED_PROXIES": "::/0"}, network._proxies, Result.ERROR),
        ({}, network._proxies, Result.WARNING),
        ({"SF_WEBHOOK_IP_ALLOWLIST": "10.1.0.0/16,192.168.1.1"}, network._allowlists, Result.WARNING),
        ({"SF_WEBHOOK_IP_ALLOWLIST": "10.1.0.0/16,13.108.0.0/14"}, network._allowlists, Result.SUCCESS),
        ({"WHMCS_WEBHOOK_IP_ALLOWLIST": "0.0.0.0/0"}, network._allowlists, Result.ERROR),
        ({"WHMCS_API_URL": "http://whmcs.example.com/includes/api.php"}, network._encrypted, Result.ERROR),
        ({}, network._encrypted, Result.SUCCESS),
    ],
)
def test_addresses(
    private_key: Path, changed: dict[str, str], run: Callable[[Context], Finding], result: Result
) -> None:
    environ = {
        "PORTAL_BASE_URL": "https://shop.example.com",
        "DATABASE_URL": "postgresql://db/portal",
        "REDIS_URL": "redis://redis/0",
        "SECRET_KEY": "k" * 32,
        "SF_LOGIN_URL": "https://login.salesforce.com",
        "SF_CLIENT_ID": "3MVG9",
        "SF_USERNAME": "api@example.com",
        "SF_PRIVATE_KEY_PATH": str(private_key),
        "SF_WEBHOOK_SECRET": "s" * 32,
        "PORTAL_PRICEBOOK_ID": "01s000000000001AAA",
        "WHMCS_API_URL": "https://whmcs.example.com/includes/api.php",
        "WHMCS_API_IDENTIFIER": "i",
        "WHMCS_API_SECRET": "x",
        "SMTP_URL": "smtp://mail.example.com",
        "MAIL_FROM": "orders@example.com",
        "BRAND_NAME": "Example",
        "BRAND_SUPPORT_EMAIL": "support@example.com",
        **changed,
    }
    prepared = Context(environ)
    prepared.settings = Settings.from_environ(environ)
    assert run(prepared).result is result


def test_every_fault_of_a_long_list_is_counted() -> None:
    prepared = context()
    prepared.found["catalogue"] = [
        CatalogueEntry(f"01u{n:012d}AAA", f"01t{n:012d}AAA", f"Product {n}", "", "", "1.00", None, "Monthly")
        for n in range(13)
    ]
    told = products._mapping(prepared)
    assert told.result is Result.ERROR
    assert told.message.endswith("; and 3 more")
    assert "Product 0 has no" in told.message


def test_access_is_told_field_by_field() -> None:
    needed = salesforce.NEEDED["OrderItem"]
    fields = [
        {"name": name, "createable": name != "Domain__c"} for name in (needed.reads | needed.creates) - {"Hostname__c"}
    ]
    faults, less = salesforce.missing_access("OrderItem", needed, {"createable": True, "fields": fields})
    assert faults == ["OrderItem has no field, or hides it: Hostname__c", "OrderItem isn't createable in: Domain__c"]
    assert less == ["OrderItem has no field, or hides it: Portal_Reference__c (optional)"]


def test_the_date_of_an_answer_is_compared_with_both_ends_of_the_call() -> None:
    assert _ahead("Thu, 01 Jan 1970 00:16:40 GMT", 1000.2, 1000.9) == 0.0  # whole seconds
    assert _ahead("Thu, 01 Jan 1970 00:17:40 GMT", 1000.2, 1001.0) == pytest.approx(59.0)
    assert _ahead("Thu, 01 Jan 1970 00:15:40 GMT", 1000.0, 1001.0) == pytest.approx(-59.0)
    assert _ahead("yesterday", 1.0, 2.0) is None
    assert _ahead(None, 1.0, 2.0) is None
