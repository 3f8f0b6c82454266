"""Sends the security digest to SECURITY_ALERT_WEBHOOK: signed, and readable by Slack and whatever else takes `text`."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Final

import requests

from portal.domain.model import UpstreamError
from portal.services import Services
from portal.settings import Settings
from portal.webhooks.verifier import sign

_SECONDS: Final = 10.0
_TRANSIENT: Final = frozenset({408, 425, 429})


def send_alert(services: Services, payload: dict[str, Any]) -> None:
    """Send one alert of the outbox: `{"url_setting": "security_alert_webhook", "body": {…}}`.

    Raises UpstreamError when it wasn't taken, permanent when trying again can't help.
    """
    url = getattr(services.settings, str(payload["url_setting"]), None)
    if not url:
        raise UpstreamError("alerts", "SECURITY_ALERT_WEBHOOK isn't set any more", permanent=True, reached=False)
    body = json.dumps(payload["body"]).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "order-portal",
        "X-Portal-Signature": sign(body, alert_secret(services.settings)),
    }
    try:
        with requests.post(
            url, data=body, headers=headers, timeout=_SECONDS, allow_redirects=False, stream=True
        ) as answer:
            status = answer.status_code
    except requests.RequestException as error:
        # only the kind: the address is a secret, and requests puts it into its messages
        raise UpstreamError("alerts", f"the alert webhook failed: {type(error).__name__}", permanent=False) from None
    if not 200 <= status < 300:
        permanent = 300 <= status < 500 and status not in _TRANSIENT
        raise UpstreamError("alerts", f"the alert webhook answered {status}", permanent=permanent, status=status)


def alert_secret(settings: Settings) -> str:
    """What alerts are signed with: SECURITY_ALERT_SECRET, else a key derived from SECRET_KEY (docs/webhooks.md)."""
    if settings.security_alert_secret:
        return settings.security_alert_secret
    return hmac.new((settings.secret_key or "").encode(), b"security alerts", hashlib.sha256).hexdigest()
