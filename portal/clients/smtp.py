"""Renders and sends one e-mail: text and HTML from templates/mail/, over SMTP with timeouts.

What is mailed is a row of the ledger's outbox; jobs carry it here and try again when this raises. The Message-ID comes
with the row, so that a mail that went out twice (killed between the server's 250 and our record) is recognised as one.
"""

from __future__ import annotations

import contextlib
import logging
import smtplib
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from portal.domain.model import UpstreamError
from portal.settings import Settings
from portal.web import theme
from portal.web.formatting import cycle_words, money
from portal.web.signing import Links

log = logging.getLogger("portal.clients.smtp")

TEMPLATES: Final = Path(__file__).resolve().parents[2] / "templates" / "mail"
TIMEOUT_SECONDS: Final = 20.0

#: Templates whose reader gets a link to the order they are about.
_WITH_ORDER_LINK: Final = frozenset({"received", "provisioned", "needs_you", "order_link"})


class Mailer:
    """Sends mail through SMTP_URL; in development without one, into files under PORTAL_VAR_DIR/mail."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._links = Links(settings)
        self._accent = theme.readable(settings.brand_accent, theme.LIGHT_SURFACES, "#000000")
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=select_autoescape(("html",)),
        )
        self._templates.filters |= {"money": money, "cycle": cycle_words}

    def send(self, payload: Mapping[str, Any]) -> None:
        """Send {"to", "template", "context", "message_id"}. Raises UpstreamError (`permanent`: this mail can't go).

        `message_id` is the part before the @. Mails about an order also hold "account_id" or find it in the context.
        """
        message = self.compose(payload)
        if self._settings.smtp_url is None:
            self._keep(message, str(payload["message_id"]))
            return
        try:
            server = _connect(urlsplit(self._settings.smtp_url))
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
        log.info("Mail sent", extra={"template": payload["template"], "messageId": payload["message_id"]})

    def compose(self, payload: Mapping[str, Any]) -> EmailMessage:
        """The message `send` would send."""
        settings = self._settings
        template = str(payload["template"])
        context: dict[str, Any] = {
            "brand": settings.brand_name,
            "support": settings.brand_support_email,
            "review_time": settings.brand_review_time,
            "accent": (self._accent, theme.ink_on(self._accent)),
            "base_url": settings.portal_base_url,
            **payload.get("context", {}),
        }
        if template in _WITH_ORDER_LINK:
            context["order_url"] = self._links.order(
                reference=context["reference"], account_id=str(payload["account_id"]), now=time.time()
            )
        text = self._templates.get_template(f"{template}.txt").render(context)
        subject, _, body = text.partition("\n")
        context["subject"] = subject.strip()
        message = EmailMessage()
        message["Subject"] = subject.strip()
        message["From"] = Address(settings.brand_name, addr_spec=settings.mail_from)
        message["To"] = str(payload["to"])
        message["Reply-To"] = settings.brand_support_email
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = f"<{payload['message_id']}@{settings.mail_from.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(body.strip() + "\n")
        html = self._templates.get_template(f"{template}.html").render(context)
        message.add_alternative(html, subtype="html")
        return message

    def _keep(self, message: EmailMessage, name: str) -> None:
        if self._settings.production:
            raise _failure("SMTP_URL isn't set", permanent=False)
        folder = self._settings.portal_var_dir / "mail"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.eml").write_bytes(message.as_bytes())
        log.warning("SMTP_URL isn't set: the mail was put into a file", extra={"folder": str(folder)})


def _connect(url: SplitResult) -> smtplib.SMTP:
    host = url.hostname or "localhost"
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, url.port or 465, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context()
        )
    else:
        server = smtplib.SMTP(host, url.port or 587, timeout=TIMEOUT_SECONDS)
    try:
        here = host in ("localhost", "::1") or host.startswith("127.")
        if url.scheme == "smtp" and not here:
            server.starttls(context=ssl.create_default_context())
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))
    except BaseException:
        server.close()
        raise
    return server


def _failure(what: str, *, permanent: bool) -> UpstreamError:
    return UpstreamError("mail", f"Mail: {what}", permanent=permanent)
