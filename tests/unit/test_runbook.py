"""Every symptom of the runbook is provoked by a test, and the words it quotes are the product's own.

PROVOKED_BY is the table: heading, code or message → the test that brings it about and looks at what the product says.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbook.md"

_SYMPTOMS = "tests/integration/test_webhook_symptoms.py"
_FAILURES = "tests/integration/test_fulfillment_failures.py"
_PROTOCOL = "tests/integration/test_fulfillment_protocol.py"
_TRUE = "tests/integration/test_true_in_the_end.py"
_OUTAGES = "tests/integration/test_outage_upstreams.py"
_STORAGE = "tests/integration/test_outage_storage.py"
_REFUSALS = "tests/integration/test_webhook_refusals.py"
_ALERTS = "tests/integration/test_alerts.py"
_BACKUP = "tests/integration/test_backup.py"
_ORCHESTRATOR = "tests/unit/test_orchestrator.py"
_COMPLETE = "tests/unit/test_completeness.py"
_DECISIONS = "tests/unit/test_decisions.py"
_WORKERS = "tests/integration/test_health_of_workers.py"
_RULES = f"{_ALERTS}::test_it_is_told_once_and_its_end_once"

PROVOKED_BY = {
    # --- the callout is refused
    "401 Invalid signature (`invalid_signature`)": f"{_SYMPTOMS}::test_401_invalid_signature",
    "401 Stale timestamp (`stale_timestamp`)": f"{_SYMPTOMS}::test_401_clocks_skewed",
    "401 Nonce already used (`nonce_already_used`)": f"{_SYMPTOMS}::test_401_nonce_already_used",
    "400 Missing fields (`missing_fields`)": f"{_SYMPTOMS}::test_400_missing_fields",
    "400 Missing Idempotency-Key (`missing_idempotency_key`), 422 `idempotency_key_reused`": (
        f"{_SYMPTOMS}::test_400_missing_idempotency_key"
    ),
    "403 Address not allowed (`address_not_allowed`)": f"{_REFUSALS}::test_the_checks_come_in_the_contracts_order",
    "413 `body_too_large`, 429 `rate_limited`": f"{_REFUSALS}::test_all_addresses_together_have_a_limit_too",
    "410 `endpoint_renamed`": f"{_REFUSALS}::test_the_old_name_and_other_methods",
    "503": f"{_STORAGE}::test_without_redis_nothing_is_accepted_and_nothing_accepted_is_lost",
    # --- the order is Failed
    "PAYMENT_METHOD_MISSING": f"{_SYMPTOMS}::test_409_payment_method_missing_and_the_cure",
    "ORDER_NOT_FOUND": f"{_FAILURES}::test_an_order_salesforce_doesnt_know",
    "ORDER_NOT_FULFILLABLE": f"{_FAILURES}::test_a_status_that_isnt_fulfilled",
    "ORDER_HAS_NO_ITEMS": f"{_FAILURES}::test_an_order_without_items",
    "CLIENT_NOT_MAPPED": f"{_FAILURES}::test_a_client_without_number_and_address",
    "PRODUCT_MAPPING_MISSING": f"{_FAILURES}::test_every_faulty_item_is_named",
    "WHMCS_ADD_ORDER_FAILED": f"{_FAILURES}::test_an_add_order_that_is_refused",
    "WHMCS_ACCEPT_ORDER_FAILED": f"{_FAILURES}::test_an_accept_that_is_refused_keeps_its_order_for_the_next_click",
    "WHMCS_SERVICE_NOT_ACTIVE": f"{_FAILURES}::test_a_service_that_isnt_set_up_waits_for_an_operators_module_create",
    "WHMCS_UNAVAILABLE": f"{_OUTAGES}::test_when_the_schedule_is_exhausted_the_order_fails_and_a_new_click_resumes",
    "SALESFORCE_UNAVAILABLE": f"{_ORCHESTRATOR}::test_the_code_names_the_side_that_was_away",
    "OUTCOME_UNCERTAIN": f"{_PROTOCOL}::test_two_active_orders_are_for_a_person",
    "PROVISIONING_ERROR": f"{_ORCHESTRATOR}::test_an_error_of_ours_is_passing_trouble_and_never_shows_its_text",
    "`OUTCOME_UNCERTAIN`: a decision is needed": f"{_PROTOCOL}::test_two_active_orders_are_for_a_person",
    # --- nothing happens
    "The order stays Pending Review after the click": f"{_SYMPTOMS}::test_401_invalid_signature",
    "The order stays Requested": f"{_OUTAGES}::test_a_request_nobody_heard_is_found_and_of_two_sweeps_one_acts",
    "The order stays Activating": f"{_TRUE}::test_while_an_order_waits_salesforce_shows_why_and_the_next_try",
    "Health says degraded": f"{_WORKERS}::test_frozen_workers_are_told",
    "Provisioned in WHMCS, but not in Salesforce": f"{_SYMPTOMS}::test_salesforce_status_not_updated",
    "Provisioned here, cancelled in WHMCS": f"{_TRUE}::test_what_staff_ended_in_whmcs_without_an_event_is_learnt",
    "It doesn't start": "tests/integration/test_ledger_migrations.py::test_no_process_starts_on_an_unmigrated_ledger",
    # --- alerts: one test with a case for each rule
    "High order provisioning failure rate": f"{_ALERTS}::test_a_high_failure_rate",
    "Orders need a decision": _RULES,
    "An order is stuck": _RULES,
    "Orders not in Salesforce": _RULES,
    "Nobody works on orders": f"{_ALERTS}::test_nobody_working_is_told_of_each_kind",
    "The other side doesn't answer": _RULES,
    "The other side's set-up is at fault": _RULES,
    "Salesforce refuses write-backs": _RULES,
    "The queue is growing": _RULES,
    "Messages aren't sent": _RULES,
    "Salesforce's API calls run out": _RULES,
    "A certificate is about to expire": f"{_ALERTS}::test_certificates_are_looked_at",
    "The order portal doesn't answer": "tests/unit/test_monitoring.py::test_the_files_are_right",
}

#: A decision's message, up to what varies in it → the test that needs that decision.
DECISIONS = {
    "Salesforce names WHMCS order 12, which bears the reference": (
        f"{_PROTOCOL}::test_a_named_order_that_is_another_orders_is_for_a_person"
    ),
    "Salesforce names WHMCS order 12, which is Salesforce order": (
        f"{_TRUE}::test_a_cloned_order_is_another_orders_until_somebody_clears_the_field"
    ),
    "Salesforce names WHMCS order 12, which belongs to WHMCS client": (
        f"{_PROTOCOL}::test_a_named_order_of_another_client_is_for_a_person"
    ),
    "Salesforce names WHMCS order 12, which is older": f"{_COMPLETE}::test_an_order_that_salesforce_names_is_a_claim",
    "Salesforce names WHMCS order 12, which isn't what was ordered": f"{_COMPLETE}::test_a_difference_is_named",
    "Salesforce names WHMCS order 12, which WHMCS doesn't have": (
        f"{_PROTOCOL}::test_a_named_order_that_isnt_there_is_for_a_person_who_may_order_a_new_one"
    ),
    "Salesforce names WHMCS order 13, but this order is": (
        f"{_PROTOCOL}::test_when_salesforce_and_ledger_name_different_orders_a_person_decides"
    ),
    "WHMCS order 12 isn't what was ordered": f"{_TRUE}::test_a_quantity_that_whmcs_ignored_needs_a_decision",
    "WHMCS doesn't cancel this order's second": f"{_DECISIONS}::test_a_second_order_that_whmcs_doesnt_cancel",
    "more than one live WHMCS order": f"{_PROTOCOL}::test_two_active_orders_are_for_a_person",
    "WHMCS has an order for this one that can't be used": (
        f"{_PROTOCOL}::test_an_order_that_stays_half_built_is_for_a_person"
    ),
    "WHMCS doesn't give the order's mark back": (
        f"{_PROTOCOL}::test_where_whmcs_drops_the_mark_a_lost_answer_waits_for_a_person"
    ),
    "WHMCS order 12 isn't there any more": f"{_PROTOCOL}::test_an_elected_order_that_staff_cancelled_is_for_a_person",
    "WHMCS order 12 is Active although this order Failed": (
        f"{_DECISIONS}::test_an_order_that_failed_and_is_active_all_the_same"
    ),
    "the stray WHMCS order 13 has a live service": f"{_DECISIONS}::test_a_cancelled_stray_whose_service_lives",
    "WHMCS order 12 is already Salesforce order": f"{_DECISIONS}::test_adopting_what_is_another_orders",
}

#: What `flask ledger restore` refuses.
RESTORE = {
    "processes of the portal are running": (
        f"{_BACKUP}::test_a_backup_made_while_orders_run_is_restored_and_every_order_ends_once"
    ),
    "… is damaged": f"{_BACKUP}::test_a_damaged_backup_is_refused_and_changes_nothing",
    "… is of a newer version": f"{_BACKUP}::test_a_newer_versions_backup_is_refused",
    "pg_dump isn't there": f"{_BACKUP}::test_without_postgresqls_programs_it_says_what_to_install",
    "pg_dump failed": f"{_BACKUP}::test_a_damaged_backup_is_refused_and_changes_nothing",
}


def text() -> str:
    return RUNBOOK.read_text(encoding="utf-8")


def headings() -> list[str]:
    return [re.sub(r"<a [^>]*></a>", "", line).strip() for line in re.findall(r"^### (.+)$", text(), re.MULTILINE)]


def table(first_heading: str) -> list[str]:
    """The first column of the table that begins with this heading cell."""
    lines = text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(line.split("|")[1].strip())
    return rows


def exists(node: str) -> bool:
    """Whether a test is there."""
    path, _, name = node.partition("::")
    file = ROOT / path
    if not file.is_file():
        return False
    tests = {
        each.name for each in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(each, ast.FunctionDef)
    }
    return name in tests


def test_each_heading_is_provoked_by_a_test() -> None:
    codes = set(re.findall(r"`([A-Z_]+)`", " ".join(table("`Provisioning_Error_Code__c`"))))
    assert set(PROVOKED_BY) == {*headings(), *codes, "It doesn't start"}
    assert "\n## It doesn't start\n" in text()


@pytest.mark.parametrize(("first", "known"), [("the message", DECISIONS), ("it says", RESTORE)])
def test_each_message_is_provoked_by_a_test(first: str, known: dict[str, str]) -> None:
    rows = table(first)
    assert [row for row in rows if not any(row.startswith(begin) for begin in known)] == []
    assert [begin for begin in known if not any(row.startswith(begin) for row in rows)] == []


@pytest.mark.parametrize("node", sorted({*PROVOKED_BY.values(), *DECISIONS.values(), *RESTORE.values()}))
def test_the_test_is_there(node: str) -> None:
    assert exists(node)


# --- the words are the product's ---------------------------------------------------------------------------------


@cache
def literals() -> str:
    """Every text of the product's code, one a line; what an f-string fills in divides it."""
    found = []
    for path in sorted((ROOT / "portal").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(" ".join(node.value.split()))
    return "\n".join(found)


#: Words that stand alone between two texts.
_LINKS = {"which", "times", "and", "is"}


def uncovered(quoted: str) -> str:
    """What of a quoted message isn't made of the product's texts, each of at least two words; "": nothing."""
    for part in re.split(r"…|\d+(?:, \d+)*|\([^)]*\)|Cancelled", quoted):
        words = part.strip(" .,:;").split()
        while words:
            size = next((n for n in range(len(words), 0, -1) if " ".join(words[:n]) in literals()), 0)
            if size < 2 and not (size and (len(words) == 1 or words[0].strip(",") in _LINKS)):
                return " ".join(words)
            words = words[size:]
    return ""


def messages() -> list[str]:
    rows = [part for row in table("the message") for part in re.split(r"; (?:… )?", row)]
    rows += [
        row.strip('"') for rows in table("waiting for") for row in rows.split('", "') if not row.startswith("other")
    ]
    return rows + [part for row in table("it says") for part in row.split("; ") if not part.startswith("pg_")]


@pytest.mark.parametrize("quoted", messages())
def test_a_quoted_message_is_one_the_product_says(quoted: str) -> None:
    assert uncovered(quoted) == ""


def test_a_message_nobody_says_is_recognised() -> None:
    assert uncovered("WHMCS order 12 was eaten by the dog") != ""
    assert uncovered("more than one live WHMCS order bears this order's mark: 12, 13") == ""
    assert not exists("tests/unit/test_runbook.py::test_of_nothing")


def decisions_in_code() -> list[tuple[str, ...]]:
    """The texts that each decision's message is put together from, as the code asks for it."""
    found = []
    for folder in ("domain", "fulfillment"):
        for path in sorted((ROOT / "portal" / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                called = ast.unparse(node.func)
                if called == "NeedsDecision" and node.args:
                    found.append(node.args[0])
                elif called == "Action" and node.args and ast.unparse(node.args[0]) == "Do.NEED_DECISION":
                    found += [each.value for each in node.keywords if each.arg == "why"]
    texts = []
    for value in found:
        parts = [
            " ".join(each.value.split())
            for each in ast.walk(value)
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        texts.append(tuple(each.strip(" ,.:;") for each in parts if len(each.split()) > 2))
    return sorted({each for each in texts if each})


@pytest.mark.parametrize("said", decisions_in_code())
def test_each_decision_of_the_code_is_in_the_runbook(said: tuple[str, ...]) -> None:
    """At least the first words of one of its texts: the rest of a long message is advice that the table gives, too."""
    runbook = " ".join(text().split())
    assert [part for part in said if " ".join(part.split()[:5]) in runbook], said
