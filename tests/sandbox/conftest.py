"""The pretend sides as the tests here use them: one process each for all tests, plus clients nobody here wrote."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce

from sandbox import seeds
from sandbox.control import Mailbox, SalesforceSandbox, WhmcsSandbox

CLIENT_ID = "3MVG9.tests.consumer.key"
USERNAME = "portal@northwind.example"
WEBHOOK_SECRET = "sf-webhook-secret-of-the-tests-0123456789"
WHMCS_WEBHOOK_SECRET = "whmcs-webhook-secret-of-the-tests-0123456789"
IDENTIFIER, SECRET = "tests-identifier", "tests-secret"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Keys(NamedTuple):
    """The portal's key pair: the private key, and the file with the public one."""

    private: rsa.RSAPrivateKey
    public_path: Path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """One pair for all tests here."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = tmp_path_factory.mktemp("keys") / "public.pem"
    path.write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return Keys(private, path)


def start_org(folder: Path, keys: Keys) -> SalesforceSandbox:
    """An org of one's own, whose API user may do everything (test_permissions.py has the other one)."""
    org = SalesforceSandbox.start(
        folder,
        "--public-key",
        str(keys.public_path),
        "--client-id",
        CLIENT_ID,
        "--username",
        USERNAME,
        environment={"SANDBOX_WEBHOOK_SECRET": WEBHOOK_SECRET},
    )
    org.settings(permissions="administrator")
    return org


def start_whmcs(folder: Path) -> WhmcsSandbox:
    """A WHMCS of one's own."""
    return WhmcsSandbox.start(
        folder,
        environment={
            "SANDBOX_WHMCS_IDENTIFIER": IDENTIFIER,
            "SANDBOX_WHMCS_SECRET": SECRET,
            "SANDBOX_WHMCS_WEBHOOK_SECRET": WHMCS_WEBHOOK_SECRET,
        },
    )


class Sides(NamedTuple):
    """Both sides, seeded; `ids` are Salesforce's by name (sandbox.seeds)."""

    org: SalesforceSandbox
    whmcs: WhmcsSandbox
    ids: dict[str, str]


@pytest.fixture(scope="session")
def shared_sides(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Sides]:
    """Both sides, started and seeded once."""
    folder = tmp_path_factory.mktemp("sandbox")
    with start_org(folder, keys) as org, start_whmcs(folder) as whmcs:
        yield Sides(org, whmcs, seeds.seed(org.url, whmcs.url))


@pytest.fixture
def sides(shared_sides: Sides) -> Iterator[Sides]:
    """Both sides; what a test scripted or switched is undone after it."""
    before = [side.settings() for side in shared_sides[:2]]
    yield shared_sides
    for side, settings in zip(shared_sides[:2], before, strict=True):
        side.clear_faults()
        side.release(then="drop")
        # A secret reads as "set" or None: tests that change one put it back themselves.
        side.settings(**{name: value for name, value in settings.items() if value != "set" and name != "api_used"})
    shared_sides.whmcs.heal_modules()


@pytest.fixture
def org(sides: Sides) -> SalesforceSandbox:
    """The pretend org, as `sides` has it."""
    return sides.org


@pytest.fixture
def whmcs(sides: Sides) -> WhmcsSandbox:
    """The pretend WHMCS, as `sides` has it."""
    return sides.whmcs


@pytest.fixture(scope="session")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    """A mailbox, started once."""
    with Mailbox.start(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


# -- Salesforce's side


def assertion(keys: Keys, **claims: Any) -> str:
    """A JWT as the portal makes it; claims may be replaced, None leaves one out."""
    full = {
        "iss": CLIENT_ID,
        "sub": USERNAME,
        "aud": "https://login.salesforce.com",
        "exp": int(time.time()) + 180,
        **claims,
    }
    return jwt.encode({name: value for name, value in full.items() if value is not None}, keys.private, "RS256")


def token_answer(org: SalesforceSandbox, token: str, grant: str = GRANT) -> requests.Response:
    """The token endpoint's answer."""
    return requests.post(f"{org.url}/services/oauth2/token", data={"grant_type": grant, "assertion": token}, timeout=30)


class LoopbackOverHttp(HTTPAdapter):
    """simple-salesforce writes https into every address; the sandbox speaks http on this machine."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send it over http."""
        request.url = (request.url or "").replace("https://127.0.0.1", "http://127.0.0.1", 1)
        return super().send(request, *args, **kwargs)


@pytest.fixture
def salesforce(org: SalesforceSandbox, keys: Keys) -> Iterator[Callable[[], Any]]:
    """Makes simple-salesforce clients, signed in with a fresh token."""
    with requests.Session() as session:
        session.mount("https://127.0.0.1", LoopbackOverHttp())

        def sign_in() -> Any:
            answer = token_answer(org, assertion(keys)).json()
            return Salesforce(
                session_id=answer["access_token"], instance_url=answer["instance_url"], session=session, version="67.0"
            )

        yield sign_in


@pytest.fixture
def sf(salesforce: Callable[[], Any]) -> Any:
    """A signed-in simple-salesforce client."""
    return salesforce()


@pytest.fixture
def new_order(sf: Any, sides: Sides) -> Callable[..., str]:
    """Places an order with items (names of sandbox.seeds; default one `starter`) through the REST API."""
    ids = sides.ids

    def place(*products: str, customer: str = "ada", status: str = "Pending Review", **fields: Any) -> str:
        created = sf.Order.create(
            {
                "AccountId": ids[f"account:{customer}"],
                "EffectiveDate": "2026-11-21",
                "Status": status,
                "Pricebook2Id": ids["pricebook"],
                **fields,
            }
        )
        for product in products or ("starter",):
            sf.OrderItem.create(
                {"OrderId": created["id"], "PricebookEntryId": ids[f"entry:{product}"], "Quantity": 1, "UnitPrice": 5}
            )
        return str(created["id"])

    return place


# -- WHMCS' side


@pytest.fixture
def api(whmcs: WhmcsSandbox) -> Iterator[Callable[..., requests.Response]]:
    """Raw calls of api.php with credentials: `api("AddOrder", clientid=1, **{"pid[0]": 1})`."""
    with requests.Session() as session:

        def call(action: str, *, keep: bool = True, **params: Any) -> requests.Response:
            form = {"identifier": IDENTIFIER, "secret": SECRET, "responsetype": "json", "action": action, **params}
            headers = {} if keep else {"Connection": "close"}
            return session.post(whmcs.api_url, data=form, headers=headers, timeout=30)

        yield call


@pytest.fixture
def client(api: Callable[..., requests.Response]) -> Callable[..., int]:
    """Adds WHMCS clients of the test's own; answers the id."""

    def add(email: str, **fields: Any) -> int:
        answer = api(
            "AddClient",
            **{
                "firstname": "Test",
                "lastname": "Client",
                "email": email,
                "address1": "1 Road",
                "city": "Town",
                "state": "TX",
                "postcode": "12345",
                "country": "US",
                "phonenumber": "1",
                "password2": "pw",
                **fields,
            },
        ).json()
        assert answer["result"] == "success", answer
        return int(answer["clientid"])

    return add
