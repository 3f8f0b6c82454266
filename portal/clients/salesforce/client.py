"""Salesforce over its REST API: what a fulfillment and the customers' pages ask of it.

simple-salesforce builds the requests, but signs in nowhere and is never given its SFType calls: its own login knows
only *.salesforce.com over https, and SFType calls repeat a refused token without end. So the token is fetched here
(JWT bearer), shared, and renewed once for a call whose token was refused. Only standard fields and the portal's own
custom ones are named in queries, so that any org with the portal's package answers them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError
from simple_salesforce.format import format_soql

from portal.clients.http import TokenExpired, UpstreamClient, is_loopback
from portal.clients.redaction import redact
from portal.clients.transport import Session
from portal.domain.model import SalesforceItem, SalesforceOrder, Updates, UpstreamError, salesforce_id_18
from portal.settings import Settings

T = TypeVar("T")

NAME: Final = "Salesforce"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_SECONDS: Final = 180  # Salesforce takes at most three to five minutes
MAX_UPDATES: Final = 200  # records in one composite call
NEW_ORDER_STATUS: Final = "Pending Review"

#: errorCodes that may be different at the next try, though they come with a 4xx.
TRANSIENT_CODES: Final = frozenset(
    {
        "API_CURRENTLY_DISABLED",
        "API_DISABLED_FOR_ORG",
        "ENTITY_IS_LOCKED",
        "INVALID_SESSION_ID",
        "QUERY_TIMEOUT",
        "REQUEST_LIMIT_EXCEEDED",
        "REQUEST_RUNNING_TOO_LONG",
        "SERVER_UNAVAILABLE",
        "UNABLE_TO_LOCK_ROW",
        "UNKNOWN_EXCEPTION",
    }
)

#: What to do about each refusal of a token: (error, part of its description) → the sentence that fixes it.
SIGN_IN_HELP: Final = (
    (
        "invalid_grant",
        "approved this consumer",
        "SF_USERNAME isn't the API user, or that user isn't pre-authorized: in the External Client App's policies "
        "choose “Admin approved users are pre-authorized” and give the user a permission set assigned to the app",
    ),
    (
        "invalid_grant",
        "audience",
        "the audience is wrong: set SF_AUDIENCE to https://test.salesforce.com for a sandbox, to "
        "https://login.salesforce.com otherwise",
    ),
    (
        "invalid_grant",
        "expired",
        "the assertion had expired when it arrived: set this machine's clock right",
    ),
    (
        "invalid_grant",
        "assertion",
        "the assertion wasn't accepted: SF_PRIVATE_KEY_PATH must belong to the certificate uploaded to the External "
        "Client App, and SF_USERNAME must be an active user of this org",
    ),
    ("invalid_grant", "inactive", "the user of SF_USERNAME, or the whole org, is inactive"),
    ("invalid_grant", "", "the sign-in was refused: check SF_USERNAME, SF_CLIENT_ID, SF_AUDIENCE and the certificate"),
    ("invalid_client_id", "", "SF_CLIENT_ID isn't the consumer key of an app of this org"),
    ("invalid_client", "", "SF_CLIENT_ID isn't the consumer key of an app of this org, or its certificate differs"),
    (
        "invalid_app_access",
        "",
        "the app doesn't let this user in: assign the app's permission set to the user of SF_USERNAME",
    ),
    ("inactive_user", "", "the user of SF_USERNAME is inactive"),
    ("inactive_org", "", "the org is inactive"),
    ("unsupported_grant_type", "", "the app doesn't allow the JWT bearer flow: enable it in the app's OAuth settings"),
    ("rate_limit_exceeded", "", "too many sign-ins of this user"),
)


# --- records -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    """An access token and where it is good. `repr` shows neither."""

    access_token: str = field(repr=False)
    instance_url: str
    organization_id: str | None = None  # 18 characters


class TokenStore(Protocol):
    """Where the token is kept between calls; one per process by default, one for all of them if the caller has one."""

    def get(self) -> Token | None:
        """The token last set."""

    def set(self, token: Token) -> None:
        """Keep `token` instead of the one before."""

    def lock(self) -> AbstractContextManager[Any]:
        """Held by the one caller that fetches a new token."""


class ProcessTokenStore:
    """The token of this process, shared by its threads."""

    def __init__(self) -> None:
        self._token: Token | None = None
        self._lock = threading.Lock()

    def get(self) -> Token | None:
        return self._token

    def set(self, token: Token) -> None:
        self._token = token

    def lock(self) -> AbstractContextManager[Any]:
        return self._lock


@dataclass(frozen=True)
class Contact:
    """A person of an account. `repr` shows only ids."""

    id: str
    account_id: str
    account_name: str = field(repr=False)
    whmcs_client_id: str | None
    first_name: str = field(repr=False)
    last_name: str = field(repr=False)
    email: str = field(repr=False)


@dataclass(frozen=True)
class CatalogueEntry:
    """An active pricebook entry of an active product. `unit_price`: decimal text."""

    id: str
    product_id: str
    name: str
    description: str
    family: str
    unit_price: str
    wh_product_id: str | None
    billing_cycle: str | None


@dataclass(frozen=True)
class NewOrderItem:
    """One item of an order to be created; `unit_price` is decimal text."""

    pricebook_entry_id: str
    quantity: int
    unit_price: str
    domain: str | None = None
    hostname: str | None = None


@dataclass(frozen=True)
class NewOrder:
    """An order to be created. Its reference makes it one: Portal_Reference__c is unique in Salesforce."""

    reference: str
    account_id: str
    pricebook_id: str
    effective_date: date
    items: tuple[NewOrderItem, ...]


@dataclass(frozen=True)
class OrderSummary:
    """One line of an account's list of orders. Moments are seconds since 1970; `total` is decimal text."""

    id: str
    order_number: str
    status: str
    provisioning_status: str | None
    error_code: str | None
    whmcs_order_id: str | None
    portal_reference: str | None
    created_at: float
    last_provisioning_at: float | None
    total: str | None
    items: tuple[tuple[str, int], ...]  # product name, quantity


@dataclass(frozen=True)
class OrderChange:
    """What the sweep learns of an order that changed in Salesforce: what it is now, but nobody's e-mail."""

    order: SalesforceOrder
    created_at: float  # seconds since 1970
    changed_at: float

    @property
    def id(self) -> str:
        """The order's id, 18 characters."""
        return self.order.id


# --- the client ----------------------------------------------------------------------------------------


class SalesforceClient(UpstreamClient):
    """Implements portal.domain.ports.SalesforcePort; the rest is for customers' pages, the sweep and the doctor.

    Every method raises UpstreamError. Each HTTP call has its own deadline: `read_seconds`, or `write_seconds` where
    the call changes something. Signing in and following a second page are calls of their own.
    """

    def __init__(
        self,
        *,
        login_url: str,
        audience: str,
        client_id: str,
        username: str,
        private_key: bytes,
        api_version: str,
        token_store: TokenStore | None = None,
        read_seconds: float = 15.0,
        write_seconds: float = 30.0,
    ) -> None:
        """`private_key`: PEM of an unencrypted RSA key; raises ValueError, naming the setting, when it is none."""
        super().__init__(NAME)
        self._login_url = login_url.rstrip("/")
        self._audience = audience
        self._client_id = client_id
        self._username = username
        self._key = _rsa_key(private_key)
        self._version = api_version
        self._tokens: TokenStore = token_store if token_store is not None else ProcessTokenStore()
        self.read_seconds = read_seconds
        self.write_seconds = write_seconds
        self.api_usage: tuple[int, int] | None = None  # calls used and allowed a day, as last heard

    @classmethod
    def from_settings(cls, settings: Settings, token_store: TokenStore | None = None) -> SalesforceClient:
        """The client of these settings."""
        return cls(
            login_url=settings.sf_login_url,
            audience=settings.salesforce_audience,
            client_id=settings.sf_client_id,
            username=settings.sf_username,
            private_key=settings.sf_private_key_path.read_bytes(),
            api_version=settings.sf_api_version,
            token_store=token_store,
        )

    # --- what a fulfillment needs

    def fetch_order(self, sf_order_id: str) -> SalesforceOrder | None:
        """The order with its account and items, in one query; None when Salesforce doesn't know it.

        Where the account has no WHMCS client yet, a second query asks for its contact.
        """
        try:
            sf_order_id = salesforce_id_18(sf_order_id)
        except ValueError:
            return None
        soql = format_soql(_ORDER, sf_order_id)
        try:
            records = self._query("fetch_order", soql)
        except UpstreamError as error:
            # Only these two speak of the id; a NOT_FOUND for a query means that the address itself is unknown.
            if error.code not in ("MALFORMED_ID", "INVALID_QUERY_FILTER_OPERATOR"):
                raise
            records = []
        if not records:
            return None
        record = records[0]
        rows = self._children("fetch_order", record, "OrderItems")
        order = self._parsed(lambda: _order(record, rows))
        if order.whmcs_client_id is not None:
            return order
        contact = self._contact_of(order.account_id)
        if contact is None:
            return order
        return self._parsed(lambda: _order(record, rows, contact))

    def update_order(self, sf_order_id: str, fields: Mapping[str, Any]) -> None:
        """Set fields of one Order (None clears a field; numbers go as text, which Salesforce's text fields want)."""
        self._patch("update_order", f"sobjects/Order/{salesforce_id_18(sf_order_id)}", fields)

    def update_orders(self, updates: Updates) -> list[UpstreamError | None]:
        """Set fields of up to 200 different Orders in one call; for each, None or what was wrong with it.

        Raises UpstreamError when the call as a whole failed, ValueError for more than 200.
        """
        if len(updates) > MAX_UPDATES:
            raise ValueError(f"at most {MAX_UPDATES} updates go into one call")
        if not updates:
            return []
        body = {
            "allOrNone": False,
            "records": [
                {"attributes": {"type": "Order"}, "id": salesforce_id_18(sf_order_id), **_sendable(fields)}
                for sf_order_id, fields in updates
            ],
        }
        answer = self._call("update_orders", _rest("PATCH", "composite/sobjects", body), effect=True)
        if not isinstance(answer, list) or len(answer) != len(updates):
            raise self._unexpected("its answer doesn't tell what became of each order", effect=True)
        return [None if _truth(row, "success") else self._refusal(_list(row, "errors"), 400) for row in answer]

    def set_whmcs_client(self, account_id: str, client_id: str) -> None:
        """Write Account.WHMCS_Client_ID__c."""
        path = f"sobjects/Account/{salesforce_id_18(account_id)}"
        self._patch("set_whmcs_client", path, {"WHMCS_Client_ID__c": str(client_id)})

    def accounts_with_email(self, email: str) -> int:
        """How many accounts have a contact of this address."""
        soql = format_soql("SELECT AccountId FROM Contact WHERE Email = {} AND AccountId != null", email)
        return len({row.get("AccountId") for row in self._private_query("accounts_with_email", soql)})

    def requested_orders(self, limit: int) -> list[str]:
        """Ids (18 characters) of orders whose Provisioning_Status__c is `Requested`, oldest change first."""
        soql = format_soql(
            "SELECT Id FROM Order WHERE Provisioning_Status__c = 'Requested' ORDER BY LastModifiedDate LIMIT {}",
            int(limit),
        )
        records = self._query("requested_orders", soql)
        return self._parsed(lambda: [salesforce_id_18(row["Id"]) for row in records])

    # --- what the customers' pages need

    def contacts_by_email(self, email: str) -> list[Contact]:
        """The contacts of this address that belong to an account, most recently changed first."""
        soql = format_soql(
            "SELECT Id, FirstName, LastName, Email, AccountId, Account.Name, Account.WHMCS_Client_ID__c "
            "FROM Contact WHERE Email = {} AND AccountId != null ORDER BY LastModifiedDate DESC",
            email,
        )
        records = self._private_query("contacts_by_email", soql)
        return self._parsed(lambda: [_contact(row) for row in records])

    def contact_by_email(self, email: str) -> Contact | None:
        """The contact of this address, when it belongs to exactly one account; None else."""
        contacts = self.contacts_by_email(email)
        return contacts[0] if len({contact.account_id for contact in contacts}) == 1 else None

    def catalogue(self, pricebook_id: str) -> list[CatalogueEntry]:
        """Active entries of active products of a pricebook, by name."""
        soql = format_soql(
            "SELECT Id, UnitPrice, Product2Id, Product2.Name, Product2.Description, Product2.Family, "
            "Product2.WH_Product_ID__c, Product2.Billing_Cycle__c FROM PricebookEntry "
            "WHERE Pricebook2Id = {} AND IsActive = true AND Product2.IsActive = true ORDER BY Product2.Name",
            salesforce_id_18(pricebook_id),
        )
        records = self._query("catalogue", soql)
        return self._parsed(lambda: [_catalogue_entry(row) for row in records])

    def create_order(self, order: NewOrder) -> str:
        """Create the order with its items, all or nothing, in one call; returns its id.

        An order of this reference that is already there is found instead. UpstreamError.unknown: the answer was lost,
        ask `find_order_by_reference` (or call again: the reference can't be used twice).
        """
        known: str | None = None
        try:
            answer = self._call("create_order", _rest("POST", "composite/tree/Order", _tree(order)), effect=True)
        except UpstreamError as error:
            known = self.find_order_by_reference(order.reference) if error.code == "DUPLICATE_VALUE" else None
            if known is None:
                raise
        if known is not None:
            return known
        created = [str(row.get("id") or "") for row in _list(answer, "results") if row.get("referenceId") == "order"]
        if not created or _truth(answer, "hasErrors"):
            raise self._unexpected("its answer doesn't name the order it created", effect=True)
        return self._parsed(lambda: salesforce_id_18(created[0]), effect=True)

    def find_order_by_reference(self, reference: str) -> str | None:
        """The id of the order whose Portal_Reference__c is `reference`."""
        soql = format_soql("SELECT Id FROM Order WHERE Portal_Reference__c = {} LIMIT 1", reference)
        records = self._query("find_order_by_reference", soql)
        return self._parsed(lambda: salesforce_id_18(records[0]["Id"]) if records else None)

    def orders_of_account(self, account_id: str, limit: int, before: OrderSummary | None = None) -> list[OrderSummary]:
        """The account's orders, whoever placed them, newest first; `before`: the last one of the page before."""
        soql = format_soql(_SUMMARY + " WHERE AccountId = {}", salesforce_id_18(account_id))
        if before is not None:
            then = _literal(before.created_at)
            soql += format_soql(f" AND (CreatedDate < {then} OR (CreatedDate = {then} AND Id < {{}}))", before.id)
        soql += format_soql(" ORDER BY CreatedDate DESC, Id DESC LIMIT {}", int(limit))
        records = self._query("orders_of_account", soql)
        rows = [(record, self._children("orders_of_account", record, "OrderItems")) for record in records]
        return self._parsed(lambda: [_summary(record, children) for record, children in rows])

    # --- what the sweep and the doctor need

    def orders_changed_since(self, moment: float, limit: int, after_id: str = "") -> list[OrderChange]:
        """Orders changed at or after `moment` (seconds since 1970), oldest change first.

        To read on, give the last row's `changed_at`, and its id as `after_id`: many orders may share one moment.
        """
        since = _literal(moment)
        soql = _CHANGED
        if after_id:
            soql += format_soql(
                f" WHERE LastModifiedDate > {since} OR (LastModifiedDate = {since} AND Id > {{}})", after_id
            )
        else:
            soql += f" WHERE LastModifiedDate >= {since}"
        soql += format_soql(" ORDER BY LastModifiedDate, Id LIMIT {}", int(limit))
        records = self._query("orders_changed_since", soql)
        rows = [(record, self._children("orders_changed_since", record, "OrderItems")) for record in records]
        return self._parsed(lambda: [_change(record, children) for record, children in rows])

    def organization_id(self) -> str | None:
        """The org's id (18 characters), as the sign-in told it; signs in if need be."""
        return self._token(None).organization_id

    def describe(self, sobject: str) -> Mapping[str, Any]:
        """Salesforce's own description of an object (`fields[].name`, picklist values), for the doctor."""
        answer = self._call("describe", _rest("GET", f"sobjects/{quote(sobject, safe='')}/describe"), effect=False)
        if not isinstance(answer, dict):
            raise self._unexpected("it described nothing", effect=False)
        return answer

    def sign_in(self) -> Token:
        """Fetch a new token, whatever is cached (the doctor's first question). It replaces the cached one."""
        with self._tokens.lock():
            token = self._fetch_token()
            self._tokens.set(token)
        return token

    # --- tokens

    def _token(self, refused: Token | None) -> Token:
        """The shared token, or a new one where there is none or it is the one that was refused."""
        token = self._tokens.get()
        if token is None or token == refused:
            with self._tokens.lock():
                token = self._tokens.get()
                if token is None or token == refused:
                    token = self._fetch_token()
                    self._tokens.set(token)
        return token

    def _fetch_token(self) -> Token:
        claims = {
            "iss": self._client_id,
            "sub": self._username,
            "aud": self._audience,
            "exp": int(time.time()) + ASSERTION_SECONDS,
        }
        assertion = jwt.encode(claims, self._key, algorithm="RS256")

        def run(session: Session) -> Token:
            response = session.post(
                f"{self._login_url}/services/oauth2/token", data={"grant_type": GRANT, "assertion": assertion}
            )
            return self._token_of(response)

        return self.exchange("sign_in", self.read_seconds, run, effect=False)

    def _token_of(self, response: requests.Response) -> Token:
        answer = _json_object(response)
        if response.status_code == 200 and answer.get("access_token") and answer.get("instance_url"):
            address = str(answer["instance_url"]).rstrip("/")
            parts = urlsplit(address)
            host = parts.hostname or ""
            if host and (parts.scheme == "https" or parts.scheme == "http" and is_loopback(host)):
                return Token(str(answer["access_token"]), address, _organization_of(answer.get("id")))
            raise self._unexpected("the sign-in named an instance_url that is no https address", effect=False)
        code = str(answer.get("error") or "")
        if not code or response.status_code >= 500 or response.status_code == 429:
            raise self._not_useful(response.status_code, effect=False)
        description = str(answer.get("error_description") or "")
        fits = (words for known, part, words in SIGN_IN_HELP if known == code and part in description.lower())
        sentence = next(fits, "the sign-in was refused")
        # A setting is wrong, not the order: it waits, and the doctor and the log say what to do.
        raise UpstreamError(
            NAME,
            f"Salesforce: {sentence} ({code}: {self._redacted(description)})",
            permanent=False,
            code=code,
            status=response.status_code,
        )

    # --- calls

    def _call(self, action: str, run: Callable[[Salesforce], T], *, effect: bool) -> T:
        """`run` with a client whose token works; a refused token is renewed once."""
        token = self._token(None)
        try:
            return self._attempt(action, token, run, effect, last=False)
        except TokenExpired:
            pass
        return self._attempt(action, self._token(token), run, effect, last=True)

    def _attempt(self, action: str, token: Token, run: Callable[[Salesforce], T], effect: bool, last: bool) -> T:
        seconds = self.write_seconds if effect else self.read_seconds

        def within(session: Session) -> T:
            parts = urlsplit(token.instance_url)
            session.plain_hosts = frozenset({parts.netloc}) if parts.scheme == "http" else frozenset()
            client = Salesforce(
                session_id=token.access_token,
                instance_url=token.instance_url,
                session=session,
                version=self._version,
                parse_float=Decimal,
                object_pairs_hook=dict,
            )
            client.headers.pop("X-PrettyPrint", None)
            refused: SalesforceError | None = None
            try:
                result = run(client)
            except SalesforceError as error:
                refused = error
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
                pass
            else:
                usage = client.api_usage.get("api-usage")
                if usage is not None:
                    self.api_usage = (usage.used, usage.total)
                return result
            # Not inside `except`: simple-salesforce's exceptions hold the address and the whole body.
            if refused is None:
                raise self._unexpected("its answer isn't JSON", effect=effect, code="not_json")
            if refused.status == 401 and not last:
                raise TokenExpired
            raise self._refusal(refused.content, refused.status, effect=effect)

        return self.exchange(action, seconds, within, effect=effect)

    def _patch(self, action: str, path: str, fields: Mapping[str, Any]) -> None:
        self._call(action, _rest("PATCH", path, _sendable(fields)), effect=True)

    def _query(self, action: str, soql: str) -> list[dict[str, Any]]:
        """All records of a query, following its pages."""
        return self._pages(action, self._call(action, lambda sf: sf.query(soql), effect=False))

    def _private_query(self, action: str, soql: str) -> list[dict[str, Any]]:
        """A query that names a person: inside a composite's body, for an address ends up in everybody's logs."""
        url = f"/services/data/v{self._version}/query?q={quote(soql, safe='')}"
        body = {"compositeRequest": [{"method": "GET", "url": url, "referenceId": "result"}]}

        answer = self._call(action, _rest("POST", "composite", body), effect=False)
        parts = _list(answer, "compositeResponse")
        if len(parts) != 1 or not isinstance(parts[0].get("httpStatusCode"), int):
            raise self._unexpected("its answer to a composite isn't one", effect=False)
        status = parts[0]["httpStatusCode"]
        if status >= 300:
            raise self._refusal(parts[0].get("body"), status)
        return self._pages(action, parts[0].get("body"))

    def _pages(self, action: str, page: Any) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        while True:
            if not isinstance(page, dict) or not isinstance(page.get("records"), list):
                raise self._unexpected("its answer holds no records", effect=False)
            records += [record for record in page["records"] if isinstance(record, dict)]
            more = page.get("nextRecordsUrl")
            if not more:
                return records
            if not str(more).startswith("/services/data/"):  # the token goes there: only to the instance itself
                raise self._unexpected("it named a next page elsewhere", effect=False)
            page = self._call(action, _next_page(str(more)), effect=False)

    def _children(self, action: str, record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        """The rows of a child subquery; null when there are none, and paged like any other result."""
        child = record.get(name)
        return self._pages(action, child) if child else []

    def _contact_of(self, account_id: str) -> Mapping[str, Any] | None:
        soql = format_soql(
            "SELECT Id, FirstName, LastName, Email, Phone, Account.Name, Account.Phone, Account.BillingStreet, "
            "Account.BillingCity, Account.BillingState, Account.BillingPostalCode, Account.BillingCountry "
            "FROM Contact WHERE AccountId = {} AND Email != null ORDER BY CreatedDate, Id LIMIT 1",
            account_id,
        )
        records = self._query("contact_of_account", soql)
        return records[0] if records else None

    # --- errors

    def _parsed(self, parse: Callable[[], T], *, effect: bool = False) -> T:
        """`parse()`, its stumbling over an unexpected shape turned into an UpstreamError."""
        try:
            return parse()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, InvalidOperation):
            pass
        raise self._unexpected("its answer has an unexpected shape", effect=effect)

    def _refusal(self, content: object, status: int, *, effect: bool = False) -> UpstreamError:
        """What Salesforce's error body says: a list of {errorCode or statusCode, message, fields}."""
        errors = _errors(content)
        if not errors or status >= 500:
            code = str(errors[0].get("errorCode") or "") if errors else ""
            return self._not_useful(status, effect=effect, code=code)
        first = errors[0]
        code = str(first.get("errorCode") or first.get("statusCode") or "")
        text = "; ".join(str(error.get("message") or "") for error in errors[:3])
        # A trigger that couldn't lock a row is reported under the trigger's own code.
        transient = code in TRANSIENT_CODES or status in (401, 408, 420, 429) or "UNABLE_TO_LOCK_ROW" in text
        return UpstreamError(
            NAME,
            f"Salesforce: {self._redacted(text)} ({code or status})",
            permanent=not transient,
            code=code or f"http_{status}",
            status=status,
        )

    def _not_useful(self, status: int, *, effect: bool, code: str = "") -> UpstreamError:
        """An answer that isn't Salesforce's own word: a proxy's page, a 5xx, a redirect."""
        done = effect and not 300 <= status < 400 and status not in (404, 413, 429)
        hint = ": check SF_LOGIN_URL" if 300 <= status < 400 or status == 404 else ""
        return UpstreamError(
            NAME,
            f"Salesforce answered {status} without a usable body{hint}",
            permanent=False,
            unknown=done,
            code=code or f"http_{status}",
            status=status,
        )

    def _unexpected(self, what: str, *, effect: bool, code: str = "unexpected_answer") -> UpstreamError:
        return UpstreamError(NAME, f"Salesforce: {what}", permanent=False, unknown=effect, code=code)

    def _redacted(self, text: str) -> str:
        token = self._tokens.get()
        return redact(text, [self._username, self._client_id, *([token.access_token] if token else [])])


# --- the queries ---------------------------------------------------------------------------------------

_ORDER_FIELDS: Final = (
    "SELECT Id, OrderNumber, Status, AccountId, Account.Name, Account.WHMCS_Client_ID__c, Provisioning_Status__c, "
    "WHMCS_Order_ID__c, Last_Provisioning_At__c, Portal_Reference__c, TotalAmount, "
    "(SELECT Id, Quantity, UnitPrice, Domain__c, Hostname__c, Product2.Name, Product2.WH_Product_ID__c, "
    "Product2.Billing_Cycle__c FROM OrderItems)"
)
_ORDER: Final = _ORDER_FIELDS + " FROM Order WHERE Id = {}"
_CHANGED: Final = _ORDER_FIELDS + ", CreatedDate, LastModifiedDate FROM Order"
_SUMMARY: Final = (
    "SELECT Id, OrderNumber, Status, Provisioning_Status__c, Provisioning_Error_Code__c, WHMCS_Order_ID__c, "
    "Last_Provisioning_At__c, Portal_Reference__c, CreatedDate, TotalAmount, "
    "(SELECT Quantity, Product2.Name FROM OrderItems) FROM Order"
)


def _rest(method: str, path: str, body: Any = None) -> Callable[[Salesforce], Any]:
    def run(sf: Salesforce) -> Any:
        return sf.restful(path, method=method, **({} if body is None else {"json": body}))

    return run


def _next_page(path: str) -> Callable[[Salesforce], Any]:
    return lambda sf: sf.query_more(path, identifier_is_url=True)


# --- from and to Salesforce's JSON ---------------------------------------------------------------------


def _order(
    record: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    contact: Mapping[str, Any] | None = None,
    quantity: Callable[[object], int] | None = None,
) -> SalesforceOrder:
    account = record.get("Account") or {}
    return SalesforceOrder(
        id=salesforce_id_18(record["Id"]),
        order_number=_text(record.get("OrderNumber")) or "",
        status=_text(record.get("Status")) or "",
        account_id=salesforce_id_18(record["AccountId"]),
        account_name=_text(account.get("Name")) or "",
        whmcs_client_id=_text(account.get("WHMCS_Client_ID__c")),
        email=_text(contact.get("Email")) if contact else None,
        provisioning_status=_text(record.get("Provisioning_Status__c")),
        whmcs_order_id=_text(record.get("WHMCS_Order_ID__c")),
        portal_reference=_text(record.get("Portal_Reference__c")),
        items=tuple(_item(row, quantity or _whole) for row in rows),
        total=_money(record.get("TotalAmount")),
        contact=_client_details(contact) if contact else {},
        attempted_before=_text(record.get("Last_Provisioning_At__c")) is not None,
    )


def _item(row: Mapping[str, Any], quantity: Callable[[object], int]) -> SalesforceItem:
    product = row.get("Product2") or {}
    return SalesforceItem(
        id=salesforce_id_18(row["Id"]),
        product_name=_text(product.get("Name")) or "",
        quantity=quantity(row.get("Quantity")),
        unit_price=_money(row.get("UnitPrice")) or "0.00",
        wh_product_id=_text(product.get("WH_Product_ID__c")),
        billing_cycle=_text(product.get("Billing_Cycle__c")),
        domain=_text(row.get("Domain__c")),
        hostname=_text(row.get("Hostname__c")),
    )


def _client_details(contact: Mapping[str, Any]) -> dict[str, str]:
    """What AddClient can be told of a contact, under AddClient's own names."""
    account = contact.get("Account") or {}
    named = {
        "firstname": contact.get("FirstName"),
        "lastname": contact.get("LastName"),
        "email": contact.get("Email"),
        "companyname": account.get("Name"),
        "phonenumber": contact.get("Phone") or account.get("Phone"),
        "address1": account.get("BillingStreet"),
        "city": account.get("BillingCity"),
        "state": account.get("BillingState"),
        "postcode": account.get("BillingPostalCode"),
        "country": account.get("BillingCountry"),
    }
    return {name: text for name, value in named.items() if (text := _text(value)) is not None}


def _contact(row: Mapping[str, Any]) -> Contact:
    account = row.get("Account") or {}
    return Contact(
        id=salesforce_id_18(row["Id"]),
        account_id=salesforce_id_18(row["AccountId"]),
        account_name=_text(account.get("Name")) or "",
        whmcs_client_id=_text(account.get("WHMCS_Client_ID__c")),
        first_name=_text(row.get("FirstName")) or "",
        last_name=_text(row.get("LastName")) or "",
        email=_text(row.get("Email")) or "",
    )


def _catalogue_entry(row: Mapping[str, Any]) -> CatalogueEntry:
    product = row.get("Product2") or {}
    return CatalogueEntry(
        id=salesforce_id_18(row["Id"]),
        product_id=salesforce_id_18(row["Product2Id"]),
        name=_text(product.get("Name")) or "",
        description=_text(product.get("Description")) or "",
        family=_text(product.get("Family")) or "",
        unit_price=_money(row["UnitPrice"]) or "0.00",
        wh_product_id=_text(product.get("WH_Product_ID__c")),
        billing_cycle=_text(product.get("Billing_Cycle__c")),
    )


def _summary(row: Mapping[str, Any], children: Sequence[Mapping[str, Any]]) -> OrderSummary:
    created = _moment(row.get("CreatedDate"))
    if created is None:
        raise ValueError("an order has a CreatedDate")
    return OrderSummary(
        id=salesforce_id_18(row["Id"]),
        order_number=_text(row.get("OrderNumber")) or "",
        status=_text(row.get("Status")) or "",
        provisioning_status=_text(row.get("Provisioning_Status__c")),
        error_code=_text(row.get("Provisioning_Error_Code__c")),
        whmcs_order_id=_text(row.get("WHMCS_Order_ID__c")),
        portal_reference=_text(row.get("Portal_Reference__c")),
        created_at=created,
        last_provisioning_at=_moment(row.get("Last_Provisioning_At__c")),
        total=_money(row.get("TotalAmount")),
        items=tuple(
            (_text((child.get("Product2") or {}).get("Name")) or "", _about(child.get("Quantity")))
            for child in children
        ),
    )


def _change(row: Mapping[str, Any], children: Sequence[Mapping[str, Any]]) -> OrderChange:
    created, changed = _moment(row.get("CreatedDate")), _moment(row.get("LastModifiedDate"))
    if created is None or changed is None:
        raise ValueError("an order has a CreatedDate and a LastModifiedDate")
    order = _order(row, children, quantity=_about)  # one odd order mustn't keep the others from being learnt
    return OrderChange(order=order, created_at=created, changed_at=changed)


def _tree(order: NewOrder) -> dict[str, Any]:
    """The body of composite/tree/Order. Items carry references of their own, so that no item is there twice."""
    items = [
        {
            "attributes": {"type": "OrderItem", "referenceId": f"item{number}"},
            "PricebookEntryId": salesforce_id_18(item.pricebook_entry_id),
            "Quantity": item.quantity,
            "UnitPrice": float(Decimal(item.unit_price)),
            "Portal_Reference__c": f"{order.reference}-{number}",
            **({"Domain__c": item.domain} if item.domain else {}),
            **({"Hostname__c": item.hostname} if item.hostname else {}),
        }
        for number, item in enumerate(order.items, start=1)
    ]
    record = {
        "attributes": {"type": "Order", "referenceId": "order"},
        "AccountId": salesforce_id_18(order.account_id),
        "Pricebook2Id": salesforce_id_18(order.pricebook_id),
        "EffectiveDate": order.effective_date.isoformat(),
        "Status": NEW_ORDER_STATUS,
        "Portal_Reference__c": order.reference,
        "OrderItems": {"records": items},
    }
    return {"records": [record]}


def _sendable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Field values as text: Salesforce's text fields refuse JSON numbers, and the portal sets no number field."""
    return {
        name: str(value) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else value
        for name, value in fields.items()
    }


def _errors(content: object) -> list[Mapping[str, Any]]:
    """The errors in a body: REST's own list, or those of a tree's first failed record."""
    if isinstance(content, dict):
        found = [_list(result, "errors") for result in _list(content, "results") if result.get("errors")]
        return [*found[0]] if found else [content] if content.get("errorCode") else []
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def _list(container: object, name: str) -> list[dict[str, Any]]:
    value = container.get(name) if isinstance(container, dict) else None
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _truth(container: object, name: str) -> bool:
    return isinstance(container, dict) and container.get(name) is True


def _text(value: object) -> str | None:
    """Text of a field, None for null and for nothing but blanks; a number (99 or 99.0) becomes its digits."""
    if value is None or isinstance(value, dict | list | bool):
        return None
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else value
    return str(value).strip() or None


def _money(value: object) -> str | None:
    """A currency field as decimal text with two places or more."""
    if value is None:
        return None
    amount = Decimal(str(value))
    if not amount.is_finite():
        raise ValueError("no amount")
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    return format(amount if exponent <= -2 else amount.quantize(Decimal("0.01")), "f")


def _whole(value: object) -> int:
    """A quantity. WHMCS sells whole ones only, and rounding would sell another number than was ordered."""
    amount = Decimal(str(value))
    if amount != amount.to_integral_value():
        raise UpstreamError(
            NAME,
            f"an order item has the quantity {amount.normalize():f}; only whole quantities can be provisioned",
            permanent=True,
            code="FRACTIONAL_QUANTITY",
        )
    return int(amount)


def _about(value: object) -> int:
    """A quantity for showing: a fraction is rounded up."""
    return int(Decimal(str(value or 0)).to_integral_value(ROUND_CEILING))


def _moment(value: object) -> float | None:
    """`2026-11-21T16:38:52.000+0000` as seconds since 1970."""
    return datetime.fromisoformat(str(value)).timestamp() if value else None


def _literal(moment: float) -> str:
    """A moment as SOQL writes it; fractions only where there are some (Salesforce's own dates have whole seconds)."""
    when = datetime.fromtimestamp(round(moment, 3), UTC)
    return when.isoformat(timespec="milliseconds" if when.microsecond else "seconds").replace("+00:00", "Z")


def _organization_of(identity: object) -> str | None:
    """The org's id in the sign-in's `id`, https://login.salesforce.com/id/<org>/<user>."""
    parts = urlsplit(str(identity or "")).path.split("/")
    try:
        return salesforce_id_18(parts[2]) if len(parts) > 2 else None
    except ValueError:
        return None


def _json_object(response: requests.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _rsa_key(pem: bytes) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("SF_PRIVATE_KEY_PATH must name an unencrypted RSA private key in PEM form")
    return key
