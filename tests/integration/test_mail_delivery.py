"""Mails against servers that misbehave on the wire: one deadline for each, growing pauses, and given up visibly."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from jobs.relay import REFUSALS, Relay
from portal.clients.smtp import SmtpTransport
from portal.domain.model import UpstreamError
from portal.ledger import outbox
from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade
from portal.ledger.schema import events
from portal.ledger.schema import outbox as table
from portal.settings import Settings

#: What a server does with one command line (b"" at the connection's start): its answer, or None to say nothing more.
Talk = Callable[[bytes], bytes | None]


def polite(line: bytes) -> bytes | None:
    """A server that takes everything."""
    word = line[:4].upper()
    return {b"": b"220 ready", b"DATA": b"354 go on", b".": b"250 taken", b"QUIT": b"221 bye"}.get(word, b"250 fine")


def instead(word: bytes, answer: bytes | None) -> Talk:
    """Polite but for one command."""
    return lambda line: answer if line[:4].upper() == word else polite(line)


@contextlib.contextmanager
def server(talk: Talk, *, drip: float | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """Its address and the mails it took. drip: answers come a byte at a time, so many seconds apart."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()
    taken: list[bytes] = []

    def say(sock: socket.socket, answer: bytes) -> None:
        if drip is None:
            sock.sendall(answer + b"\r\n")
            return
        for byte in answer + b"\r\n":
            if ended.wait(drip):
                return
            sock.sendall(bytes([byte]))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=converse, args=(sock,), daemon=True).start()

    def converse(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock, sock.makefile("rb") as reader:
            body: list[bytes] | None = None
            line = b""
            while True:
                if body is not None and line != b".":
                    body.append(line)
                else:
                    if body is not None:
                        taken.append(b"\n".join(body[1:]))
                        body = None
                    answer = talk(line)
                    if answer is None:
                        ended.wait(60)
                        return
                    say(sock, answer)
                    if answer.startswith(b"354"):
                        body = []
                        line = b""
                        body.append(line)
                line = reader.readline()
                if not line:
                    return
                line = line.rstrip(b"\r\n")

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"smtp://127.0.0.1:{listener.getsockname()[1]}", taken
    finally:
        ended.set()
        listener.close()


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Message-ID"] = "shop@example.com", "ada@example.com", "<1@example.com>"
    mail["Subject"] = "Your order"
    mail.set_content("It is ready.")
    return mail


def test_a_mail_is_delivered() -> None:
    with server(polite) as (url, taken):
        SmtpTransport(url).send(message())
    assert len(taken) == 1
    assert b"It is ready." in taken[0]


@pytest.mark.quiet
@pytest.mark.parametrize("silent_at", [b"", b"EHLO", b"MAIL", b"RCPT", b"DATA", b"."])
def test_a_server_that_falls_silent_is_cut_off(silent_at: bytes) -> None:
    with server(instead(silent_at, None)) as (url, _taken):
        began = time.monotonic()
        with pytest.raises(UpstreamError, match="within 0.7 s") as caught:
            SmtpTransport(url, seconds=0.7).send(message())
        assert time.monotonic() - began < 5
    assert not caught.value.permanent


@pytest.mark.quiet
def test_a_server_that_drips_is_cut_off_at_the_deadline() -> None:
    """Each read succeeds in time, the whole never does."""
    with server(polite, drip=0.2) as (url, taken):
        began = time.monotonic()
        with pytest.raises(UpstreamError, match="within 1.5 s"):
            SmtpTransport(url, seconds=1.5).send(message())
        assert 1.0 < time.monotonic() - began < 6
    assert taken == []


def test_a_clumsy_farewell_is_no_failure() -> None:
    with server(instead(b"QUIT", None)) as (url, taken):
        SmtpTransport(url, seconds=1.0).send(message())
    assert len(taken) == 1


@pytest.mark.quiet
def test_a_tls_server_that_never_shakes_hands_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(UpstreamError, match="within 0.5 s"):
            SmtpTransport(f"smtps://127.0.0.1:{silent.getsockname()[1]}", seconds=0.5).send(message())
        assert time.monotonic() - began < 5


# --- the relay -----------------------------------------------------------------------------------------


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Post:
    """A ledger with one mail in its outbox, and the relay that carries it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite3'}")
        upgrade(self.ledger)
        self.services = SimpleNamespace(
            ledger=self.ledger,
            now=self.clock,
            settings=Settings(secret_key="k" * 40, portal_var_dir=folder),
            smtp=SmtpTransport("smtp://127.0.0.1:9"),
            salesforce=None,
        )
        self.relay = Relay(cast(Any, self.services), "ada")
        payload = {"to": "ada@example.com", "template": "sign_in", "message_id": "m.1"}
        payload["context"] = {"links": [{"account": "Acme", "url": "https://shop.example/o/x"}]}
        with self.ledger.write() as connection:
            outbox.put(connection, "mail", "801000000000001AAA", payload, now=self.clock.now)

    def row(self) -> Any:
        with self.ledger.read() as connection:
            return connection.execute(sa.select(table)).one()

    def events(self) -> list[str]:
        with self.ledger.read() as connection:
            return list(connection.execute(sa.select(events.c.kind)).scalars())

    def try_at_its_time(self) -> float:
        """Let the mail's time come, and try; returns for how long it rests now."""
        self.clock.now = max(self.clock.now, self.row().due_at)
        assert self.relay.mail() == 1
        return float(self.row().due_at - self.clock.now)


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    made = Post(tmp_path)
    # What a mail says is composed elsewhere; the way it takes is what is tried here.
    monkeypatch.setattr(made.relay._mailer, "send", lambda payload: made.services.smtp.send(message()))
    yield made
    made.ledger.dispose()


def test_a_mail_that_fails_for_a_while_is_tried_ever_more_seldom_and_arrives(post: Post) -> None:
    with server(instead(b"MAIL", b"421 busy")) as (url, _taken):
        post.services.smtp = SmtpTransport(url)
        pauses = [post.try_at_its_time() for _ in range(14)]
    assert all(later > earlier for earlier, later in zip(pauses[:8], pauses[1:8], strict=False))
    assert pauses[0] < 2
    assert all(700 < pause < 1100 for pause in pauses[-3:])
    assert post.row().state == "pending"
    assert post.events() == []
    with server(polite) as (url, taken):
        post.services.smtp = SmtpTransport(url)
        post.try_at_its_time()
    assert post.row().state == "sent"
    assert len(taken) == 1


@pytest.mark.parametrize(
    "talk", [instead(b"RCPT", b"550 no such mailbox"), instead(b".", b"554 not wanted")], ids=["address", "content"]
)
def test_a_mail_that_can_never_go_is_given_up_visibly(post: Post, talk: Talk) -> None:
    with server(talk) as (url, _taken):
        post.services.smtp = SmtpTransport(url)
        for _ in range(REFUSALS - 1):
            assert post.try_at_its_time() > 0
        post.try_at_its_time()
    assert post.row().state == "dead"
    assert post.row().error
    assert post.events() == ["message_given_up"]
    post.clock.now += 86_400
    assert post.relay.mail() == 0


def test_a_mail_server_whose_login_is_refused_holds_mails_but_gives_none_up(post: Post) -> None:
    with server(instead(b"MAIL", b"530 authentication required")) as (url, _taken):
        post.services.smtp = SmtpTransport(url)
        for _ in range(REFUSALS + 2):
            post.try_at_its_time()
    assert post.row().state == "pending"
