"""`make bench-pages`: what operators' pages and /metrics cost at 1,000 and at 1,000,000 orders, on both databases.

The ledger is filled with rows as the product leaves them; the pages are asked for in this process. The last line is one
JSON object: for each database and page the milliseconds at both sizes (the quickest of some rounds: whatever else the
machine does only adds to it) and how many times as long the large one takes. Ends with 1 where a page takes more than
1.2 times as long, and more than NOISE_MS longer.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from portal.ledger import operator_sessions
from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade
from portal.ops.console.access import COOKIE
from portal.services import Services, build_services
from portal.settings import Settings
from portal.web.signing import digest
from tests.postgres import Postgres

OPERATOR: Final = "olga@bench.example"
#: The difference that two runs of the same page have on a busy machine.
NOISE_MS: Final = 5.0
MOST_TIMES: Final = 1.2

_NUMBERS: Final = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :size)"
_ID: Final = "'801B0' || substr('0000000000' || i, length('0000000000' || i) - 9, 10) || 'IAA'"
_ACCOUNT: Final = "'001B0' || substr('0000000000' || i, length('0000000000' || i) - 9, 10) || 'IAA'"
_STATE: Final = (
    "CASE WHEN i % 1000 = 0 THEN 'needs_decision' WHEN i % 1000 = 1 THEN 'waiting' WHEN i % 100 < 3 THEN 'failed' "
    "ELSE 'provisioned' END"
)
_CODE: Final = (
    "CASE WHEN i % 1000 = 0 THEN 'OUTCOME_UNCERTAIN' WHEN i % 1000 = 1 THEN NULL "
    "WHEN i % 100 < 3 THEN 'CLIENT_NOT_MAPPED' END"
)
#: Each table's columns, and what they hold in its i-th row; :now is the moment of the newest, in seconds since 1970.
FILL: Final[dict[str, dict[str, str]]] = {
    "fulfillments": {
        "sf_order_id": _ID,
        "state": _STATE,
        **dict.fromkeys(("attempt", "fence", "add_attempts", "accept_attempts"), "1"),
        **dict.fromkeys(("tries", "hints", "audits"), "0"),
        **dict.fromkeys(("history_complete", "active"), "true"),
        **dict.fromkeys(("duplicate_possible", "add_open", "accept_open", "confirmed"), "false"),
        **dict.fromkeys(("due_at", "requested_at", "created_at", "updated_at", "finished_at"), ":now - i"),
        "waiting_code": "CASE WHEN i % 1000 = 1 THEN 'WHMCS_UNAVAILABLE' END",
        "elected_whmcs_id": "'' || i",
        "client_id": "'' || (i / 3)",
        "service_ids": "'[]'",
        "error_code": _CODE,
        "handled_at": "CASE WHEN i = 1000 OR i % 20000 = 0 THEN :now END",  # those need a decision
    },
    "orders": {
        "reference": "'PO-' || i",
        "sf_order_id": _ID,
        "order_number": "substr('00000000' || i, length('00000000' || i) - 7, 8)",
        "account_id": "'001000000000001AAA'",
        "email": "'c' || (i / 3) || '@bench.example'",
        '"placing"': "'placed'",
        "place_tries": "0",
        "status": "'Provisioned'",
        "items": "'[]'",
        **dict.fromkeys(("created_at", "updated_at"), ":now - i"),
    },
    "order_domains": {"domain": "'d' || i || '.bench.example'", "reference": "'PO-' || i"},
    "deliveries": {
        "nonce": "'sf:' || i",
        "sf_order_id": _ID,
        "idempotency_key": "'key-' || i",
        "received_at": ":now - i",
        "expires_at": ":now + 99999",
    },
    "idempotency_keys": {
        "key": "'key-' || i",
        "sf_order_id": _ID,
        "attempt": "1",
        "created_at": ":now - i",
        "expires_at": ":now + 99999",
    },
    "services": {"service_id": "'' || (i + 7)", "sf_order_id": _ID},
    "steps": {
        "sf_order_id": _ID,
        **dict.fromkeys(("attempt", "fence"), "1"),
        "name": "'validation'",
        "state": "'done'",
        **dict.fromkeys(("started_at", "ended_at"), ":now - i"),
    },
    "outbox": {
        "kind": "'salesforce'",
        "subject": _ID,
        "payload": "'{}'",
        "state": "'sent'",
        "tries": "0",
        **dict.fromkeys(("due_at", "created_at", "sent_at"), ":now - i"),
    },
    "events": {"at": ":now - i", "kind": "'resumed'", "subject": _ID},
    "sessions": {
        "id": "'session-' || i",
        "email": "'c' || (i / 3) || '@bench.example'",
        "account_id": _ACCOUNT,
        "created_at": ":now - i",
        "expires_at": ":now + 99999",
    },
    "used_links": {"id": "'link-' || i", "used_at": ":now - i", "expires_at": ":now + 99999"},
    "account_languages": {"account_id": _ACCOUNT, "language": "'de'", "chosen": "false", "updated_at": ":now - i"},
    "payment_hints": {"client_id": "'' || i", "heard_at": ":now - i"},
    "operator_sessions": {
        "id": "'operator-' || i",
        "email": "'o@bench.example'",
        "created_at": ":now - i",
        "expires_at": ":now + 99999",
    },
    "bulk_acts": {
        "act": "'retry'",
        **dict.fromkeys(("actor", "why"), "'bench'"),
        "filter": "'{}'",
        "state": "'done'",
        **dict.fromkeys(("total", "done"), "1"),
        "refused": "0",
        **dict.fromkeys(("created_at", "updated_at"), ":now - i"),
    },
    "bulk_orders": {"bulk_id": "i", "position": "1", "sf_order_id": _ID, "outcome": "'queued'"},
}
#: These don't grow with orders, customers or operators: one row for each process, side, name or hour.
SMALL: Final = frozenset({"counters", "installation", "upstreams", "workers"})
#: The order that is looked for, by every word; there at both sizes.
WANTED: Final = 500
SF_ORDER_ID: Final = f"801B0{WANTED:010d}IAA"


def fill(ledger: Ledger, size: int) -> None:
    """As many orders as that, the newest a moment ago, each with what belongs to it."""
    for table, columns in FILL.items():
        statement = f"INSERT INTO {table} ({', '.join(columns)}) {_NUMBERS} SELECT {', '.join(columns.values())} FROM n"
        with ledger.write() as connection, ledger.unhurried(connection):
            connection.execute(sa.text(statement), {"size": size, "now": time.time()})
    with ledger.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("ANALYZE"))


@contextmanager
def application(folder: Path, database: str, **more: str) -> Iterator[Flask]:
    """The application over this database, with nobody behind it. more: further settings."""
    key = folder / "sf.key"
    key.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    settings = Settings.from_environ(
        {
            "PORTAL_ENV": "development",
            "PORTAL_VAR_DIR": str(folder),
            "PORTAL_BASE_URL": "http://127.0.0.1:8000",
            "DATABASE_URL": database,
            "SF_LOGIN_URL": "http://127.0.0.1:9",
            "SF_CLIENT_ID": "key",
            "SF_USERNAME": "api@example.com",
            "SF_PRIVATE_KEY_PATH": str(key),
            "SF_WEBHOOK_SECRET": "s" * 40,
            "PORTAL_PRICEBOOK_ID": "01s000000000001AAA",
            "WHMCS_API_URL": "http://127.0.0.1:9/includes/api.php",
            "WHMCS_API_IDENTIFIER": "identifier",
            "WHMCS_API_SECRET": "secret",
            "OPS_EMAILS": OPERATOR,
            "METRICS_ALLOWLIST": "127.0.0.0/8",
            **more,
        }
    )
    services = build_services(settings)
    try:
        yield create_app(services=services)
    finally:
        services.redis.close()
        services.ledger.dispose()


def signed_in(app: Flask) -> FlaskClient:
    """An operator's browser."""
    services: Services = app.extensions["portal"].services
    secret, now = secrets.token_urlsafe(16), time.time()
    with services.ledger.write() as connection:
        operator_sessions.insert(connection, digest("operator", secret), OPERATOR, now=now, expires_at=now + 36_000)
    client = app.test_client()
    client.set_cookie(COOKIE, secret, domain="127.0.0.1", path="/ops")
    return client


ROOT: Final = "http://127.0.0.1:8000"
PAGES: Final = {
    "now": "/ops",
    "find": "/ops/find",
    "find failed": "/ops/find?state=failed",
    "find handled": "/ops/find?state=handled",
    "find code": "/ops/find?code=CLIENT_NOT_MAPPED&age=last-day",
    "order": f"/ops/orders/{SF_ORDER_ID}",
    "metrics": "/metrics",
}
WORDS: Final = {
    "Salesforce id": SF_ORDER_ID,
    "order number": f"{WANTED:08d}",
    "WHMCS id": str(WANTED),
    "address": f"c{WANTED // 3}@bench.example",
    "domain": f"d{WANTED}.bench.example",
    "key": f"key-{WANTED}",
}


def measure(app: Flask, rounds: int) -> dict[str, float]:
    """Page → the fewest milliseconds it took."""
    client = signed_in(app)
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/ops", base_url=ROOT).text)
    assert token
    form = {"csrf_token": token[1]}

    def page(path: str) -> Callable[[], int]:
        return lambda: client.get(path, base_url=ROOT).status_code

    def word(text: str) -> Callable[[], int]:
        return lambda: client.post("/ops/find", base_url=ROOT, data={**form, "q": text}).status_code

    asks = {name: page(path) for name, path in PAGES.items()} | {
        f"find by {name}": word(text) for name, text in WORDS.items()
    }
    found = {}
    for name, ask in asks.items():
        took = []
        for _ in range(rounds + 2):
            begun = time.perf_counter()
            status = ask()
            took.append((time.perf_counter() - begun) * 1000)
            assert status in (200, 303), f"{name}: {status}"
        found[name] = min(took[2:])
    return found


def compare(name: str, database: Callable[[], str], sizes: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    """Page → milliseconds at the small and at the large size, and their ratio. name: the database's."""
    figures = []
    for size in sizes:
        with (
            tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder,
            application(Path(folder), database()) as app,
        ):
            services: Services = app.extensions["portal"].services
            upgrade(services.ledger)
            begun = time.perf_counter()
            fill(services.ledger, size)
            print(f"{name}: {size} orders made in {time.perf_counter() - begun:.0f} s", flush=True)
            figures.append(measure(app, rounds))
    small, large = figures
    return {page: [round(small[page], 1), round(large[page], 1), round(large[page] / small[page], 2)] for page in small}


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sqlite-only", action="store_true")
    arguments = parser.parse_args()
    sizes = (1000, arguments.orders)
    with tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder:
        names = iter(range(2))
        found = {
            "sqlite": compare("SQLite", lambda: f"sqlite:///{folder}/{next(names)}.sqlite3", sizes, arguments.rounds)
        }
    if not arguments.sqlite_only:
        with Postgres() as server:
            found["postgresql"] = compare("PostgreSQL", server.database, sizes, arguments.rounds)
    slow = [
        f"{database}: {page}"
        for database, pages in found.items()
        for page, (small, large, times) in pages.items()
        if times > MOST_TIMES and large - small > NOISE_MS
    ]
    print(json.dumps({"orders": arguments.orders, **found, "slow": slow}))
    raise SystemExit(1 if slow else 0)


if __name__ == "__main__":
    main()
