"""Salesforce over its REST API: what a fulfillment and the customers' pages ask of it.

simple-salesforce builds the requests, but signs in nowhere and is never given its SFType calls: its own login knows
only *.salesforce.com over https, and SFType calls repeat a refused token without end. So the token is fetched by
`auth` (JWT bearer), shared, and renewed once for a call whose token was refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError

from portal.clients.http import Hooks, TokenExpired, UpstreamClient
from portal.clients.salesforce import errors, queries, records
from portal.clients.salesforce.auth import Authenticator, ProcessTokenStore, Token, TokenStore
from portal.clients.salesforce.errors import NAME, objects
from portal.clients.salesforce.records import CatalogueEntry, Contact, NewOrder, OrderChange, OrderSummary
from portal.clients.transport import Session
from portal.domain.ids import salesforce_id_18
from portal.domain.model import SalesforceOrder, Updates, UpstreamError
from portal.settings import Settings

T = TypeVar("T")

MAX_UPDATES: Final = 200  # records in one composite call


class SalesforceClient(UpstreamClient):
    """Implements portal.domain.ports.SalesforcePort; the rest is for customers' pages and the sweep.

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
        hooks: Hooks | None = None,
    ) -> None:
        """`private_key`: PEM of an unencrypted RSA key; raises ValueError, naming the setting, when it is none.

        `api_version` as in addresses (`67.0`); `token_store`: where the token is shared, else in this process only.
        """
        super().__init__(NAME, hooks)
        self._auth = Authenticator(
            self,
            login_url=login_url,
            audience=audience,
            client_id=client_id,
            username=username,
            private_key=private_key,
            store=token_store if token_store is not None else ProcessTokenStore(),
            seconds=read_seconds,
        )
        self._version = api_version
        self.read_seconds = read_seconds
        self.write_seconds = write_seconds
        self.api_usage: tuple[int, int] | None = None  # calls used and allowed a day, as last heard

    @classmethod
    def from_settings(cls, settings: Settings, hooks: Hooks | None = None) -> SalesforceClient:
        """The client of these settings. Raises ValueError or OSError for a private key that can't be used."""
        return cls(
            login_url=settings.sf_login_url,
            audience=settings.salesforce_audience,
            client_id=settings.sf_client_id,
            username=settings.sf_username,
            private_key=settings.sf_private_key_path.read_bytes(),
            api_version=settings.sf_api_version,
            hooks=hooks,
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
        try:
            found = self._query("fetch_order", queries.order(sf_order_id))
        except UpstreamError as error:
            # Only these two speak of the id; a NOT_FOUND for a query means that the address itself is unknown.
            if error.code not in ("MALFORMED_ID", "INVALID_QUERY_FILTER_OPERATOR"):
                raise
            found = []
        if not found:
            return None
        record = found[0]
        rows = self._children("fetch_order", record, "OrderItems")
        order = errors.parsed(lambda: records.to_order(record, rows))
        if order.whmcs_client_id is not None:
            return order
        contacts = self._query("contact_of_account", queries.contact_of_account(order.account_id))
        if not contacts:
            return order
        return errors.parsed(lambda: records.to_order(record, rows, contacts[0]))

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
                {"attributes": {"type": "Order"}, "id": salesforce_id_18(sf_order_id), **records.sendable(fields)}
                for sf_order_id, fields in updates
            ],
        }
        answer = self._call("update_orders", _rest("PATCH", "composite/sobjects", body), effect=True)
        if not isinstance(answer, list) or len(answer) != len(updates):
            raise errors.unexpected("its answer doesn't tell what became of each order", effect=True)
        return [
            None if _is_true(row, "success") else self._refusal(objects(row, "errors"), 400, effect=False)
            for row in answer
        ]

    def set_whmcs_client(self, account_id: str, client_id: str) -> None:
        """Write Account.WHMCS_Client_ID__c."""
        path = f"sobjects/Account/{salesforce_id_18(account_id)}"
        self._patch("set_whmcs_client", path, {"WHMCS_Client_ID__c": str(client_id)})

    def accounts_with_email(self, email: str) -> int:
        """How many accounts have a contact of this address."""
        rows = self._private_query("accounts_with_email", queries.accounts_with_email(email))
        return len({row.get("AccountId") for row in rows})

    def requested_orders(self, limit: int) -> list[str]:
        """Ids (18 characters) of orders whose Provisioning_Status__c is `Requested`, oldest change first."""
        rows = self._query("requested_orders", queries.requested_orders(limit))
        return errors.parsed(lambda: [salesforce_id_18(row["Id"]) for row in rows])

    # --- what the customers' pages need

    def contacts_by_email(self, email: str) -> list[Contact]:
        """The contacts of this address that belong to an account, most recently changed first."""
        rows = self._private_query("contacts_by_email", queries.contacts_by_email(email))
        return errors.parsed(lambda: [records.to_contact(row) for row in rows])

    def contact_by_email(self, email: str) -> Contact | None:
        """The contact of this address, when it belongs to exactly one account; None else."""
        contacts = self.contacts_by_email(email)
        return contacts[0] if len({contact.account_id for contact in contacts}) == 1 else None

    def catalogue(self, pricebook_id: str) -> list[CatalogueEntry]:
        """Active entries of active products of a pricebook, by name."""
        rows = self._query("catalogue", queries.catalogue(pricebook_id))
        return errors.parsed(lambda: [records.to_catalogue_entry(row) for row in rows])

    def create_order(self, order: NewOrder) -> str:
        """Create the order with its items, all or nothing, in one call; returns its id.

        An order of this reference that is already there is found instead. UpstreamError.unknown: the answer was lost,
        ask `find_order_by_reference` (or call again: the reference can't be used twice).
        """
        tree = _rest("POST", "composite/tree/Order", records.order_tree(order))
        known: str | None = None
        try:
            answer = self._call("create_order", tree, effect=True)
        except UpstreamError as error:
            known = self.find_order_by_reference(order.reference) if error.code == "DUPLICATE_VALUE" else None
            if known is None:
                raise
        if known is not None:
            return known
        created = [str(row.get("id") or "") for row in objects(answer, "results") if row.get("referenceId") == "order"]
        if not created or _is_true(answer, "hasErrors"):
            raise errors.unexpected("its answer doesn't name the order it created", effect=True)
        return errors.parsed(lambda: salesforce_id_18(created[0]), effect=True)

    def find_order_by_reference(self, reference: str) -> str | None:
        """The id of the order whose Portal_Reference__c is `reference`."""
        rows = self._query("find_order_by_reference", queries.order_by_reference(reference))
        return errors.parsed(lambda: salesforce_id_18(rows[0]["Id"]) if rows else None)

    def orders_of_account(self, account_id: str, limit: int, before: OrderSummary | None = None) -> list[OrderSummary]:
        """The account's orders, whoever placed them, newest first; `before`: the last one of the page before."""
        found = self._query("orders_of_account", queries.orders_of_account(account_id, limit, before))
        rows = [(record, self._children("orders_of_account", record, "OrderItems")) for record in found]
        return errors.parsed(lambda: [records.to_summary(record, children) for record, children in rows])

    # --- what the sweep needs, and what a check of the set-up will need (describe, sign_in: not called yet)

    def orders_changed_since(self, moment: float, limit: int, after_id: str = "") -> list[OrderChange]:
        """Orders changed at or after `moment` (seconds since 1970), oldest change first.

        To read on, give the last row's `changed_at`, and its id as `after_id`: many orders may share one moment.
        """
        found = self._query("orders_changed_since", queries.orders_changed_since(moment, limit, after_id))
        rows = [(record, self._children("orders_changed_since", record, "OrderItems")) for record in found]
        return errors.parsed(lambda: [records.to_change(record, children) for record, children in rows])

    def organization_id(self) -> str | None:
        """The org's id (18 characters), as the sign-in gave it; signs in if need be."""
        return self._auth.token().organization_id

    def describe(self, sobject: str) -> Mapping[str, Any]:
        """Salesforce's own description of an object (`fields[].name`, picklist values)."""
        answer = self._call("describe", _rest("GET", f"sobjects/{quote(sobject, safe='')}/describe"), effect=False)
        if not isinstance(answer, dict):
            raise errors.unexpected("it described nothing", effect=False)
        return answer

    def sign_in(self) -> Token:
        """Fetch a new token, whatever is cached. It replaces the cached one."""
        return self._auth.renew()

    # --- calls

    def _call(self, action: str, run: Callable[[Salesforce], T], *, effect: bool) -> T:
        """`run` with a client whose token works; a refused token is renewed once."""
        token = self._auth.token()
        try:
            return self._attempt(action, token, run, effect, last=False)
        except TokenExpired:
            pass
        return self._attempt(action, self._auth.token(token), run, effect, last=True)

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
                raise errors.unexpected("its answer isn't JSON", effect=effect, code="not_json")
            if refused.status == 401 and not last:
                raise TokenExpired
            raise self._refusal(refused.content, refused.status, effect=effect)

        return self.exchange(action, seconds, within, effect=effect)

    def _patch(self, action: str, path: str, fields: Mapping[str, Any]) -> None:
        self._call(action, _rest("PATCH", path, records.sendable(fields)), effect=True)

    def _query(self, action: str, soql: str) -> list[dict[str, Any]]:
        """All records of a query, following its pages."""
        return self._pages(action, self._call(action, lambda sf: sf.query(soql), effect=False))

    def _private_query(self, action: str, soql: str) -> list[dict[str, Any]]:
        """A query that names a person: inside a composite's body, for an address ends up in everybody's logs."""
        url = f"/services/data/v{self._version}/query?q={quote(soql, safe='')}"
        body = {"compositeRequest": [{"method": "GET", "url": url, "referenceId": "result"}]}

        answer = self._call(action, _rest("POST", "composite", body), effect=False)
        parts = objects(answer, "compositeResponse")
        if len(parts) != 1 or not isinstance(parts[0].get("httpStatusCode"), int):
            raise errors.unexpected("its answer to a composite isn't one", effect=False)
        status = parts[0]["httpStatusCode"]
        if status >= 300:
            raise self._refusal(parts[0].get("body"), status, effect=False)
        return self._pages(action, parts[0].get("body"))

    def _pages(self, action: str, page: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            if not isinstance(page, dict) or not isinstance(page.get("records"), list):
                raise errors.unexpected("its answer holds no records", effect=False)
            rows += [record for record in page["records"] if isinstance(record, dict)]
            more = page.get("nextRecordsUrl")
            if not more:
                return rows
            if not str(more).startswith("/services/data/"):  # the token goes there: only to the instance itself
                raise errors.unexpected("it named a next page elsewhere", effect=False)
            page = self._call(action, _next_page(str(more)), effect=False)

    def _children(self, action: str, record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        """The rows of a child subquery; null when there are none, and paged like any other result."""
        child = record.get(name)
        return self._pages(action, child) if child else []

    def _refusal(self, content: object, status: int, *, effect: bool) -> UpstreamError:
        return errors.refusal(content, status, redacted=self._auth.redacted, effect=effect)


def _rest(method: str, path: str, body: Any = None) -> Callable[[Salesforce], Any]:
    def run(sf: Salesforce) -> Any:
        return sf.restful(path, method=method, **({} if body is None else {"json": body}))

    return run


def _next_page(path: str) -> Callable[[Salesforce], Any]:
    return lambda sf: sf.query_more(path, identifier_is_url=True)


def _is_true(container: object, name: str) -> bool:
    return isinstance(container, dict) and container.get(name) is True
