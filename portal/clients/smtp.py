"""Sends one e-mail over SMTP, within one deadline for all of it, and tells whether it may be tried again.

smtplib bounds each read: a server that drips a byte now and then would hold every later mail back. Here the whole
conversation, from the look-up of the name to the last reply, has SEND_SECONDS.

What is mailed is a row of the ledger's outbox; the relay carries it here and tries again when this raises. A mail that
went out twice (killed between the server's 250 and our record) is recognised by its Message-ID: it comes with the row.
"""

from __future__ import annotations

import contextlib
import io
import logging
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from portal.clients.http import is_loopback
from portal.clients.transport import DeadlineReader, open_socket
from portal.domain.model import UpstreamError
from portal.settings import Settings

log = logging.getLogger("portal.clients.smtp")

#: Less than the relay's claim on a mail, so that no other process sends it meanwhile.
SEND_SECONDS: Final = 30.0


class _Smtp(smtplib.SMTP):
    """A connection that knows when its time is over. `left`: seconds left; raises TimeoutError when there are none."""

    def __init__(self, host: str, port: int, *, left: Callable[[], float], **options: Any) -> None:
        self._left = left
        # Given, because smtplib would ask DNS for it, without any bound (RFC 5321 section 4.1.4 takes either).
        name = socket.gethostname()
        super().__init__(host, port, name if "." in name else "[127.0.0.1]", timeout=left(), **options)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return open_socket(host, port, self._left)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            raw: Any = self.sock.makefile("rb", buffering=0)
            self.file = io.BufferedReader(DeadlineReader(raw, self.sock, self._left))
        return super().getreply()

    def send(self, s: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(self._left())
        super().send(s)


class _SmtpTls(_Smtp, smtplib.SMTP_SSL):
    """The same over TLS from the start; `timeout` is in seconds."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = super()._get_socket(host, port, timeout)
        try:
            return self.context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise


class SmtpTransport:
    """Sends mail through one server; without a server, in development, into files."""

    def __init__(self, url: str | None, *, folder: Path | None = None, seconds: float = SEND_SECONDS) -> None:
        """`url`: smtp://user:password@host:port (smtps:// for TLS from the start); `folder`: where mails are put into
        files when there is no `url`. With neither no mail goes. `seconds`: for one mail, all in all.
        """
        self.seconds = seconds
        self._url = urlsplit(url) if url is not None else None
        self._folder = folder

    @classmethod
    def from_settings(cls, settings: Settings) -> SmtpTransport:
        """SMTP_URL's; development without it puts mails under PORTAL_VAR_DIR/mail, production sends none."""
        return cls(settings.smtp_url, folder=None if settings.production else settings.portal_var_dir / "mail")

    def greet(self) -> None:
        """Connect, encrypt and sign in as for a mail, say EHLO, and leave. Raises UpstreamError."""
        if self._url is None:
            raise _failure("SMTP_URL isn't set", permanent=False)
        with self._failures() as left:
            server = _connect(self._url, left)
            try:
                server.ehlo_or_helo_if_needed()
                with contextlib.suppress(OSError, smtplib.SMTPException):
                    server.quit()
            finally:
                server.close()

    def send(self, message: EmailMessage) -> None:
        """Send a message that has its From, To and Message-ID.

        Raises UpstreamError; `permanent` where the server said by a 5xx (RFC 5321 §4.2.1) that this mail can't go.
        """
        if self._url is None:
            self._keep(message)
            return
        with self._failures() as left:
            server = _connect(self._url, left)
            try:
                server.send_message(message)
                with contextlib.suppress(OSError, smtplib.SMTPException):
                    server.quit()  # taken is taken: a clumsy farewell must not send it again
            finally:
                server.close()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[Callable[[], float]]:
        """Gives what is left of `seconds`, and turns what smtplib raises into UpstreamErrors."""
        left = _countdown(self.seconds)
        try:
            yield left
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise _failure("the recipient was refused", permanent=all(500 <= code < 600 for code in codes)) from None
        except smtplib.SMTPAuthenticationError as error:
            raise _failure(f"the mail server refuses SMTP_URL's user ({error.smtp_code})", permanent=False) from None
        except smtplib.SMTPResponseException as error:
            # A login refused or a sender unknown is for the operator to mend: the mail waits for it.
            permanent = isinstance(error, smtplib.SMTPDataError) and 500 <= error.smtp_code < 600
            raise _failure(f"the mail server answered {error.smtp_code}", permanent=permanent) from None
        except (OSError, UnicodeError, smtplib.SMTPException) as error:
            if _over(left):  # smtplib calls it a lost connection
                raise _failure(f"the mail server didn't take it within {self.seconds:g} s", permanent=False) from None
            raise _failure(f"the mail server can't be reached ({type(error).__name__})", permanent=False) from None

    def _keep(self, message: EmailMessage) -> None:
        if self._folder is None:
            raise _failure("SMTP_URL isn't set", permanent=False)
        self._folder.mkdir(parents=True, exist_ok=True)
        name = str(message["Message-ID"]).strip("<>").rpartition("@")[0]
        (self._folder / f"{name}.eml").write_bytes(message.as_bytes())
        log.warning("SMTP_URL isn't set: the mail was put into a file", extra={"folder": str(self._folder)})


def _countdown(seconds: float) -> Callable[[], float]:
    """What is left of `seconds` from now on; raises TimeoutError when nothing is."""
    end = time.monotonic() + seconds

    def left() -> float:
        remaining = end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the mail's time is over")
        return remaining

    return left


def _over(left: Callable[[], float]) -> bool:
    try:
        left()
    except TimeoutError:
        return True
    return False


def _connect(url: SplitResult, left: Callable[[], float]) -> smtplib.SMTP:
    host = url.hostname or "localhost"
    server: smtplib.SMTP
    if url.scheme == "smtps":
        server = _SmtpTls(host, url.port or 465, left=left, context=ssl.create_default_context())
    else:
        server = _Smtp(host, url.port or 587, left=left)
    try:
        if url.scheme == "smtp" and not is_loopback(host):
            server.starttls(context=ssl.create_default_context())
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))
    except BaseException:
        server.close()
        raise
    return server


def _failure(what: str, *, permanent: bool) -> UpstreamError:
    return UpstreamError("mail", f"Mail: {what}", permanent=permanent)
