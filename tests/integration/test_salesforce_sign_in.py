"""How the Salesforce client signs in, keeps its token, and says what is wrong with either."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Iterator

import jwt
import pytest

from portal.clients.http import Hooks
from portal.clients.salesforce.auth import Token
from portal.domain.model import UpstreamError
from tests.upstream.salesforce import EXPIRED, NO_RECORDS, ORDER_ID, TOKEN_CANARY, requests_of, talking_to, token_answer
from tests.upstream.sandboxes import CLIENT_ID, USERNAME, key_pair, salesforce_client
from tests.upstream.wire import answer, serving


def test_the_assertion_is_what_salesforce_wants() -> None:
    with talking_to(answer(NO_RECORDS)) as (wire, client):
        assert client.fetch_order(ORDER_ID) is None
        form = wire.seen[0].form
        assert wire.seen[0].target == "/services/oauth2/token"
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        claims = jwt.decode(form["assertion"], key_pair()[1], ["RS256"], audience="https://test.salesforce.com")
        assert (claims["iss"], claims["sub"]) == (CLIENT_ID, USERNAME)
        remaining = claims["exp"] - datetime.datetime.now(datetime.UTC).timestamp()
        assert 60 < remaining <= 180
        assert wire.seen[1].headers["authorization"] == f"Bearer {TOKEN_CANARY}"
        assert client.organization_id() == "00DD000000K0fXOMAZ"


def test_the_token_is_kept_and_the_connection_too() -> None:
    with talking_to(answer(NO_RECORDS)) as (wire, client):
        for _ in range(4):
            client.fetch_order(ORDER_ID)
        assert requests_of(wire) == ["POST /services/oauth2/token"] + ["GET /services/data/v67.0/query/"] * 4
        assert wire.connections == 1


def test_a_refused_token_is_renewed_once() -> None:
    heard: list[tuple[str, str]] = []

    def hear(upstream: str, action: str, outcome: str, seconds: float, error: UpstreamError | None) -> None:
        heard.append((action, outcome))

    with talking_to(hooks=Hooks(after_call=hear)) as (wire, client):
        wire.acts += [answer(EXPIRED, 401), token_answer(wire.address, "second"), answer(NO_RECORDS)]
        client.fetch_order(ORDER_ID)
        assert wire.seen[3].headers["authorization"] == "Bearer second"
        assert heard == [("sign_in", "ok"), ("fetch_order", "expired"), ("sign_in", "ok"), ("fetch_order", "ok")]


@pytest.mark.parametrize("write", [False, True])
def test_a_token_that_is_always_refused_ends(write: bool) -> None:
    with talking_to() as (wire, client):
        wire.acts += [answer(EXPIRED, 401), token_answer(wire.address, "second"), answer(EXPIRED, 401)]
        with pytest.raises(UpstreamError) as caught:
            client.update_order(ORDER_ID, {"WHMCS_Order_ID__c": "1"}) if write else client.fetch_order(ORDER_ID)
        assert (caught.value.permanent, caught.value.unknown) == (False, False)
        assert caught.value.code == "INVALID_SESSION_ID"
        assert len(wire.seen) == 4


def test_many_threads_fetch_one_token() -> None:
    with talking_to(answer(NO_RECORDS)) as (wire, client):
        gate = threading.Barrier(6)

        def ask() -> None:
            gate.wait()
            client.fetch_order(ORDER_ID)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert requests_of(wire).count("POST /services/oauth2/token") == 1
        assert len(wire.seen) == 7


def test_a_shared_store_keeps_the_token_for_others() -> None:
    class Store:
        token: Token | None = None
        locked = 0

        def get(self) -> Token | None:
            return self.token

        def set(self, token: Token) -> None:
            self.token = token

        @contextlib.contextmanager
        def lock(self) -> Iterator[None]:
            self.locked += 1
            yield

    store = Store()
    with talking_to(answer(NO_RECORDS), token_store=store) as (wire, client):
        client.fetch_order(ORDER_ID)
        other = salesforce_client(wire.address, token_store=store)
        other.fetch_order(ORDER_ID)
        other.close()
        assert requests_of(wire).count("POST /services/oauth2/token") == 1
        assert store.locked == 1


@pytest.mark.parametrize(
    ("error", "description", "hint"),
    [
        ("invalid_grant", "user hasn't approved this consumer", "pre-authorized"),
        ("invalid_grant", "audience is invalid", "SF_AUDIENCE"),
        ("invalid_grant", "expired authorization code", "clock"),
        ("invalid_grant", "invalid assertion", "SF_PRIVATE_KEY_PATH"),
        ("invalid_client_id", "client identifier invalid", "SF_CLIENT_ID"),
        ("invalid_app_access", "user is not admin approved to access this app", "permission set"),
    ],
)
def test_a_refused_sign_in_says_what_fixes_it_and_fails_no_order(error: str, description: str, hint: str) -> None:
    with serving(answer({"error": error, "error_description": description}, 400)) as wire:
        client = salesforce_client(wire.address)
        with pytest.raises(UpstreamError) as caught:
            client.fetch_order(ORDER_ID)
        client.close()
    assert (caught.value.permanent, caught.value.unknown, caught.value.code) == (False, False, error)
    assert hint in caught.value.message


@pytest.mark.parametrize(
    "address", ["http://evil.example", "ftp://127.0.0.1", "", "http://127.0.0.1.evil.example", "javascript:1"]
)
def test_a_token_goes_to_https_or_this_machine_only(address: str) -> None:
    body = {"access_token": TOKEN_CANARY, "instance_url": address}
    with serving(answer(body)) as wire:
        client = salesforce_client(wire.address)
        with pytest.raises(UpstreamError):
            client.fetch_order(ORDER_ID)
        client.close()
        assert len(wire.seen) == 1


def test_a_next_page_elsewhere_is_not_followed() -> None:
    page = {"totalSize": 2, "done": False, "nextRecordsUrl": "@evil.example/services/data/", "records": [{}]}
    with talking_to(answer(page)) as (wire, client), pytest.raises(UpstreamError):
        client.requested_orders(5)
    assert len(wire.seen) == 2


def test_a_key_that_is_none_is_refused_at_the_start() -> None:
    for pem in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(ValueError, match="SF_PRIVATE_KEY_PATH"):
            salesforce_client("http://127.0.0.1:1", private_key=pem)
