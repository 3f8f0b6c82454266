"""Sends one e-mail over SMTP, with timeouts, and tells whether it may be tried again.

What is mailed is a row of the ledger's outbox; the relay carries it here and tries again when this raises. A mail that
went out twice (killed between the server's 250 and our record) is recognised by its Message-ID: it comes with the row.
"""

from __future__ import annotations

import contextlib
import logging
import smtplib
import ssl
from email.message import EmailMessage
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from portal.clients.http import is_loopback
from portal.domain.model import UpstreamError
from portal.settings import Settings

log = logging.getLogger("portal.clients.smtp")

TIMEOUT_SECONDS: Final = 20.0


class SmtpTransport:
    """Sends mail through one server; without a server, in development, into files."""

    def __init__(self, url: str | None, *, folder: Path | None = None) -> None:
        """`url`: smtp://user:password@host:port (smtps:// for TLS from the start); `folder`: where mails are put into
        files when there is no `url`. With neither no mail goes.
        """
        self._url = urlsplit(url) if url is not None else None
        self._folder = folder

    @classmethod
    def from_settings(cls, settings: Settings) -> SmtpTransport:
        """SMTP_URL's; development without it puts mails under PORTAL_VAR_DIR/mail, production sends none."""
        return cls(settings.smtp_url, folder=None if settings.production else settings.portal_var_dir / "mail")

    def send(self, message: EmailMessage) -> None:
        """Send a message that has its From, To and Message-ID.

        Raises UpstreamError; `permanent` where the server said by a 5xx (RFC 5321 §4.2.1) that this mail can't go.
        """
        if self._url is None:
            self._keep(message)
            return
        try:
            server = _connect(self._url)
            try:
                server.send_message(message)
                with contextlib.suppress(OSError, smtplib.SMTPException):
                    server.quit()  # taken is taken: a clumsy farewell must not send it again
            finally:
                server.close()
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise _failure("the recipient was refused", permanent=all(500 <= code < 600 for code in codes)) from None
        except smtplib.SMTPResponseException as error:
            # A login refused or a sender unknown is for the operator to mend: the mail waits for it.
            permanent = isinstance(error, smtplib.SMTPDataError) and 500 <= error.smtp_code < 600
            raise _failure(f"the mail server answered {error.smtp_code}", permanent=permanent) from None
        except (OSError, smtplib.SMTPException) as error:
            raise _failure(f"the mail server can't be reached ({type(error).__name__})", permanent=False) from None

    def _keep(self, message: EmailMessage) -> None:
        if self._folder is None:
            raise _failure("SMTP_URL isn't set", permanent=False)
        self._folder.mkdir(parents=True, exist_ok=True)
        name = str(message["Message-ID"]).strip("<>").rpartition("@")[0]
        (self._folder / f"{name}.eml").write_bytes(message.as_bytes())
        log.warning("SMTP_URL isn't set: the mail was put into a file", extra={"folder": str(self._folder)})


def _connect(url: SplitResult) -> smtplib.SMTP:
    host = url.hostname or "localhost"
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, url.port or 465, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context()
        )
    else:
        server = smtplib.SMTP(host, url.port or 587, timeout=TIMEOUT_SECONDS)
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
