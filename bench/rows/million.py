"""What a delivery, a claim, a round of the sweep, learning, a customer's and the operators' pages cost with 1,000,000
orders, beside 1,000.

In this process, over ledgers filled as the product leaves them (bench.pages), on both databases.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from bench import deliveries, pages
from bench.harness import Figures, Group, PeerMissing, Row, Side, at_most
from bench.peers import servers
from jobs.sweep import Sweep
from portal.clients.salesforce.records import ChangedOrders, OrderChange
from portal.customers.salesforce_sync import sync_changes
from portal.customers.visitor import ACCOUNT_COOKIE
from portal.domain.model import CustomerStatus, SalesforceOrder, State
from portal.ledger import runs, sessions, workers
from portal.ledger.accepting import Accepted, Delivery
from portal.ledger.acceptor import Acceptor
from portal.ledger.migrate import upgrade
from portal.ledger.schema import fulfillments
from portal.services import Services
from portal.web.signing import digest
from tests.postgres import Postgres

SMALL: Final = 1_000
LARGE: Final = 1_000_000
_TIMES: Final = 1.2
_DATABASES: Final = ("SQLite", "PostgreSQL")
_LEARNT: Final = 50
_WHAT: Final = {
    "accept": "a delivery accepted",
    "claim": "an order claimed",
    "sweep": "a round of the sweep",
    "page": "an order's page",
    "list": "the list of orders",
    "learn": f"{_LEARNT} changed orders learnt from Salesforce",
    "ops": "/ops",
    "metrics": "/metrics",
}
_numbers: Final = itertools.count(5_000_000_000)


def _name(what: str, database: str) -> str:
    return f"{_WHAT[what]}, ms at {LARGE:,} orders beside {SMALL:,}, {database}"


class Million(Group):
    """Eight things on two databases."""

    name = "million"
    promised = tuple((_name(what, database), f"≤ {_TIMES} ×") for database in _DATABASES for what in _WHAT)

    @contextlib.contextmanager
    def sides(self) -> Iterator[Sequence[Side]]:
        """A ledger of each size on each database."""
        with contextlib.ExitStack() as up:
            folder = Path(up.enter_context(tempfile.TemporaryDirectory(prefix="order-portal-bench-")))
            try:
                server = up.enter_context(Postgres())
            except Exception as error:
                raise PeerMissing(f"PostgreSQL didn't start: {error}") from error
            sides = []
            for database, size in itertools.product(_DATABASES, (SMALL, LARGE)):
                own = folder / f"{database}-{size}"
                own.mkdir()
                url = server.database() if database == "PostgreSQL" else f"sqlite:///{own / 'ledger.sqlite3'}"
                redis = up.enter_context(servers.valkey())
                app = up.enter_context(pages.application(own, url, REDIS_URL=redis))
                upgrade(_services(app).ledger)
                pages.fill(_services(app).ledger, size)
                sides.append(Side(f"{database} {size:,}", _Portal(app).measure))
            yield sides

    def rows(self, medians: Mapping[str, Figures]) -> Sequence[Row]:
        """One for each thing and database."""
        return [
            at_most(
                _name(what, database),
                medians[f"{database} {LARGE:,}"][what],
                medians[f"{database} {SMALL:,}"][what],
                _TIMES,
            )
            for database in _DATABASES
            for what in _WHAT
        ]


def _services(app: Flask) -> Services:
    found: Services = app.extensions["portal"].services
    return found


class _Portal:
    """One ledger, and who uses it."""

    def __init__(self, app: Flask) -> None:
        self._services = _services(app)
        ledger = self._services.ledger
        self._acceptor = Acceptor(ledger)
        self._worker = ""
        with ledger.write() as connection:
            # As many wait, and as many need a decision, at either size: none but those that are taken here.
            connection.execute(
                fulfillments.update()
                .where(fulfillments.c.state.in_((State.WAITING, State.NEEDS_DECISION)))
                .values(state=State.PROVISIONED, waiting_code=None)
            )
        self._sweep = Sweep(self._services)
        self._sweep.start()
        self._client = _customer(app)
        self._operator = pages.signed_in(app)
        self._changes = _Changes()
        self._learning = replace(self._services, salesforce=cast(Any, self._changes))

    def measure(self, seconds: float) -> Figures:
        """The median milliseconds of each."""
        self._worker = f"bench-{secrets.token_hex(4)}"  # the sweep has buried the last one, whose heart didn't beat
        with self._services.ledger.write() as connection:
            workers.register(connection, self._worker, "fulfill", "bench", 1, now=time.time())
        things = {
            "accept": self._accept,
            "claim": self._claim,
            "sweep": self._round,
            "page": lambda: self._get(f"/orders/PO-{pages.WANTED}"),
            "list": lambda: self._get("/orders"),
            "learn": self._learn,
            "ops": lambda: self._get("/ops", self._operator),
            "metrics": lambda: self._get("/metrics"),
        }
        return {what: _median(thing, seconds / len(things)) for what, thing in things.items()}

    def _accept(self) -> float:
        return self._accepted()[1]

    def _accepted(self) -> tuple[str, float]:
        order = deliveries.order_id(next(_numbers))
        now = time.time()
        delivery = Delivery(
            sf_order_id=order,
            idempotency_key=f"bench-{order}",
            nonce_id=f"sf:{order}",
            nonce_seconds=600.0,
            requested_at=now,
            requested_by=None,
            origin={},
            resync_at=None,
        )
        begun = time.perf_counter()
        (taken,) = self._acceptor.accept([(delivery, now)])
        took = time.perf_counter() - begun
        assert isinstance(taken, Accepted)
        self._end(order)
        return order, took

    def _claim(self) -> float:
        order, _ = self._accepted()
        with self._services.ledger.write() as connection:
            connection.execute(_of(order).values(state=State.QUEUED))
        begun = time.perf_counter()
        with self._services.ledger.write() as connection:
            claimed = runs.claim(connection, order, self._worker, now=time.time())
        took = time.perf_counter() - begun
        assert claimed is not None
        self._end(order)
        return took

    def _end(self, order: str) -> None:
        """So that none is left for the sweep."""
        with self._services.ledger.write() as connection:
            connection.execute(_of(order).values(state=State.PROVISIONED, owner=None, finished_at=time.time()))

    def _round(self) -> float:
        begun = time.perf_counter()
        self._sweep.round()
        return time.perf_counter() - begun

    def _learn(self) -> float:
        self._changes.again()
        begun = time.perf_counter()
        assert sync_changes(self._learning)
        return time.perf_counter() - begun

    def _get(self, path: str, client: FlaskClient | None = None) -> float:
        begun = time.perf_counter()
        status = (client or self._client).get(path, base_url=pages.ROOT).status_code
        took = time.perf_counter() - begun
        assert status == 200, f"{path}: {status}"
        return took


class _Changes:
    """Stands for Salesforce, whose own time isn't what is measured: the same orders, changed each time."""

    def __init__(self) -> None:
        self._times = 0

    def again(self) -> None:
        """Have them all changed once more."""
        self._times += 1

    def orders_changed_since(self, moment: float, _limit: int, _after_id: str = "") -> ChangedOrders:
        """As SalesforceClient's."""
        status = "Activated" if self._times % 2 else "Reviewed"
        changes = tuple(
            OrderChange(_order(number, status), created_at=moment, changed_at=moment)
            for number in range(2, SMALL, SMALL // _LEARNT)
        )
        return ChangedOrders(changes[:_LEARNT], (), _LEARNT, moment, changes[-1].id)


def _order(number: int, status: str) -> SalesforceOrder:
    """One of those the ledger was filled with."""
    return SalesforceOrder(
        id=f"801B0{number:010d}IAA",
        order_number=f"{number:08d}",
        status=status,
        account_id="001000000000001AAA",
        account_name="Bench",
        whmcs_client_id=None,
        email=None,
        provisioning_status=CustomerStatus.PROVISIONED.value,
        whmcs_order_id=str(number),
        portal_reference=f"PO-{number}",
        items=(),
    )


def _of(order: str) -> sa.Update:
    return fulfillments.update().where(fulfillments.c.sf_order_id == order)


def _median(thing: Callable[[], float], seconds: float) -> float:
    """Milliseconds, of as many as there is time for; the first, which may read what is kept then, doesn't count."""
    thing()
    took: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(took) < 5:
        took.append(thing() * 1000)
    return statistics.median(took)


def _customer(app: Flask) -> FlaskClient:
    """A browser of the account whose orders they are."""
    secret, now = secrets.token_urlsafe(16), time.time()
    session = sessions.Session(
        digest("session", secret), "c@bench.example", None, "001000000000001AAA", None, now, now + 36_000
    )
    with _services(app).ledger.write() as connection:
        sessions.insert(connection, session)
    client = app.test_client()
    client.set_cookie(ACCOUNT_COOKIE, secret, domain="127.0.0.1")
    return client
