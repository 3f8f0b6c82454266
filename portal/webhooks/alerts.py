"""Sends an alert that the ledger's outbox carries to the address a setting names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import requests

from portal.fulfillment.model import UpstreamError

if TYPE_CHECKING:
    from portal.services import Services


def send_alert(services: Services, payload: Mapping[str, Any]) -> None:
    """Post {"body": …} to SECURITY_ALERT_WEBHOOK. Raises UpstreamError when it wasn't taken."""
    address = services.settings.security_alert_webhook
    if not address:
        raise UpstreamError("alerts", "SECURITY_ALERT_WEBHOOK isn't set", permanent=True)
    try:
        answer = requests.post(address, json=payload["body"], timeout=10)
    except requests.RequestException as error:
        raise UpstreamError("alerts", f"the alert wasn't taken: {type(error).__name__}", permanent=False) from None
    if not answer.ok:
        raise UpstreamError("alerts", f"the alert was answered {answer.status_code}", permanent=False)
