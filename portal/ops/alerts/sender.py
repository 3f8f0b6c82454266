"""Sends one alert of the outbox: to SECURITY_ALERT_WEBHOOK, or as a mail to one of ALERT_EMAILS."""

from __future__ import annotations

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from portal.services import Services
from portal.webhooks.alerts import send_alert


def send(services: Services, payload: dict[str, Any]) -> None:
    """Send it: {"email", "subject", "text", "message_id"}, or what `portal.webhooks.alerts.send_alert` takes.

    Raises UpstreamError when it wasn't taken, permanent when trying again can't help.
    """
    if "email" not in payload:
        send_alert(services, payload)
        return
    settings = services.settings
    message = EmailMessage()
    message["Subject"] = f"[{settings.brand_name}] {payload['subject']}"
    message["From"] = Address(settings.brand_name, addr_spec=settings.mail_from)
    message["To"] = str(payload["email"])
    message["Date"] = format_datetime(datetime.fromtimestamp(services.now(), UTC))
    message["Message-ID"] = f"<{payload['message_id']}@{settings.mail_from.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(str(payload["text"]))
    services.smtp.send(message)
