"""The pretend token endpoint checks a JWT as Salesforce does, so a wrongly configured portal fails here too."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.control import SalesforceSandbox
from sandbox.salesforce import oauth
from tests.certificates import certificate
from tests.sandbox.conftest import GRANT, USERNAME, Keys, assertion, token_answer


def test_a_good_assertion(org: SalesforceSandbox, keys: Keys) -> None:
    answer = token_answer(org, assertion(keys))
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"access_token", "scope", "instance_url", "id", "token_type"}
    assert (body["token_type"], body["instance_url"]) == ("Bearer", org.url)
    assert body["id"].split("/")[-2] == org.state("Organization")["organizationId"]


@pytest.mark.parametrize(
    ("claims", "error", "description"),
    [
        ({"iss": "somebody"}, "invalid_client_id", "client identifier invalid"),
        ({"sub": "somebody@example.com"}, "invalid_grant", "user hasn't approved this consumer"),
        ({"aud": "https://example.com"}, "invalid_grant", "audience is invalid"),
        ({"aud": None}, "invalid_grant", "audience is invalid"),
        ({"exp": int(time.time()) - 1}, "invalid_grant", "expired authorization code"),
        ({"exp": int(time.time()) + 3600}, "invalid_grant", "invalid assertion"),
        ({"exp": None}, "invalid_grant", "invalid assertion"),
    ],
)
def test_wrong_claims(org: SalesforceSandbox, keys: Keys, claims: dict[str, Any], error: str, description: str) -> None:
    answer = token_answer(org, assertion(keys, **claims))
    assert answer.status_code == 400
    assert answer.json() == {"error": error, "error_description": description}


def test_both_audiences_and_the_configured_one(org: SalesforceSandbox, keys: Keys) -> None:
    org.settings(audience="https://northwind.my.salesforce.com")
    for audience in (
        "https://login.salesforce.com",
        "https://test.salesforce.com",
        "https://northwind.my.salesforce.com",
    ):
        assert token_answer(org, assertion(keys, aud=audience)).status_code == 200


def test_an_expiry_in_milliseconds_is_let_in_like_the_clis(org: SalesforceSandbox, keys: Keys) -> None:
    assert token_answer(org, assertion(keys, exp=int(time.time() * 1000) + 300)).status_code == 200


def test_a_revoked_token_is_over(org: SalesforceSandbox, keys: Keys) -> None:
    signed_in = token_answer(org, assertion(keys)).json()
    bearer = {"Authorization": f"Bearer {signed_in['access_token']}"}
    about = requests.get(signed_in["id"], headers=bearer, timeout=30).json()
    assert (about["username"], about["organization_id"]) == (USERNAME, org.state("Organization")["organizationId"])
    revoke = f"{org.url}/services/oauth2/revoke"
    assert requests.post(revoke, data={"token": signed_in["access_token"]}, timeout=30).status_code == 200
    assert requests.get(signed_in["id"], headers=bearer, timeout=30).status_code == 401
    assert requests.post(revoke, data={"token": "nothing"}, timeout=30).json()["error"] == "invalid_token"


def test_forged_assertions(org: SalesforceSandbox, keys: Keys) -> None:
    good = assertion(keys)
    head, claims, signature = good.split(".")
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = [
        jwt.encode(jwt.decode(good, options={"verify_signature": False}), other, "RS256"),
        f"{head}.{claims}.{signature[:-4]}AAAA",
        f"{head}.{claims}.",
        good[:-1] + "!",
        "",
        "a.b.c",
        f"{_pack({'alg': 'none'})}.{claims}.",
        f"{_pack({'alg': 'HS256'})}.{claims}.{signature}",
        f"{head}.{_pack({'iss': 'x'})}.{signature}",
    ]
    for token in forged:
        answer = token_answer(org, token)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), token
    assert token_answer(org, good, grant="password").json()["error"] == "unsupported_grant_type"
    assert GRANT
    assert token_answer(org, good).status_code == 200


def _pack(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_switches(org: SalesforceSandbox, keys: Keys) -> None:
    org.settings(app_blocked=True)
    assert token_answer(org, assertion(keys)).json()["error"] == "invalid_app_access"
    org.settings(app_blocked=False, user_approved=False)
    assert token_answer(org, assertion(keys)).json()["error_description"] == "user hasn't approved this consumer"
    org.settings(user_approved=True)
    org.fault("INVALID_GRANT", action="token")
    assert token_answer(org, assertion(keys)).status_code == 400
    assert token_answer(org, assertion(keys)).status_code == 200


@pytest.mark.parametrize("size", [2048, 3072])
def test_a_certificate_is_as_good_as_a_key(tmp_path: Path, size: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=size)
    path = tmp_path / "certificate.pem"
    path.write_bytes(certificate(key, "portal"))
    numbers = key.public_key().public_numbers()
    assert oauth.load_public_key(path) == (numbers.n, numbers.e)
    token = jwt.encode({"iss": "x"}, key, "RS256")
    assert oauth.verify(token, oauth.load_public_key(path)) == {"iss": "x"}
    assert oauth.verify(token, (numbers.n - 2, numbers.e)) is None
