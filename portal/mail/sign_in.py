"""Sends what the outbox holds for customers. A sign-in mail is only made here, away from the request that asked for it:
so neither answer nor timing tells whether an address is known, and no ledger row ever holds a link.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from portal.services import Services
from portal.web.signing import Links

log = logging.getLogger("portal.clients.smtp")


def send_mail(services: Services, payload: Mapping[str, Any]) -> None:
    """Send one row of the outbox's kind `mail`. Raises UpstreamError: `permanent` ones needn't be tried again."""
    if payload["template"] == "sign_in":
        _send_sign_in(services, str(payload["address"]))
    else:
        services.mailer.send(payload)


def _send_sign_in(services: Services, address: str) -> None:
    """A link for each account the address is a Contact of; nothing for an address that is none."""
    accounts = {
        contact.account_id: contact
        for contact in reversed(services.salesforce.contacts_by_email(address))  # of two in one account the newer
    }
    if not accounts:
        log.info("A sign-in link was asked for an address Salesforce doesn't know")
        return
    links = Links(services.settings)
    now = services.now()
    services.mailer.send(
        {
            "to": address,
            "template": "sign_in",
            "context": {
                "links": [
                    {
                        "account": contact.account_name,
                        "url": links.sign_in(
                            email=address, contact_id=contact.id, account_id=contact.account_id, now=now
                        ),
                    }
                    for contact in accounts.values()
                ]
            },
            "message_id": f"sign-in.{secrets.token_hex(12)}",
        }
    )
