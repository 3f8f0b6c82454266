"""What the mails say: text and HTML, made of a template of templates/mail/ and what a row of the outbox holds.

No row holds a link: whoever reads the ledger could use it. Links are made here, when the mail is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from portal.domain.names import to_shown
from portal.settings import Settings
from portal.web import theme
from portal.web.formatting import cycle_words, day_and_time, line_total, money, recurring, review_time
from portal.web.languages import ENGLISH, current, direction, gettext, language_of, ngettext, speaking
from portal.web.signing import Links

TEMPLATES: Final = Path(__file__).resolve().parents[2] / "templates" / "mail"

#: Templates whose reader gets a link to the order they are about.
_WITH_ORDER_LINK: Final = frozenset(
    {
        "received",
        "provisioned",
        "needs_you",
        "order_link",
        "withdrawn",
        "rejected",
        "cancelled",
        "withdrawal_received",
    }
)
#: Read by the merchant's people: English.
FOR_THE_MERCHANT: Final = frozenset({"withdrawal_asked", "operator_sign_in"})


class Composer:
    """Makes messages in the brand's name."""

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
            extensions=["jinja2.ext.i18n"],
        )
        self._templates.policies["ext.i18n.trimmed"] = True
        self._templates.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
        self._templates.filters |= {
            "money": money,
            "cycle": cycle_words,
            "recurring": recurring,
            "line_total": line_total,
            "shown": to_shown,
            "moment": day_and_time,
        }

    def compose(self, payload: Mapping[str, Any], *, now: float, language: str = ENGLISH) -> EmailMessage:
        """The message of {"to", "template", "context", "message_id"}; mails about an order also hold "account_id".

        `language`: the locale it is written in, such as "de" or "en_US"; `message_id`: what stands before the @ of the
        Message-ID; `now`: seconds since 1970, the mail's date, from which its links age. Raises KeyError for a payload
        that lacks one of these, jinja2.TemplateError for an unknown template or a context that lacks what it shows.
        """
        settings = self._settings
        template = str(payload["template"])
        context: dict[str, Any] = {
            "brand": settings.brand_name,
            "support": settings.brand_support_email,
            "accent": (self._accent, theme.ink_on(self._accent)),
            "base_url": settings.portal_base_url,
            "tax_note": settings.tax_note,
            "review_note": settings.review_time_note,
            "name": "",  # of who withdraws, where they gave one
            **payload.get("context", {}),
        }
        if "items" in context:  # an org with one currency names none
            context["currency"] = context.get("currency") or settings.brand_currency
        if template in _WITH_ORDER_LINK:
            context["order_url"] = self._links.order(
                reference=context["reference"], account_id=str(payload["account_id"]), now=now
            )
        with speaking(ENGLISH if template in FOR_THE_MERCHANT else language):
            subject, body, html = self._written(template, context)
            spoken = language_of(current())
        message = EmailMessage()
        message["Subject"] = subject
        message["From"] = Address(settings.brand_name, addr_spec=settings.mail_from)
        message["To"] = str(payload["to"])
        message["Reply-To"] = settings.brand_support_email
        message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
        message["Message-ID"] = f"<{payload['message_id']}@{settings.mail_from.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(body)
        message.add_alternative(html, subtype="html")
        message["Content-Language"] = spoken  # here, because making the parts moves Content-… into the first one
        return message

    def _written(self, template: str, context: dict[str, Any]) -> tuple[str, str, str]:
        """Subject, text and HTML in the current language."""
        context |= {
            "review_time": review_time(self._settings.brand_review_time),
            "language": language_of(current()),
            "direction": direction(),
        }
        text = self._templates.get_template(f"{template}.txt").render(context)
        subject, _, body = text.partition("\n")
        context["subject"] = subject.strip()
        html = self._templates.get_template(f"{template}.html").render(context)
        return subject.strip(), body.strip() + "\n", html
