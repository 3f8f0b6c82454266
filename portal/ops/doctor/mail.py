"""Whether the mail server would take the portal's mails; none is sent."""

from __future__ import annotations

from portal.clients.smtp import SmtpTransport
from portal.ops.doctor.model import Check, Context, Finding, error, good, warning
from portal.ops.doctor.settings import SOUND

CONNECT_SECONDS = 8.0


def _server(context: Context) -> Finding:
    settings = context.settings
    if settings.smtp_url is None:
        if settings.production:
            return error("SMTP_URL isn't set: no customer can sign in")
        return good("SMTP_URL isn't set: mails are put into files")
    SmtpTransport(settings.smtp_url, seconds=CONNECT_SECONDS).greet()
    return good()


def _sender(context: Context) -> Finding:
    sender = context.settings.mail_from
    if context.settings.production and sender.endswith("@localhost"):
        return warning(f"MAIL_FROM is {sender}: hardly any mail server takes that")
    return good()


CHECKS = (
    Check(
        id="mail.server",
        description="the mail server answers and lets the portal in",
        run=_server,
        cure="Check SMTP_URL: host, port, smtp:// or smtps://, user and password",
        needs=SOUND,
        retry=True,
    ),
    Check(
        id="mail.sender",
        description="the mails' sender is an address of yours",
        run=_sender,
        cure="Set MAIL_FROM to an address whose domain lets this server send (SPF, DKIM)",
        needs=SOUND,
    ),
)
