"""What tests of fulfillments share: what each side says of an order, what was logged, and what nobody may say."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import redis

from sandbox.seeds import CUSTOMERS
from sandbox.stack import SECRETS
from sandbox.visitor import Visitor
from tests.customers import application
from tests.stack import Answer, Control, Stack

STEPS = (
    "validation",
    "sf_status_update",
    "order_details",
    "mapping",
    "whmcs_create",
    "whmcs_accept",
    "sf_success_update",
)


# --- what each side says -------------------------------------------------------------------------------------


def whmcs_orders(stack: Stack, order: str) -> list[dict[str, Any]]:
    """WHMCS' orders that were asked for under this order's mark, whether WHMCS kept it or not; oldest first."""
    rows = stack.whmcs.get("state", objects="orders")["orders"]
    return sorted((row for row in rows if f"sfOrderId={order}" in row["sent_notes"].split()), key=lambda row: row["id"])


def statuses(stack: Stack, order: str) -> list[str]:
    """How its WHMCS orders stand, oldest first."""
    return [row["status"] for row in whmcs_orders(stack, order)]


def whmcs_services(stack: Stack, whmcs_order: int | str) -> list[dict[str, Any]]:
    """The services of a WHMCS order, oldest first."""
    rows = stack.whmcs.get("state", objects="services")["services"]
    return sorted((row for row in rows if str(row["orderid"]) == str(whmcs_order)), key=lambda row: row["id"])


def calls_of(side: Control, since: int, *actions: str) -> list[dict[str, Any]]:
    """The portal's calls to a side after `since` (journal id), all or those of these actions; tokens don't count."""
    return [
        entry
        for entry in side.journal(since=since, direction="in")
        if (entry["action"] in actions if actions else entry["action"] != "token")
    ]


def sends(stack: Stack, order: str, action: str) -> int:
    """How often the portal sent this WHMCS action for an order (by its id on either side)."""
    return len([entry for entry in stack.whmcs.journal(order=order, direction="in") if entry["action"] == action])


def told(stack: Stack, order: str, since: int = 0) -> list[str]:
    """The statuses the portal wrote to an order in Salesforce, in the order in which they took effect there."""
    found: list[tuple[float, str]] = []
    for entry in stack.salesforce.journal(since=since, direction="in"):
        if entry["effect"] is None or entry["action"] not in ("update:Order", "collections.update"):
            continue
        sent = json.loads(entry["params"])
        for record in sent.get("records", [sent | {"id": entry["order"]}]):
            if str(record.get("id", ""))[:15] == order[:15] and "Provisioning_Status__c" in record:
                found.append((entry["effect"], record["Provisioning_Status__c"]))
    return [status for _, status in sorted(found, key=lambda each: each[0])]


def provisioned(stack: Stack, order: str, seconds: float = 60) -> dict[str, Any]:
    """Its WHMCS order, once everybody agrees that it is the only live one, Active, and known by its number."""
    row = stack.finished(order, seconds)
    assert row["state"] == "provisioned", (row["state"], row["error_code"], row["error_message"])
    made = whmcs_orders(stack, order)
    (active,) = [each for each in made if str(each["id"]) == row["elected_whmcs_id"]]
    assert [each["status"] for each in made if each["id"] != active["id"]] in ([], ["Cancelled"] * (len(made) - 1))
    check_success(stack, order, active)
    return active


def check_success(stack: Stack, order: str, active: Mapping[str, Any]) -> None:
    """Salesforce, ledger and WHMCS say of a provisioned order that it is this WHMCS order, and live."""
    assert active["status"] == "Active"
    services = whmcs_services(stack, active["id"])
    assert services
    assert {service["status"] for service in services} == {"Active"}
    row = stack.fulfillment(order)
    assert row is not None
    assert row["error_code"] is None
    assert row["error_message"] is None
    assert sorted(json.loads(row["service_ids"])) == sorted(str(service["id"]) for service in services)

    def shown() -> dict[str, Any] | None:
        record = stack.salesforce_order(order)
        return record if record["Provisioning_Status__c"] == "Provisioned" else None

    record = stack.wait_for(shown, f"{order} to be Provisioned in Salesforce")
    assert record["WHMCS_Order_ID__c"] == str(active["id"])
    assert record["Provisioning_Error_Code__c"] is None
    assert record["Provisioning_Error_Message__c"] is None
    assert record["Last_Provisioning_At__c"]
    assert record["Status"] == "Pending Review"


def check_failure(stack: Stack, order: str, code: str, *, state: str = "failed", seconds: float = 60) -> str:
    """Salesforce, ledger and log give this code and the same message, which is returned."""
    row = stack.finished(order, seconds)
    assert (row["state"], row["error_code"]) == (state, code), row["error_message"]
    message = str(row["error_message"])
    assert 20 <= len(message) <= 255

    def shown() -> dict[str, Any] | None:
        record = stack.salesforce_order(order)
        shows = (record["Provisioning_Error_Code__c"], record["Provisioning_Status__c"])
        return record if shows == (code, "Failed") else None

    record = stack.wait_for(shown, f"{order} to be Failed in Salesforce")
    assert record["Provisioning_Status__c"] == "Failed"
    assert record["Provisioning_Error_Message__c"] == message
    said = "Order fulfillment failed" if state == "failed" else "Order needs a decision"
    (*_, line) = stack.wait_for(lambda: logged(stack, said, sfOrderId=order), f"{said!r} in the log")
    assert line["code"] == code
    assert line["error"][:255] == message
    assert line["level"] == "error"
    last = stack.steps(order)[-1]
    assert last["state"] == ("failed" if state == "failed" else "uncertain")
    assert json.loads(last["detail"])["code"] == code
    return message


def check_answer(answer: Answer, status: int, code: str, row: Mapping[str, Any] | None) -> None:
    """A refusal as problem+json, whose detail is the ledger's message."""
    assert answer.status == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["code"] == code
    assert problem["title"]
    assert row is not None
    assert problem["detail"] == row["error_message"]


def client_of(stack: Stack, order: str) -> int:
    """The WHMCS client of an order's account."""
    account = stack.salesforce_order(order)["AccountId"]
    rows = stack.salesforce.get("state", objects="Account")["Account"]
    return int(next(row["WHMCS_Client_ID__c"] for row in rows if row["Id"] == account))


def page_json(stack: Stack, visitor: Visitor, order: str) -> dict[str, Any]:
    """What a signed-in customer is told of an order."""
    page = visitor.get(f"{stack.urls['portal']}/api/orders/{order}")
    assert page.status == 200, page.text
    return dict(json.loads(page.body))


# --- making special customers --------------------------------------------------------------------------------


def customer(
    stack: Stack,
    *,
    client: bool = True,
    mapped: bool = True,
    card: bool = True,
    email: str | None = None,
    salesforce_email: str | None = None,
    **fields: Any,
) -> tuple[str, str]:
    """A customer of a test's own. Returns the account's id and the WHMCS client's number ("" for none).

    client            is a WHMCS client, with a stored `card` and further `fields` of WHMCS
    mapped            the account knows the client's number
    email             address in WHMCS and, unless `salesforce_email` says otherwise ("" for none), in Salesforce
    """
    name = f"c{secrets.token_hex(4)}"
    email = email or f"{name}@customers.example"
    number = ""
    if client:
        known = {"firstname": name, "lastname": "Test", "email": email, "defaultgateway": "stripe", **fields}
        number = str(stack.whmcs.post("seed", {"clients": [known]})["clients"][0])
        if card:
            stack.whmcs.post("seed", {"paymethods": [{"userid": int(number)}]})
    records: list[dict[str, Any]] = [
        {
            "type": "Account",
            "ref": "account",
            "Name": name,
            "BillingStreet": "1 Example Street",
            "BillingCity": "Springfield",
            "BillingState": "Oregon",
            "BillingPostalCode": "97477",
            "BillingCountry": "US",
            "Phone": "+1.5415550100",
            "WHMCS_Client_ID__c": number if mapped else None,
        }
    ]
    shown = email if salesforce_email is None else salesforce_email
    records.append(
        {
            "type": "Contact",
            "ref": "contact",
            "AccountId": "@{account}",
            "FirstName": name,
            "LastName": "Test",
            "Email": shown or None,
            "Phone": "+1.5415550100",
        }
    )
    made = stack.salesforce.post("seed", {"records": records})["names"]
    stack.ids[f"account:{name}"], stack.ids[f"contact:{name}"] = made["account"], made["contact"]
    return name, number


def one(stack: Stack, *items: str | tuple[str, int], about: Mapping[str, Any] | None = None, **fields: Any) -> str:
    """An order (by default of one `starter`) of a customer who has no other; `about` is for `customer`."""
    who, _ = customer(stack, **(about or {}))
    return stack.order(*(items or ("starter",)), customer=who, **fields)


# --- logs and what nobody may say ----------------------------------------------------------------------------


def log_lines(stack: Stack, *names: str) -> list[dict[str, Any]]:
    """The JSON lines that every web, worker and sweep (or those of `names`) have logged."""
    lines = []
    everybody = sorted(path.stem for path in stack.logs.glob("*.log"))
    for name in names or [each for each in everybody if each.startswith(("web", "worker", "sweep"))]:
        for line in (stack.logs / f"{name}.log").read_text(encoding="utf-8").splitlines():
            if line.startswith("{"):
                with contextlib.suppress(ValueError):  # the last line may be half written
                    lines.append(json.loads(line))
    return lines


def logged(stack: Stack, message: str, *names: str, **members: Any) -> list[dict[str, Any]]:
    """Log lines with this sentence and these members."""
    return [
        line
        for line in log_lines(stack, *names)
        if line["message"] == message and all(line.get(name) == value for name, value in members.items())
    ]


def check_nothing_told(stack: Stack, also: Iterable[str] = ()) -> None:
    """No secret, password, e-mail address or name in any log, step, event, reason or RQ job."""
    canaries = {stack.secret(name) for name in SECRETS} | set(also)
    canaries |= {each.email for each in CUSTOMERS.values()} | {"@customers.example"}
    canaries |= {f"{each.first} {each.last}" for each in CUSTOMERS.values()}
    canaries |= {row["password"] for row in stack.whmcs.get("state", objects="services")["services"]} - {""}
    key = stack.secret_path("sf-private.key").read_text(encoding="ascii").splitlines()
    canaries |= set(key[1:4])
    places: dict[str, str] = {
        path.name: path.read_text(encoding="utf-8")
        for path in stack.logs.iterdir()
        if path.stem not in ("salesforce", "whmcs", "mailbox", "valkey")
    }
    for table, columns in {
        "steps": "detail",
        "events": "detail, actor",
        "fulfillments": "plan, error_message, waiting_for",
        "upstreams": "last_error",
    }.items():
        places[table] = json.dumps(stack.ledger(f"SELECT {columns} FROM {table}"))
    kept = stack.ledger("SELECT payload, error FROM outbox WHERE kind IN ('salesforce', 'alert')")
    places["outbox"] = json.dumps(kept)
    with queue_of(stack) as store:
        places["RQ"] = repr([store.hgetall(key) for key in store.scan_iter("rq:job:*", count=1000)])
    found = {(canary[:60], place) for canary in canaries for place, text in places.items() if canary in text}
    assert not found


@contextlib.contextmanager
def queue_of(stack: Stack) -> Any:
    """A client of the stack's Valkey."""
    client = redis.Redis(unix_socket_path=str(stack.valkey_socket), socket_timeout=10)
    try:
        yield client
    finally:
        client.close()


def command(stack: Stack, *arguments: str) -> str:
    """Run a `flask` command over the stack's ledger, in this process; returns what it printed. Fails if it refuses."""
    with application(stack) as app:
        result = app.test_cli_runner().invoke(args=list(arguments))
    assert result.exit_code == 0, result.output
    return str(result.output)


def until(stack: Stack, order: str, good: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
    """An order's ledger row, once it is as wanted."""

    def look() -> dict[str, Any] | None:
        row = stack.fulfillment(order)
        return row if row is not None and good(row) else None

    return stack.wait_for(look, f"{order} to be as wanted; it is {stack.fulfillment(order)}", seconds)
