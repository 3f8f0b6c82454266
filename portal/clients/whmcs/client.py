"""WHMCS over its API (includes/api.php): what a fulfillment and the customers' pages ask of it.

WHMCS answers business errors with 200, maintenance pages with 200, numbers as text, empty lists as "" and services
with their passwords. So: only JSON that says `result` counts, fields are picked by name, raw bodies are kept nowhere,
and an answer that got lost after AddOrder, AcceptOrder and their like is `unknown`, never sent again from here.
Each method's facts are those of WHMCS' API reference for the action it names.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlencode, urlsplit

from portal.clients.http import Hooks, UpstreamClient
from portal.clients.transport import Session
from portal.clients.whmcs import errors
from portal.clients.whmcs.add_order import add_order_params
from portal.clients.whmcs.errors import NAME, read_answer, unexpected
from portal.clients.whmcs.records import (
    PaymentGateway,
    first_id,
    id_text,
    ids,
    number,
    rows,
    text,
    to_order,
    to_product,
    to_service,
)
from portal.domain.model import (
    NO_CLIENT,
    AddedOrder,
    OrderLine,
    PayMethod,
    UpstreamError,
    WhmcsOrder,
    WhmcsProduct,
    WhmcsService,
)
from portal.domain.model import WhmcsClient as ClientRecord
from portal.settings import Settings

T = TypeVar("T")

PAGE_ROWS: Final = 250  # asked for; some installs give fewer at a time
MORE_ROWS: Final = 2500  # rows of each further page: a client with 10,000 orders costs five calls
LISTING_PASSES: Final = 5
PAYMENT_METHODS_DESTINATION: Final = "clientarea:payment_methods"


class WhmcsClient(UpstreamClient):
    """Implements portal.domain.ports.WhmcsPort; the rest is for customers' pages.

    Every method raises UpstreamError; which of WHMCS' own words are final `errors` tells. A success without what was
    asked for (with a bare warning, say) is none. Each HTTP call has its own deadline: `read_seconds`, or
    `write_seconds` where it changes something.
    """

    def __init__(
        self,
        *,
        api_url: str,
        identifier: str,
        secret: str,
        access_key: str | None = None,
        read_seconds: float = 15.0,
        write_seconds: float = 60.0,
        hooks: Hooks | None = None,
    ) -> None:
        """`api_url`: …/includes/api.php; `identifier` and `secret`: its API credentials; `access_key`: lets the
        portal in from any address.
        """
        super().__init__(NAME, hooks)
        self._api_url = api_url
        self._credentials = {"identifier": identifier, "secret": secret}
        if access_key:
            self._credentials["accesskey"] = access_key
        self.read_seconds = read_seconds
        self.write_seconds = write_seconds

    @classmethod
    def from_settings(cls, settings: Settings, hooks: Hooks | None = None) -> Self:
        """The client of these settings. No call waits longer than a request can take effect in WHMCS."""
        return cls(
            api_url=settings.whmcs_api_url,
            identifier=settings.whmcs_api_identifier,
            secret=settings.whmcs_api_secret,
            access_key=settings.whmcs_api_access_key,
            read_seconds=min(15.0, settings.whmcs_max_request_seconds),
            write_seconds=min(60.0, settings.whmcs_max_request_seconds),
            hooks=hooks,
        )

    # --- clients

    def client(self, *, client_id: str | None = None, email: str | None = None) -> ClientRecord | None:
        """GetClientsDetails by one of the two; None for `Client Not Found`."""
        if (client_id is None) == (email is None):
            raise ValueError("give either the client's id or the e-mail address")
        asked = {"clientid": client_id} if client_id is not None else {"email": email or ""}
        try:
            answer = self._call("GetClientsDetails", asked)
        except UpstreamError as error:
            if error.code != NO_CLIENT:
                raise
            return None
        found = answer.get("client")
        row = {**answer, **found} if isinstance(found, dict) else answer
        record = ClientRecord(
            id=first_id(row, "id", "client_id", "userid", "clientid") or "",
            email=text(row.get("email")),
            status=text(row.get("status")),
            default_gateway=text(row.get("defaultgateway")),
        )
        # An order must never go to a client nobody asked for.
        if not record.id or (client_id is not None and record.id != id_text(client_id)):
            raise unexpected("it answered with another client than the one asked for")
        if email is not None and record.email.casefold() != email.strip().casefold():
            return None
        return record

    def add_client(self, details: Mapping[str, str]) -> str:
        """AddClient; returns the new client's id.

        `details` under AddClient's own names. A password nobody knows is made up (the customer comes in by
        `sso_link`), and WHMCS sends no mail.
        """
        params = {"password2": secrets.token_urlsafe(24), "noemail": "1", **details}
        answer = self._call("AddClient", params, effect=True, private=params.values())
        client_id = first_id(answer, "clientid")
        if client_id is None:
            raise unexpected("AddClient succeeded without a clientid", effect=True)
        return client_id

    def pay_methods(self, client_id: str) -> list[PayMethod]:
        """GetPayMethods: the client's stored cards and accounts, without their tokens."""
        answer = self._call("GetPayMethods", {"clientid": client_id})
        _require(answer, "GetPayMethods", "paymethods")
        return [
            PayMethod(
                id=first_id(row, "id", "paymethodid") or "",
                type=text(row.get("type")),
                gateway=text(row.get("gateway_name")),
            )
            for row in rows(answer.get("paymethods"), "paymethod")
        ]

    def sso_link(self, client_id: str, destination: str | None = PAYMENT_METHODS_DESTINATION) -> str:
        """CreateSsoToken: a one-time address (good for 60 seconds) that signs the client in at `destination`.

        Give it to nobody but that client, and keep it nowhere. A destination this WHMCS doesn't know is left out.
        """
        try:
            answer = self._call(
                "CreateSsoToken", {"client_id": client_id, **({"destination": destination} if destination else {})}
            )
        except UpstreamError as error:
            if not destination or error.code != errors.NO_DESTINATION:
                raise
            answer = None
        if answer is None:
            return self.sso_link(client_id, None)
        link = text(answer.get("redirect_url"))
        if urlsplit(link).scheme not in ("http", "https"):
            raise unexpected("CreateSsoToken succeeded without a redirect_url")
        return link

    # --- products

    def products(self, pids: Sequence[str]) -> list[WhmcsProduct]:
        """GetProducts of these ids, in one call; those WHMCS doesn't know are missing from the result.

        Custom fields: only those shown on the order form are listed by WHMCS.
        """
        wanted = list(dict.fromkeys(id_text(pid) for pid in pids))
        if not wanted:
            return []
        found = self._products(",".join(wanted))
        if len(wanted) > 1:
            # `pid` may be a list by the documentation; whoever takes one only is asked for each.
            for pid in wanted:
                if pid not in found:
                    found.update(self._products(pid))
        return [found[pid] for pid in wanted if pid in found]

    def _products(self, pid: str) -> dict[str, WhmcsProduct]:
        try:
            answer = self._call("GetProducts", {"pid": pid})
        except UpstreamError as error:
            if error.code != errors.NO_PRODUCT:
                raise
            return {}
        _require_listing(answer, "GetProducts", "products")
        products = [to_product(row) for row in rows(answer.get("products"), "product")]
        return {product.pid: product for product in products if product.pid}

    def payment_gateways(self) -> list[PaymentGateway]:
        """GetPaymentMethods: the gateways that are switched on."""
        answer = self._call("GetPaymentMethods", {})
        return [
            PaymentGateway(text(row.get("module")), text(row.get("displayname")))
            for row in rows(answer.get("paymentmethods"), "paymentmethod")
        ]

    # --- orders

    def add_order(
        self,
        client_id: str,
        payment_method: str,
        lines: Sequence[OrderLine],
        *,
        notes: str,
        custom_fields: Mapping[str, Mapping[str, str]],
        before_send: Callable[[], None] | None = None,
    ) -> AddedOrder:
        """AddOrder with noemail. `custom_fields`: pid → {field id → value}. Never retried from here.

        `before_send` is asked when the connection stands, right before the first byte; what it raises stops the call.
        An empty `payment_method` leaves it to WHMCS. `qty` (WHMCS 8.12) is sent only where some quantity isn't 1.
        """
        params = add_order_params(client_id, payment_method, lines, notes=notes, custom_fields=custom_fields)
        answer = self._call("AddOrder", params, effect=True, before_send=before_send)
        order_id = first_id(answer, "orderid")
        if order_id is None:
            raise unexpected("AddOrder succeeded without an orderid", effect=True)
        services = answer.get("serviceids") if "serviceids" in answer else answer.get("productids")
        return AddedOrder(order_id, ids(services), first_id(answer, "invoiceid"))

    def order(self, order_id: str) -> WhmcsOrder | None:
        """GetOrders id=; None when there is none."""
        try:
            answer = self._call("GetOrders", {"id": order_id})
        except UpstreamError as error:
            if error.code != errors.NO_ORDER:
                raise
            return None
        _require_listing(answer, "GetOrders", "orders")
        orders = [to_order(row) for row in rows(answer.get("orders"), "order")]
        return next((order for order in orders if order.id == id_text(order_id)), None)

    def orders_of(self, client_id: str) -> list[WhmcsOrder]:
        """All orders of a client, every page, repeated until the listing stood still while it was read.

        Raises a transient UpstreamError (code `listing_unstable`) when it wouldn't stand still.
        """
        return self._listing("GetOrders", {"userid": client_id}, "orders", "order", to_order, lambda row: row.id)

    def orders_page(self, start: int) -> tuple[list[WhmcsOrder], bool]:
        """One page of everybody's orders from the `start`th on, and whether there are more; newest first, usually."""
        answer = self._call("GetOrders", {"limitstart": str(start), "limitnum": str(PAGE_ROWS)})
        _require_listing(answer, "GetOrders", "orders")
        found = [to_order(row) for row in rows(answer.get("orders"), "order")]
        total = number(answer.get("totalresults"))
        return found, bool(found) and (total is None or start + len(found) < total)

    def accept_order(self, order_id: str, *, before_send: Callable[[], None] | None = None) -> None:
        """AcceptOrder: runs the server modules inside the request. Success doesn't say that a service is active.

        `before_send`: as for `add_order`.
        """
        self._call("AcceptOrder", {"orderid": order_id}, effect=True, before_send=before_send)

    def cancel_order(self, order_id: str) -> None:
        """CancelOrder of a Pending order, without a mail to the customer."""
        self._call("CancelOrder", {"orderid": order_id, "noemail": "1"}, effect=True)

    def services(self, client_id: str, service_id: str | None = None) -> list[WhmcsService]:
        """GetClientsProducts of a client, every page; or the one service."""
        if service_id is None:
            return self._listing(
                "GetClientsProducts", {"clientid": client_id}, "products", "product", to_service, lambda row: row.id
            )
        answer = self._call("GetClientsProducts", {"clientid": client_id, "serviceid": service_id})
        _require_listing(answer, "GetClientsProducts", "products")
        services = [to_service(row) for row in rows(answer.get("products"), "product")]
        return [service for service in services if service.id == id_text(service_id)]

    def invoice_status(self, invoice_id: str) -> str | None:
        """GetInvoice's status (`Unpaid`, `Paid`, `Cancelled`, …); None when there is no such invoice."""
        try:
            answer = self._call("GetInvoice", {"invoiceid": invoice_id})
        except UpstreamError as error:
            if error.code != errors.NO_INVOICE:
                raise
            return None
        status = text(answer.get("status"))
        if not status:
            raise unexpected("GetInvoice succeeded without a status")
        return status

    def module_create(self, service_id: str) -> None:
        """ModuleCreate: set one service up now."""
        # Before WHMCS 8 the parameter was called accountid.
        self._call("ModuleCreate", {"serviceid": service_id, "accountid": service_id}, effect=True)

    # --- calls

    def _call(
        self,
        action: str,
        params: Mapping[str, str],
        *,
        effect: bool = False,
        private: Iterable[str] = (),
        before_send: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """One API call; its answer as long as `result` is success. `private`: what no error message may repeat.

        `before_send`: asked right before the first byte leaves; what it raises stops the call.
        """
        body = urlencode({**self._credentials, "action": action, "responsetype": "json", **params}).encode("ascii")
        hidden = [*self._credentials.values(), *(value for value in private if len(value) > 3)]

        def run(session: Session) -> dict[str, Any]:
            response = session.post(
                self._api_url, data=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
            )
            return read_answer(action, response.status_code, response.content, effect=effect, hidden=hidden)

        seconds = self.write_seconds if effect else self.read_seconds
        return self.exchange(action, seconds, run, effect=effect, before_send=before_send)

    def _listing(
        self,
        action: str,
        params: Mapping[str, str],
        outer: str,
        inner: str,
        parse: Callable[[Mapping[str, Any]], T],
        key: Callable[[T], str],
    ) -> list[T]:
        """Every row of a paged listing, once.

        WHMCS gives pages without promising their order, so a row may slip from one to the next while reading. The
        listing counts when `totalresults` stayed the same and as many different ids were seen; else it is read again,
        keeping what was seen as long as the total stays.
        """
        seen: dict[str, T] = {}
        total: int | None = None
        for _ in range(LISTING_PASSES):
            start = 0
            while True:
                page = {"limitstart": str(start), "limitnum": str(PAGE_ROWS if not start else MORE_ROWS)}
                answer = self._call(action, {**params, **page})
                _require_listing(answer, action, outer)
                stated = number(answer.get("totalresults"))
                page_rows = [parse(row) for row in rows(answer.get(outer), inner)]
                if stated != total:
                    seen, total = {}, stated
                    if start:
                        break  # it changed while being read
                if total is None:
                    break
                seen.update({key(row): row for row in page_rows if key(row)})
                start += len(page_rows)
                if len(seen) == total:
                    return list(seen.values())
                if not page_rows or start >= total:
                    break
            if total is not None and len(seen) > total:
                seen, total = {}, None
        raise UpstreamError(
            NAME,
            f"WHMCS: {action} gave a listing that didn't add up, {LISTING_PASSES} times",
            permanent=False,
            code="listing_unstable",
        )


def _require(answer: Mapping[str, Any], action: str, name: str) -> None:
    """Raises UpstreamError where a success doesn't hold what was asked for: it says nothing, least of all "none"."""
    if name not in answer:
        raise unexpected(f"{action} succeeded without {name}")


def _require_listing(answer: Mapping[str, Any], action: str, name: str) -> None:
    """The same of a listing, which may be left out when it has no rows and says so."""
    if number(answer.get("totalresults")) != 0:
        _require(answer, action, name)
