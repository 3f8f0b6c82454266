"""The pretend WHMCS and Salesforce org inside the test's process, over real HTTP, and the keys to sign in there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from portal.clients.salesforce.client import SalesforceClient
from portal.clients.salesforce.fields import FieldCache
from portal.clients.whmcs.client import WhmcsClient
from sandbox.salesforce.app import Org
from sandbox.whmcs.app import Whmcs
from sandbox.wire import Server

IDENTIFIER = "canary-identifier-5c1f"
SECRET = "canary-secret-77ab"
USERNAME = "canary-user@portal.example"
CLIENT_ID = "canary-consumer-key"


@cache
def key_pair() -> tuple[bytes, bytes]:
    """One RSA key of the tests': private and public, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


@contextlib.contextmanager
def whmcs_sandbox(folder: Path, **settings: Any) -> Iterator[tuple[Whmcs, WhmcsClient]]:
    """A WHMCS and a client of it."""
    sandbox = Whmcs(folder, {"identifier": IDENTIFIER, "secret": SECRET, "webhooks": False, **settings})
    sandbox.server = Server("127.0.0.1", 0, sandbox.serve)
    sandbox.server.start()
    client = whmcs_client(sandbox.server.url)
    try:
        yield sandbox, client
    finally:
        client.close()
        sandbox.close()


@contextlib.contextmanager
def org_sandbox(folder: Path, **settings: Any) -> Iterator[tuple[Org, SalesforceClient]]:
    """An org and a client of it."""
    public = folder / "public.pem"
    public.write_bytes(key_pair()[1])
    sandbox = Org(folder, {"client_id": CLIENT_ID, "username": USERNAME, "public_key": str(public), **settings})
    sandbox.server = Server("127.0.0.1", 0, sandbox.serve)
    sandbox.server.start()
    client = salesforce_client(sandbox.server.url)
    try:
        yield sandbox, client
    finally:
        client.close()
        sandbox.close()


def whmcs_client(address: str, **more: Any) -> WhmcsClient:
    """A client with the tests' credentials and short deadlines."""
    url = f"{address}/includes/api.php"
    limits = {"read_seconds": 10.0, "write_seconds": 10.0}
    return WhmcsClient(api_url=url, identifier=IDENTIFIER, secret=SECRET, **{**limits, **more})


def salesforce_client(address: str, **more: Any) -> SalesforceClient:
    """A client with the tests' key and user, of an org known to have the portal's package and no person accounts."""
    own = {"Order": ["Portal_Reference__c"], "OrderItem": ["Domain__c", "Hostname__c", "Portal_Reference__c"]}
    values = {
        "field_cache": FieldCache({**own, "Account": []}),
        "login_url": address,
        "audience": "https://test.salesforce.com",
        "client_id": CLIENT_ID,
        "username": USERNAME,
        "private_key": key_pair()[0],
        "api_version": "67.0",
        "read_seconds": 10.0,
        "write_seconds": 10.0,
    }
    return SalesforceClient(**{**values, **more})
