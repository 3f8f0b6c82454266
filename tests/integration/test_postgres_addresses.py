"""DATABASE_URL as libpq takes it, with real servers: several hosts, of which one takes writes, and TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from portal.ledger import installation
from portal.ledger.engine import Ledger, LedgerUnavailable
from portal.settings.addresses import database_url, sqlalchemy_url
from tests.certificates import tls_server
from tests.deploy.tools import free_port
from tests.postgres import Postgres

#: What a client of PostgreSQL asks first where it wants TLS: a length of 8, and this code.
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@contextmanager
def in_front_of(postgres: Postgres, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A port of 127.0.0.1 that leads to the server's socket. With `tls` it speaks nothing else, as a server whose
    pg_hba.conf has hostssl lines alone (the tests' own server is built without)."""
    path = f"{postgres.server.pgdata}/.s.PGSQL.5432"

    def carry(ours: socket.socket) -> None:
        with contextlib.suppress(OSError), closing(ours), socket.socket(socket.AF_UNIX) as theirs:
            if tls is not None:
                if ours.recv(8) != SSL_REQUEST:
                    return
                ours.sendall(b"S")
            with tls.wrap_socket(ours, server_side=True) if tls is not None else ours as client:
                theirs.connect(path)
                back = threading.Thread(target=pump, args=(theirs, client), daemon=True)
                back.start()
                pump(client, theirs)
                back.join()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=carry, args=(listener.accept()[0],), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = threading.Thread(target=serve)
        server.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            server.join()


@contextmanager
def opened(address: str) -> Iterator[Ledger]:
    """The ledger of a DATABASE_URL."""
    ledger = Ledger(sqlalchemy_url(database_url(address)))
    try:
        yield ledger
    finally:
        ledger.dispose()


def writes(ledger: Ledger) -> bool:
    with ledger.write() as connection:
        installation.put(connection, "tried", 1, now=1.0)
    with ledger.read() as connection:
        return installation.get(connection, "tried") == 1


def test_of_several_hosts_the_one_that_takes_writes_is_used(postgres: Postgres) -> None:
    name = urlsplit(postgres.ledger()).path
    with Postgres() as standby, in_front_of(standby) as reads, in_front_of(postgres) as port:
        standby.server.psql(f"CREATE DATABASE {name.strip('/')}")
        standby.server.psql("ALTER SYSTEM SET default_transaction_read_only = on")
        standby.server.psql("SELECT pg_reload_conf()")
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{reads},127.0.0.1:{port}"
        with opened(f"postgres://postgres@{hosts}{name}?sslmode=disable") as ledger:
            assert writes(ledger)
        # What the address asks for itself is libpq's to do: `any` takes the first that answers.
        with opened(f"postgres://postgres@127.0.0.1:{reads},127.0.0.1:{port}{name}?target_session_attrs=any") as ledger:
            with ledger.read() as connection:
                assert connection.exec_driver_sql("SHOW default_transaction_read_only").scalar_one() == "on"
            with pytest.raises(LedgerUnavailable, match="read-only transaction"), ledger.write() as connection:
                connection.exec_driver_sql("CREATE TABLE tried (x int)")
        nowhere = f"postgres://postgres@127.0.0.1:{port}{name}?target_session_attrs=standby"
        with opened(nowhere) as ledger, pytest.raises(LedgerUnavailable, match="not in hot standby mode"):
            writes(ledger)
        hosts = f"127.0.0.1:{reads},127.0.0.1:{free_port()}"
        address = f"postgres://postgres@{hosts}{name}?sslmode=disable"
        with opened(address) as ledger, pytest.raises(LedgerUnavailable) as refused:
            writes(ledger)
        told = f"{hosts.replace(',', ', ')}: session is read-only; Connection refused"
        assert str(refused.value) == f"the ledger's database can't be used: {told}"


def test_tls_is_what_sslmode_says(postgres: Postgres, tmp_path: Path) -> None:
    context, pem = tls_server(tmp_path)
    (tmp_path / "stranger").mkdir()
    strange = tls_server(tmp_path / "stranger")[1]
    name = urlsplit(postgres.ledger()).path
    with in_front_of(postgres, context) as port:

        def address(options: str, host: str = "127.0.0.1") -> str:
            return f"postgresql://postgres@{host}:{port}{name}?{options}"

        with opened(address(f"sslmode=verify-full&sslrootcert={pem}")) as ledger:
            assert writes(ledger)
        for wrong, why in (
            (address(f"sslmode=verify-full&sslrootcert={strange}"), "certificate verify failed"),
            (address(f"sslmode=verify-full&sslrootcert={pem}", "localhost"), "does not match host name"),
            (address(f"sslmode=verify-full&sslrootcert={tmp_path}/none.pem"), "none.pem"),
            (address("sslmode=disable"), "closed the connection"),
        ):
            with opened(wrong) as ledger, pytest.raises(LedgerUnavailable, match=why) as refused:
                writes(ledger)
            assert f":{port}: " in str(refused.value)
