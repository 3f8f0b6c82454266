"""Sends what the outbox holds for customers. A sign-in mail is only made here, away from the request that asked for it:
so neither answer nor timing tells whether an address is known, and no ledger row ever holds a link.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from portal.ledger import languages
from portal.mail.composer import Composer
from portal.services import Services
from portal.web.languages import ENGLISH
from portal.web.signing import Links

log = logging.getLogger("portal.mail")


class Mailer:
    """Sends rows of the outbox's kind `mail`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._links = Links(services.settings)
        self._composer = Composer(services.settings)

    def send(self, payload: Mapping[str, Any]) -> None:
        """Send one: {"template": "sign_in" or "operator_sign_in", "address"}, or what `Composer.compose` takes.

        Raises UpstreamError: `permanent` ones needn't be tried again. Of an address Salesforce doesn't know, no mail.
        """
        if payload["template"] == "sign_in":
            sign_in = self._sign_in_payload(str(payload["address"]), str(payload.get("language", ENGLISH)))
            if sign_in is None:
                log.info("A sign-in link was asked for an address Salesforce doesn't know")
                return
            payload = sign_in
        elif payload["template"] == "operator_sign_in":
            operator = self._operator_payload(str(payload["address"]))
            if operator is None:
                log.info("A link into /ops was asked for an address that isn't in OPS_EMAILS")
                return
            payload = operator
        language = self._language(payload)
        self._services.smtp.send(self._composer.compose(payload, now=self._services.now(), language=language))
        log.info("Mail sent", extra={"template": payload["template"], "messageId": payload["message_id"]})

    def _language(self, payload: Mapping[str, Any]) -> str:
        """The account's; else the one the mail was asked for in. A mail to an operator belongs to no account."""
        if "account_id" not in payload:
            return ENGLISH
        with self._services.ledger.read() as connection:
            found = languages.of_account(connection, str(payload["account_id"]))
        asked_in = payload.get("language")
        if found is not None and (found.chosen or asked_in is None):
            return found.language
        return str(asked_in or ENGLISH)

    def _operator_payload(self, address: str) -> dict[str, Any] | None:
        """A link into /ops for an address of OPS_EMAILS; None for every other."""
        if address not in {each.address for each in self._services.settings.ops_emails}:
            return None
        return {
            "to": address,
            "template": "operator_sign_in",
            "context": {"url": self._links.operator(address, now=self._services.now())},
            "message_id": f"operator.{secrets.token_hex(12)}",
        }

    def _sign_in_payload(self, address: str, language: str) -> dict[str, Any] | None:
        """A link for each account the address is a Contact of; None for an address that is none.

        `language`: of the page that asked; what one of the accounts has chosen comes before it.
        """
        accounts = {
            contact.account_id: contact  # of two in one account the newer
            for contact in reversed(self._services.salesforce.contacts_by_email(address))
        }
        if not accounts:
            return None
        now = self._services.now()
        links = [
            {
                "account": contact.account_name,
                "url": self._links.sign_in(
                    email=address,
                    contact_id=contact.id,
                    account_id=contact.account_id,
                    now=now,
                    currency=contact.currency,
                    client_id=contact.whmcs_client_id,
                ),
            }
            for contact in accounts.values()
        ]
        return {
            "to": address,
            "template": "sign_in",
            "account_id": next(iter(accounts)),
            "language": language,
            "context": {"links": links},
            "message_id": f"sign-in.{secrets.token_hex(12)}",
        }
