"""`flask send-fulfillment`: a correctly signed request from the command line, for whoever sets the two sides up."""

from __future__ import annotations

import json
import secrets
import sys
import time
from urllib.parse import urlsplit

import click
import requests

from portal.domain.ids import salesforce_id_18
from portal.errors import PortalError
from portal.web.context import services
from portal.webhooks.verifier import sign


@click.command("send-fulfillment")
@click.argument("order_id")
@click.option("--url", help="The portal's address; PORTAL_BASE_URL where left out.")
@click.option("--key", help="The Idempotency-Key; a new one (a new click) where left out.")
@click.option("--wait", type=click.IntRange(0, 120), help="Wait for the outcome at most so many seconds.")
@click.option("--verbose", is_flag=True, help="Print the exact bytes that were signed, the headers and the answer's.")
def send_fulfillment(order_id: str, url: str | None, key: str | None, wait: int | None, verbose: bool) -> None:
    """Ask the portal to fulfil ORDER_ID, as Salesforce would. This is the real thing: the order gets fulfilled.

    Waits for its outcome --wait seconds, if at all.

    Ends with 0 when the order is Provisioned or accepted (200, 202), with 1 otherwise.
    """
    try:
        settings = services().settings
        sf_order_id = salesforce_id_18(order_id)
    except (PortalError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    base = (url or settings.portal_base_url).rstrip("/")
    if urlsplit(base).scheme not in ("http", "https"):
        raise click.ClickException("--url must start with http:// or https://")
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    nonce = secrets.token_hex(16)
    message = {"orderId": sf_order_id, "timestamp": timestamp, "nonce": nonce, "requestedBy": "flask send-fulfillment"}
    body = json.dumps(message, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "X-SF-Signature": sign(body, settings.sf_webhook_secret),
        "X-SF-Timestamp": timestamp,
        "X-SF-Nonce": nonce,
        "Idempotency-Key": key or f"cli_{sf_order_id}_{secrets.token_hex(8)}",
    }
    if wait is not None:
        headers["Prefer"] = f"wait={wait}"
    target = f"{base}/orders/{sf_order_id}/fulfill"
    if verbose:
        click.echo(f"POST {target}")
        for name, value in headers.items():
            click.echo(f"{name}: {value}")
        click.echo(f"\nSigned with HMAC-SHA256 (SF_WEBHOOK_SECRET, {len(body)} bytes):")
        click.echo(body)
        click.echo("")
    try:
        answer = requests.post(target, data=body, headers=headers, timeout=(10, 150), allow_redirects=False)
    except requests.RequestException as error:
        raise click.ClickException(f"No answer from {base}: {type(error).__name__}") from None
    click.echo(f"{answer.status_code} {answer.reason}")
    if verbose:
        for name in ("Location", "Retry-After", "Preference-Applied"):
            if name in answer.headers:
                click.echo(f"{name}: {answer.headers[name]}")
    click.echo(answer.text)
    if answer.status_code not in (200, 202):
        sys.exit(1)
