"""Salesforce over its REST API: what a fulfillment and the customers' pages ask of it.

simple-salesforce builds the requests, but signs in nowhere and is never given its SFType calls: its own login knows
only *.salesforce.com over https, and SFType calls repeat a refused token without end. So the token is fetched by
`auth` (JWT bearer), shared, and renewed once for a call whose token was refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlsplit

from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError

from portal.clients.http import Hooks, Outdated, TokenExpired, UpstreamClient
from portal.clients.salesforce import errors, queries, records
from portal.clients.salesforce.auth import Authenticator, ProcessTokenStore, Token, TokenStore
from portal.clients.salesforce.errors import NAME, objects
from portal.clients.salesforce.fields import FieldCache, optional_fields
from portal.clients.salesforce.queries import Fields
from portal.clients.salesforce.records import CatalogueEntry, ChangedOrders, Contact, NewOrder, OrderSummary
from portal.clients.salesforce.rest import next_page, rest
from portal.clients.transport import Session
from portal.domain.ids import salesforce_id_18
from portal.domain.model import SalesforceOrder, Updates, UpstreamError
from portal.settings import Settings

T = TypeVar("T")

MAX_UPDATES: Final = 200  # records in one composite call


class FieldsOutdated(Outdated):
    """The query named a field that isn't there any more."""


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
        field_cache: FieldCache | None = None,
        read_seconds: float = 15.0,
        write_seconds: float = 30.0,
        hooks: Hooks | None = None,
    ) -> None:
        """`private_key`: PEM of an unencrypted RSA key; raises ValueError, naming the setting, when it is none.

        `api_version` as in addresses (`67.0`); `token_store`: where the token is shared, else in this process only;
        `field_cache`: where it is known which optional fields the org has.
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
        self._fields = field_cache if field_cache is not None else FieldCache()
        self.read_seconds = read_seconds
        self.write_seconds = write_seconds
        self.api_usage: tuple[int, int] | None = None  # calls used and allowed a day, as last heard

    @classmethod
    def from_settings(cls, settings: Settings, hooks: Hooks | None = None) -> Self:
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

        Where the account has no WHMCS client yet, a second query asks for its contact, or for the person it is itself.
        """
        try:
            sf_order_id = salesforce_id_18(sf_order_id)
        except ValueError:
            return None
        try:
            found = self._order_query("fetch_order", partial(queries.order, sf_order_id))
        except UpstreamError as error:
            # Only these two speak of the id; a NOT_FOUND for a query means that the address itself is unknown.
            if error.code not in errors.ABOUT_THE_ID:
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
            soql = partial(queries.person_account, order.account_id)
            persons = self._with_fields(("Account",), partial(self._query, "person_account"), soql)
            contacts = [records.person_as_contact(row) for row in persons]
        if not contacts:
            return order
        return errors.parsed(lambda: records.to_order(record, rows, contacts[0]))

    def fetch_orders(self, sf_order_ids: Sequence[str]) -> list[SalesforceOrder]:
        """Those of these orders (at least one) that can be read, and whose account has a WHMCS client, in one query."""
        found = self._order_query("fetch_orders", partial(queries.orders, sf_order_ids))
        return records.whole_orders([(each, self._children("fetch_orders", each, "OrderItems")) for each in found])

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
        answer = self._call("update_orders", rest("PATCH", "composite/sobjects", body), effect=True)
        if not isinstance(answer, list) or len(answer) != len(updates):
            raise errors.unexpected("its answer doesn't tell what became of each order", effect=True)
        outcomes = [
            None if _is_true(row, "success") else self._refusal(objects(row, "errors"), 400, effect=True)
            for row in answer
        ]
        # The call as a whole was heard to be good; a fault of the set-up is heard although only records met it.
        self.heard_within("update_orders", next((each for each in outcomes if each and each.setup), None))
        return outcomes

    def set_whmcs_client(self, account_id: str, client_id: str) -> None:
        """Write Account.WHMCS_Client_ID__c."""
        path = f"sobjects/Account/{salesforce_id_18(account_id)}"
        self._patch("set_whmcs_client", path, {"WHMCS_Client_ID__c": str(client_id)})

    def accounts_with_email(self, email: str) -> int:
        """How many accounts have a contact of this address, or are the person of this address."""
        rows = self._private_query("accounts_with_email", queries.accounts_with_email(email))
        accounts = {row.get("AccountId") for row in rows}
        return len(accounts | {row.get("Id") for row in self._persons(email)})

    def requested_orders(self, limit: int) -> list[str]:
        """Ids (18 characters) of orders whose Provisioning_Status__c is `Requested`, oldest change first."""
        rows = self._query("requested_orders", queries.requested_orders(limit))
        return errors.parsed(lambda: [salesforce_id_18(row["Id"]) for row in rows])

    # --- what the customers' pages need

    def contacts_by_email(self, email: str) -> list[Contact]:
        """The contacts of this address that belong to an account, most recently changed first."""
        ask = partial(self._private_query, "contacts_by_email")
        rows = self._with_fields(("Account",), ask, partial(queries.contacts_by_email, email))
        known = {row.get("AccountId") for row in rows}  # a person account may show itself as a contact, too
        rows += [records.person_as_contact(row) for row in self._persons(email) if row.get("Id") not in known]
        return errors.parsed(lambda: [records.to_contact(row) for row in rows])

    def _persons(self, email: str) -> list[dict[str, Any]]:
        ask = partial(self._private_query, "persons_by_email")
        return self._with_fields(("Account",), ask, partial(queries.person_accounts_by_email, email))

    def contact_by_email(self, email: str) -> Contact | None:
        """The contact of this address, when it belongs to exactly one account; None else."""
        contacts = self.contacts_by_email(email)
        return contacts[0] if len({contact.account_id for contact in contacts}) == 1 else None

    def catalogue(self, pricebook_id: str) -> list[CatalogueEntry]:
        """Active entries of active products of a pricebook, by name."""
        ask = partial(self._query, "catalogue")
        rows = self._with_fields(("PricebookEntry", "Product2"), ask, partial(queries.catalogue, pricebook_id))
        return errors.parsed(lambda: [records.to_catalogue_entry(row) for row in rows])

    def create_order(self, order: NewOrder) -> str:
        """Create the order with its items, all or nothing, in one call; returns its id.

        An order of this reference that is already there is found instead. UpstreamError.unknown: the answer was lost,
        ask `find_order_by_reference` (or call again: the reference can't be used twice).
        """
        has = self._optional_fields("Order"), self._optional_fields("OrderItem")
        tree = rest("POST", "composite/tree/Order", records.order_tree(order, *has))
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
        soql = partial(queries.orders_of_account, account_id, limit, before)
        found = self._order_query("orders_of_account", soql)
        rows = [(record, self._children("orders_of_account", record, "OrderItems")) for record in found]
        return errors.parsed(lambda: [records.to_summary(record, children) for record, children in rows])

    # --- what the sweep needs, and which fields there are

    def orders_changed_since(self, moment: float, limit: int, after_id: str = "") -> ChangedOrders:
        """Orders changed at or after `moment` (seconds since 1970), oldest change first.

        To read on, give the page's `changed_at` and `last_id`: many orders may share one moment.
        """
        soql = partial(queries.orders_changed_since, moment, limit, after_id)
        found = self._order_query("orders_changed_since", soql)
        rows = [(record, self._children("orders_changed_since", record, "OrderItems")) for record in found]
        return errors.parsed(lambda: records.to_changed_orders(rows, (moment, after_id)))

    def organization_id(self) -> str | None:
        """The org's id (18 characters), as the sign-in gave it; signs in if need be."""
        return self._auth.token().organization_id

    def describe(self, sobject: str) -> Mapping[str, Any]:
        """Salesforce's own description of an object (`fields[].name`, picklist values)."""
        answer = self._call("describe", rest("GET", f"sobjects/{quote(sobject, safe='')}/describe"), effect=False)
        if not isinstance(answer, dict):
            raise errors.unexpected("it described nothing", effect=False)
        return answer

    def sign_in(self) -> Token:
        """Fetch a new token, whatever is cached. It replaces the cached one."""
        return self._auth.renew()

    # --- calls

    def _optional_fields(self, sobject: str) -> frozenset[str]:
        return optional_fields(self._fields, sobject, self._described)

    def _described(self, sobject: str) -> Mapping[str, Any] | None:
        try:
            return self.describe(sobject)
        except UpstreamError as error:
            if not error.permanent and not error.setup and error.status not in (404, 405, 501):
                raise
            return None

    def _with_fields(
        self, sobjects: Sequence[str], ask: Callable[..., list[dict[str, Any]]], soql: Callable[[Fields], str | None]
    ) -> list[dict[str, Any]]:
        """Ask with the optional fields the org has, once more where one has gone since; no rows for no question."""
        for last in (False, True):
            asked = soql({name: self._optional_fields(name) for name in sobjects})
            if asked is None:
                return []
            try:
                return ask(asked, last=last)
            except FieldsOutdated:
                self._fields.forget()
        raise AssertionError("the last question is never outdated")

    def _order_query(self, action: str, soql: Callable[[Fields], str]) -> list[dict[str, Any]]:
        return self._with_fields(("Order", "OrderItem"), partial(self._query, action), soql)

    def _call(self, action: str, run: Callable[[Salesforce], T], *, effect: bool, outdated: str = "") -> T:
        """`run` with a client whose token works; a refused token is renewed once.

        outdated: the errorCode that shows the question to be outdated; raises FieldsOutdated for it.
        """
        token = self._auth.token()
        with suppress(TokenExpired):
            return self._attempt(action, token, run, effect, outdated, last=False)
        return self._attempt(action, self._auth.token(token), run, effect, outdated, last=True)

    def _attempt(
        self, action: str, token: Token, run: Callable[[Salesforce], T], effect: bool, outdated: str, last: bool
    ) -> T:
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
            refusal = self._refusal(refused.content, refused.status, effect=effect)
            raise FieldsOutdated if outdated and refusal.code == outdated else refusal

        return self.exchange(action, seconds, within, effect=effect)

    def _patch(self, action: str, path: str, fields: Mapping[str, Any]) -> None:
        self._call(action, rest("PATCH", path, records.sendable(fields)), effect=True)

    def _query(self, action: str, soql: str, *, last: bool = True) -> list[dict[str, Any]]:
        """All records of a query, following its pages. Unless it is the `last` try, it may raise FieldsOutdated."""
        outdated = "" if last else "INVALID_FIELD"
        return self._pages(action, self._call(action, lambda sf: sf.query(soql), effect=False, outdated=outdated))

    def _private_query(self, action: str, soql: str, *, last: bool = True) -> list[dict[str, Any]]:
        """A query that names a person: inside a composite's body, for an address ends up in everybody's logs."""
        body = queries.in_composite(soql, self._version)

        def run(sf: Salesforce) -> Any:
            answer = sf.restful("composite", method="POST", json=body)
            parts = objects(answer, "compositeResponse")
            if len(parts) != 1 or not isinstance(parts[0].get("httpStatusCode"), int):
                raise errors.unexpected("its answer to a composite isn't one", effect=False)
            status = parts[0]["httpStatusCode"]
            if status >= 300:
                raise SalesforceError("", status, action, parts[0].get("body"))  # type: ignore[arg-type]
            return parts[0].get("body")

        return self._pages(action, self._call(action, run, effect=False, outdated="" if last else "INVALID_FIELD"))

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
            page = self._call(action, next_page(str(more)), effect=False)

    def _children(self, action: str, record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        """The rows of a child subquery; null when there are none, and paged like any other result."""
        child = record.get(name)
        return self._pages(action, child) if child else []

    def _refusal(self, content: object, status: int, *, effect: bool) -> UpstreamError:
        return errors.refusal(content, status, hidden=self._auth.hidden(), effect=effect)


def _is_true(container: object, name: str) -> bool:
    return isinstance(container, dict) and container.get(name) is True
