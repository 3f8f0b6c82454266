"""`make doctor-faults`: plants faults one at a time and checks that `flask doctor` names each, and nothing else.

Exactly the line concerned turns red; those that depend on it say so; all others stay green. Ends with a JSON line
{"planted", "named"}; exits with 1 unless they are equal.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from portal.ops.doctor.checks import CHECKS
from tests.stack import Stack

ROOT = Path(__file__).parents[1]

#: Plants a fault, gives the settings to run the doctor with (None takes one away), and takes the fault back.
Plant = Callable[[Stack], AbstractContextManager[Mapping[str, str | None]]]


@dataclass(frozen=True)
class Fault:
    """What is planted, which line must turn red for it, and what that line must say."""

    name: str
    line: str
    says: str
    plant: Plant


def settings(**changed: str | None) -> Plant:
    """A fault of the portal's own settings."""

    @contextmanager
    def planted(_stack: Stack) -> Iterator[Mapping[str, str | None]]:
        yield changed

    return planted


def switched(side: str, **changed: Any) -> Plant:
    """Switches of a pretend side, put back to what they were."""

    @contextmanager
    def planted(stack: Stack) -> Iterator[Mapping[str, str | None]]:
        control = getattr(stack, side)
        before = control.get("settings")
        control.post("settings", changed)
        try:
            yield {}
        finally:
            control.post("settings", {name: before.get(name) for name in changed})

    return planted


def scripted(side: str, kind: str, **about: Any) -> Plant:
    """A scripted fault of a pretend side, without end."""

    @contextmanager
    def planted(stack: Stack) -> Iterator[Mapping[str, str | None]]:
        control = getattr(stack, side)
        control.fault(kind, count=0, **about)
        try:
            yield {}
        finally:
            control.clear_faults()

    return planted


def silent(process: str) -> Plant:
    """A process that takes connections and says nothing."""

    @contextmanager
    def planted(stack: Stack) -> Iterator[Mapping[str, str | None]]:
        stack.pause(process)
        try:
            yield {}
        finally:
            stack.resume(process)

    return planted


def gone(process: str) -> Plant:
    """A process that was killed; started again afterwards."""

    @contextmanager
    def planted(stack: Stack) -> Iterator[Mapping[str, str | None]]:
        stack.kill(process)
        try:
            yield {}
        finally:
            stack.restart(process)

    return planted


def redis(undo: tuple[str, ...], *command: str) -> Plant:
    """A command to the running Valkey, and the one that takes it back."""

    @contextmanager
    def planted(stack: Stack) -> Iterator[Mapping[str, str | None]]:
        _valkey(stack, *command)
        try:
            yield {}
        finally:
            _valkey(stack, *undo)

    return planted


def _valkey(stack: Stack, *command: str) -> None:
    import redis as client

    with closing(client.Redis(unix_socket_path=str(stack.valkey_socket))) as connection:
        connection.execute_command(*command)  # type: ignore[no-untyped-call]


def rows(side: str, change: Callable[[Stack], Any], undo: Callable[[Stack], Any]) -> Plant:
    """Records of a pretend side, changed and changed back by POSTs to its `seed`."""

    @contextmanager
    def planted(stack: Stack) -> Iterator[Mapping[str, str | None]]:
        getattr(stack, side).post("seed", change(stack))
        try:
            yield {}
        finally:
            getattr(stack, side).post("seed", undo(stack))

    return planted


def product(name: str, **fields: Any) -> Plant:
    """A Product2 with these fields (given as `field=(wrong, right)`)."""

    def update(which: int) -> Callable[[Stack], Any]:
        return lambda stack: {
            "update": [
                {
                    "type": "Product2",
                    "Id": stack.ids[f"product:{name}"],
                    **{field: pair[which] for field, pair in fields.items()},
                }
            ]
        }

    return rows("salesforce", update(0), update(1))


def entry(name: str, **fields: Any) -> Plant:
    """A PricebookEntry likewise."""

    def update(which: int) -> Callable[[Stack], Any]:
        return lambda stack: {
            "update": [
                {
                    "type": "PricebookEntry",
                    "Id": stack.ids[f"entry:{name}"],
                    **{field: pair[which] for field, pair in fields.items()},
                }
            ]
        }

    return rows("salesforce", update(0), update(1))


def fact(key: str, value: Any) -> Plant:
    """A fact about the installation in the ledger."""

    @contextmanager
    def planted(stack: Stack) -> Iterator[Mapping[str, str | None]]:
        before = stack.ledger("SELECT value FROM installation WHERE key = ?", key)
        stack.change("DELETE FROM installation WHERE key = ?", key)
        stack.change("INSERT INTO installation VALUES (?, ?, 0)", key, json.dumps(value))
        try:
            yield {}
        finally:
            stack.change("DELETE FROM installation WHERE key = ?", key)
            for row in before:
                stack.change("INSERT INTO installation VALUES (?, ?, 0)", key, row["value"])

    return planted


@contextmanager
def other_key(stack: Stack) -> Iterator[Mapping[str, str | None]]:
    """A private key that doesn't belong to the certificate in Salesforce."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with tempfile.NamedTemporaryFile(suffix=".key") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        file.flush()
        yield {"SF_PRIVATE_KEY_PATH": file.name}


@contextmanager
def empty_ledger(_stack: Stack) -> Iterator[Mapping[str, str | None]]:
    """A database that was never migrated."""
    with tempfile.NamedTemporaryFile(suffix=".sqlite3") as file:
        yield {"DATABASE_URL": f"sqlite:///{file.name}"}


@contextmanager
def https_to_http(stack: Stack) -> Iterator[Mapping[str, str | None]]:
    """An https address behind which nobody speaks TLS."""
    yield {"WHMCS_API_URL": f"{stack.urls['whmcs'].replace('http://', 'https://')}/includes/api.php"}


@contextmanager
def wrong_path(stack: Stack) -> Iterator[Mapping[str, str | None]]:
    """An address on the same server where WHMCS has a page."""
    yield {"WHMCS_API_URL": f"{stack.urls['whmcs']}/whmcs/api.html"}


@contextmanager
def swallowing(_stack: Stack) -> Iterator[Mapping[str, str | None]]:
    """A mail server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"SMTP_URL": f"smtp://127.0.0.1:{server.getsockname()[1]}"}


@contextmanager
def closed_port(name: str, pattern: str) -> Iterator[Mapping[str, str | None]]:
    """A setting whose address has a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield {name: pattern.format(port)}


@contextmanager
def redis_password(stack: Stack) -> Iterator[Mapping[str, str | None]]:
    """A user that this Redis doesn't know."""
    yield {"REDIS_URL": f"unix://nobody:{secrets.token_hex(8)}@{stack.valkey_socket}"}


SF, WH = "salesforce", "whmcs"
TOMORROW = {"Date": formatdate(time.time() + 3600, usegmt=True)}

FAULTS = (
    # the settings
    Fault("a needed setting is missing", "settings.values", "SF_USERNAME is missing", settings(SF_USERNAME=None)),
    Fault(
        "a setting's name is misspelt",
        "settings.names",
        "did you mean SF_WEBHOOK_IP_ALLOWLIST",
        settings(SF_WEBHOOK_IP_ALOWLIST="203.0.113.0/24"),
    ),
    Fault(
        "everybody is a trusted proxy", "network.proxies", "TRUSTED_PROXIES has", settings(TRUSTED_PROXIES="0.0.0.0/0")
    ),
    Fault(
        "everybody is on an allowlist",
        "network.allowlists",
        "METRICS_ALLOWLIST has",
        settings(METRICS_ALLOWLIST="0.0.0.0/1"),
    ),
    # the database
    Fault(
        "no PostgreSQL listens",
        "database.reachable",
        "can't be used",
        lambda _stack: closed_port("DATABASE_URL", "postgresql://portal:x@127.0.0.1:{}/portal"),
    ),
    Fault("the ledger isn't migrated", "database.migrations", "flask db upgrade", empty_ledger),
    # Redis
    Fault("Redis is silent", "redis.reachable", "can't be reached", silent("valkey")),
    Fault(
        "nobody listens at REDIS_URL",
        "redis.reachable",
        "can't be reached",
        lambda _stack: closed_port("REDIS_URL", "redis://127.0.0.1:{}/0"),
    ),
    Fault("Redis refuses the password", "redis.reachable", "user or password", redis_password),
    Fault(
        "Redis is a replica",
        "redis.writes",
        "replica",
        redis(("REPLICAOF", "NO", "ONE"), "REPLICAOF", "127.0.0.1", "1"),
    ),
    Fault(
        "Redis may evict",
        "redis.eviction",
        "allkeys-lru",
        redis(("CONFIG", "SET", "maxmemory-policy", "noeviction"), "CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ),
    Fault(
        "Redis forgets over a restart",
        "redis.persistence",
        "keeps nothing",
        redis(("CONFIG", "SET", "appendonly", "yes"), "CONFIG", "SET", "appendonly", "no"),
    ),
    # Salesforce and the clock
    Fault("Salesforce is in maintenance", "salesforce.reachable", "503", switched(SF, maintenance=True)),
    Fault("Salesforce takes connections only", "salesforce.reachable", "didn't answer within", silent(SF)),
    Fault(
        "Salesforce's name isn't known",
        "salesforce.reachable",
        "DNS",
        settings(SF_LOGIN_URL="https://login.salesforce.invalid"),
    ),
    Fault(
        "the clock is an hour slow",
        "salesforce.clock",
        "behind Salesforce's",
        scripted(SF, "error", path="/services/data", status=200, body=[], headers=TOMORROW),
    ),
    Fault("another user's name", "salesforce.sign-in", "pre-authorized", settings(SF_USERNAME="nobody@example.com")),
    Fault("the user isn't approved", "salesforce.sign-in", "pre-authorized", switched(SF, user_approved=False)),
    Fault(
        "the app isn't for this user", "salesforce.sign-in", "doesn't let this user in", switched(SF, app_blocked=True)
    ),
    Fault("another consumer key", "salesforce.sign-in", "SF_CLIENT_ID isn't", settings(SF_CLIENT_ID="3MVG9.other")),
    Fault(
        "the wrong audience",
        "salesforce.sign-in",
        "SF_AUDIENCE",
        settings(SF_AUDIENCE="https://northwind.my.salesforce.com"),
    ),
    Fault("another private key", "salesforce.sign-in", "SF_PRIVATE_KEY_PATH must belong", other_key),
    Fault("the org has no API", "salesforce.api", "API Enabled", switched(SF, api_disabled=True)),
    Fault("a retired API version", "salesforce.api", "SF_API_VERSION", settings(SF_API_VERSION="20.0")),
    Fault(
        "the day's calls are used up", "salesforce.quota", "calls are left", switched(SF, api_limit=1000, api_used=960)
    ),
    Fault("Contact is hidden", "salesforce.access.Contact", "Contact", switched(SF, hidden_objects=["Contact"])),
    Fault(
        "a field of the item is hidden",
        "salesforce.access.OrderItem",
        "Hostname__c",
        switched(SF, hidden_fields=["OrderItem.Hostname__c"]),
    ),
    Fault(
        "the client's id can't be written",
        "salesforce.access.Account",
        "WHMCS_Client_ID__c",
        switched(SF, read_only_fields=["Account.WHMCS_Client_ID__c"]),
    ),
    Fault("orders are read-only", "salesforce.access.Order", "no right to", switched(SF, read_only_objects=["Order"])),
    Fault(
        "the picklist lacks values",
        "salesforce.statuses",
        "Activating",
        switched(SF, picklists={"Order.Provisioning_Status__c": ["Failed", "Requested"]}),
    ),
    Fault(
        "another pricebook", "salesforce.pricebook", "no pricebook", settings(PORTAL_PRICEBOOK_ID="01s000000000000AAA")
    ),
    # products
    Fault(
        "a product without number", "products.mapping", "WH_Product_ID__c", entry("unmapped", IsActive=(True, False))
    ),
    Fault("a cycle nobody knows", "products.mapping", "Fortnightly", entry("oddcycle", IsActive=(True, False))),
    Fault(
        "a number WHMCS doesn't know",
        "products.whmcs",
        "no product 4711",
        product("starter", WH_Product_ID__c=("4711", "1")),
    ),
    Fault(
        "a cycle WHMCS doesn't sell",
        "products.whmcs",
        "isn't offered",
        product("starter", Billing_Cycle__c=("Annual", "Monthly")),
    ),
    # WHMCS
    Fault("WHMCS is in maintenance", "whmcs.reachable", "503", switched(WH, maintenance=True)),
    Fault("WHMCS takes connections only", "whmcs.reachable", "didn't answer within", silent(WH)),
    Fault("no TLS behind https", "whmcs.reachable", "TLS", https_to_http),
    Fault("a page instead of the API", "whmcs.reachable", "WHMCS_API_URL", wrong_path),
    Fault("WHMCS hangs up", "whmcs.reachable", "lost", scripted(WH, "drop_before", action="*")),
    Fault("the address isn't allowed", "whmcs.address", "Invalid IP", scripted(WH, "INVALID_IP", action="*")),
    Fault("another secret", "whmcs.credentials", "WHMCS_API_SECRET", settings(WHMCS_API_SECRET="another")),
    Fault("AddOrder isn't allowed", "whmcs.api.AddOrder", "API role", switched(WH, denied_actions=["AddOrder"])),
    Fault(
        "GetProducts isn't allowed", "whmcs.api.GetProducts", "API role", switched(WH, denied_actions=["GetProducts"])
    ),
    Fault("a gateway WHMCS hasn't got", "whmcs.gateways", "klarna", settings(WHMCS_PAYMENT_METHOD="klarna")),
    Fault("an invoice gateway it hasn't", "whmcs.gateways", "sepa", settings(WHMCS_INVOICE_GATEWAYS="mailin,sepa")),
    # the installation, mail, processes
    Fault(
        "another Salesforce org",
        "installation.salesforce",
        "another Salesforce org",
        fact("salesforce_org", "00D000000000001EAA"),
    ),
    Fault(
        "another WHMCS",
        "installation.whmcs",
        "another WHMCS",
        fact("whmcs_address", "https://old.example.com/includes/api.php"),
    ),
    Fault("the mail server is silent", "mail.server", "within", swallowing),
    Fault(
        "no mail server listens",
        "mail.server",
        "can't be reached",
        lambda _stack: closed_port("SMTP_URL", "smtp://127.0.0.1:{}"),
    ),
    Fault("no worker", "processes.workers", "jobs.worker", gone("worker")),
    Fault("no sweep", "processes.sweep", "jobs.sweep", gone("sweep")),
)


def examine(stack: Stack, changed: Mapping[str, str | None] | None = None) -> tuple[int, dict[str, dict[str, str]]]:
    """`flask doctor --json` with these settings changed: its exit status, and its lines by id."""
    environ = {**stack.environ}
    for name, value in (changed or {}).items():
        environ.pop(f"{name}_FILE", None)
        environ.pop(name, None)
        if value is not None:
            environ[name] = value
    done = subprocess.run(
        [sys.executable, "-m", "flask", "doctor", "--json"],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"flask doctor printed no JSON:\n{done.stdout[-1000:]}{done.stderr[-1000:]}") from None
    lines = {check["id"]: check for category in told["categories"] for check in category["checks"]}
    return done.returncode, lines


def dependents(line: str) -> set[str]:
    """The checks that can't tell anything without `line`."""
    found = {line}
    for check in CHECKS:
        if found & set(check.needs):
            found.add(check.id)
    return found - {line}


def wrong_with(fault: Fault, status: int, lines: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What the doctor's answer to a planted fault lacks; nothing for the right one."""
    wrong = [] if status == 1 else [f"exit status {status}"]
    expected = dict.fromkeys(dependents(fault.line), "skipped") | {fault.line: "error"}
    for check in CHECKS:
        result = lines[check.id]["result"] if check.id in lines else "missing"
        if result != expected.get(check.id, "success"):
            wrong.append(f"{check.id} is {result}: {lines.get(check.id, {}).get('error', '')}")
    said = lines[fault.line].get("error", "")
    if fault.says not in said:
        wrong.append(f"{fault.line} doesn't say {fault.says!r} but {said!r}")
    return wrong


def named(stack: Stack, fault: Fault) -> list[str]:
    """Plant one fault, ask the doctor, take it back: what was wrong with the answer.

    A process that is gone is seen by the age of its last heartbeat: asked again until then.
    """
    with fault.plant(stack) as changed:
        wrong = wrong_with(fault, *examine(stack, changed))
        deadline = time.monotonic() + 30
        while wrong and fault.line.startswith("processes.") and time.monotonic() < deadline:
            wrong = wrong_with(fault, *examine(stack, changed))
        return wrong


def healthy(stack: Stack) -> None:
    """Until everything is green: what the last fault left behind is over."""
    stack.wait_for(lambda: all(line["result"] == "success" for line in examine(stack)[1].values()), "green lines", 60)


def main(wanted: list[str]) -> int:
    """Plant all faults, or those whose line or name contains a word of `wanted`."""
    chosen = [each for each in FAULTS if not wanted or any(word in f"{each.line} {each.name}" for word in wanted)]
    count = 0
    with tempfile.TemporaryDirectory(prefix="doctor-faults-") as folder, Stack(Path(folder)) as stack:
        healthy(stack)
        for fault in chosen:
            wrong = named(stack, fault)
            count += not wrong
            print(f"{'✓' if not wrong else '×'} {fault.name}: {fault.line}", flush=True)
            for each in wrong:
                print(f"    {each}", flush=True)
        healthy(stack)
    print(json.dumps({"planted": len(chosen), "named": count}))
    return 0 if count == len(chosen) else 1


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
