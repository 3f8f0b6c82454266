"""WHMCS over its API (includes/api.php): what a fulfillment, the customers' pages and the doctor ask of it.

WHMCS answers business errors with 200, maintenance pages with 200, numbers as text, empty lists as "" and services
with their passwords. So: only JSON that says `result` counts, fields are picked by name, raw bodies are kept nowhere,
and an answer that got lost after AddOrder, AcceptOrder and their like is `unknown`, never sent again from here.
Each method's facts are those of WHMCS' API reference for the action it names.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

from portal.clients.http import UpstreamClient
from portal.clients.redaction import redact
from portal.clients.transport import Session
from portal.domain.model import (
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

NAME: Final = "WHMCS"
PAGE_ROWS: Final = 250  # asked for; some installs give fewer at a time
LISTING_PASSES: Final = 5
PAYMENT_METHODS_DESTINATION: Final = "clientarea:payment_methods"

#: What WHMCS says when it doesn't let the portal in (with 403) → what to do about it; `{}` is its own text.
ACCESS_HELP: Final = (
    (
        re.compile(r"invalid ip\b", re.IGNORECASE),
        "{}: in WHMCS add the portal's address under General Settings > Security > API IP Access Restriction, or set "
        "WHMCS_API_ACCESS_KEY",
    ),
    (
        re.compile(r"invalid permissions\b", re.IGNORECASE),
        "{}: allow the action in the API role of the portal's credentials (Manage API Credentials > API Roles)",
    ),
    (
        re.compile(r"", re.IGNORECASE),
        "{}: check WHMCS_API_IDENTIFIER and WHMCS_API_SECRET against WHMCS' Manage API Credentials",
    ),
)
#: The same with 200, as some installs answer. Anything less exact could be a server module's own words.
ACCESS_REFUSED: Final = re.compile(
    r"invalid ip [0-9a-f.:]+$|invalid permissions: api action |invalid or missing credentials$", re.IGNORECASE
)
NO_CLIENT: Final = re.compile(r"client (id )?not found", re.IGNORECASE)
NO_INVOICE: Final = re.compile(r"invoice (id )?not found", re.IGNORECASE)
NO_PRODUCT: Final = re.compile(r"product (id )?not found", re.IGNORECASE)
NO_DESTINATION: Final = re.compile(r"invalid destination", re.IGNORECASE)

#: GetProducts' pricing keys, which are AddOrder's cycles too.
CYCLES: Final = ("monthly", "quarterly", "semiannually", "annually", "biennially", "triennially", "onetime")


@dataclass(frozen=True)
class PaymentGateway:
    """A gateway WHMCS takes money through: its system name, and the one customers see."""

    module: str
    name: str


class WhmcsClient(UpstreamClient):
    """Implements portal.domain.ports.WhmcsPort; the rest is for customers' pages and the doctor.

    Every method raises UpstreamError; `permanent` for WHMCS' own business errors, whose text (redacted) is the
    message. Each HTTP call has its own deadline: `read_seconds`, or `write_seconds` where it changes something.
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
    ) -> None:
        super().__init__(NAME)
        self._api_url = api_url
        self._credentials = {"identifier": identifier, "secret": secret}
        if access_key:
            self._credentials["accesskey"] = access_key
        self.read_seconds = read_seconds
        self.write_seconds = write_seconds

    @classmethod
    def from_settings(cls, settings: Settings) -> WhmcsClient:
        """The client of these settings. No call waits longer than a request can take effect in WHMCS."""
        return cls(
            api_url=settings.whmcs_api_url,
            identifier=settings.whmcs_api_identifier,
            secret=settings.whmcs_api_secret,
            access_key=settings.whmcs_api_access_key,
            read_seconds=min(15.0, settings.whmcs_max_request_seconds),
            write_seconds=min(60.0, settings.whmcs_max_request_seconds),
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
            if not (error.permanent and NO_CLIENT.search(error.message)):
                raise
            return None
        found = answer.get("client")
        row = {**answer, **found} if isinstance(found, dict) else answer
        record = ClientRecord(
            id=_first_id(row, "id", "client_id", "userid", "clientid") or "",
            email=_text(row.get("email")),
            status=_text(row.get("status")),
            default_gateway=_text(row.get("defaultgateway")),
        )
        # An order must never go to a client nobody asked for.
        if not record.id or (client_id is not None and record.id != _id(client_id)):
            raise self._unexpected("it answered with another client than the one asked for")
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
        client_id = _first_id(answer, "clientid")
        if client_id is None:
            raise self._unexpected("AddClient succeeded without a clientid", effect=True)
        return client_id

    def pay_methods(self, client_id: str) -> list[PayMethod]:
        """GetPayMethods: the client's stored cards and accounts, without their tokens."""
        answer = self._call("GetPayMethods", {"clientid": client_id})
        return [
            PayMethod(
                id=_first_id(row, "id", "paymethodid") or "",
                type=_text(row.get("type")),
                gateway=_text(row.get("gateway_name")),
            )
            for row in _rows(answer.get("paymethods"), "paymethod")
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
            if not (destination and NO_DESTINATION.search(error.message)):
                raise
            answer = None
        if answer is None:
            return self.sso_link(client_id, None)
        link = _text(answer.get("redirect_url"))
        if urlsplit(link).scheme not in ("http", "https"):
            raise self._unexpected("CreateSsoToken succeeded without a redirect_url")
        return link

    # --- products

    def products(self, pids: Sequence[str]) -> list[WhmcsProduct]:
        """GetProducts of these ids, in one call; those WHMCS doesn't know are missing from the result.

        Custom fields: only those shown on the order form are listed by WHMCS.
        """
        wanted = list(dict.fromkeys(_id(pid) for pid in pids))
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
            if not (error.permanent and NO_PRODUCT.search(error.message)):
                raise
            return {}
        products = [_product(row) for row in _rows(answer.get("products"), "product")]
        return {product.pid: product for product in products if product.pid}

    def payment_gateways(self) -> list[PaymentGateway]:
        """GetPaymentMethods: the gateways that are switched on."""
        answer = self._call("GetPaymentMethods", {})
        return [
            PaymentGateway(_text(row.get("module")), _text(row.get("displayname")))
            for row in _rows(answer.get("paymentmethods"), "paymentmethod")
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
    ) -> AddedOrder:
        """AddOrder with noemail. `custom_fields`: pid → {field id → value}. Never retried from here.

        An empty `payment_method` leaves it to WHMCS. `qty` (WHMCS 8.12) is sent only where some quantity isn't 1.
        """
        params: dict[str, str] = {"clientid": client_id, "noemail": "1"}
        if payment_method:
            params["paymentmethod"] = payment_method
        if notes:
            params["notes"] = notes
        quantities = any(line.quantity != 1 for line in lines)
        for index, line in enumerate(lines):
            fields = custom_fields.get(line.pid)
            item = {
                "pid": line.pid,
                "qty": str(line.quantity) if quantities else None,
                "billingcycle": line.billing_cycle,
                "domain": line.domain,
                "hostname": line.hostname,
                "priceoverride": line.price_override,
                "customfields": php_array(fields) if fields else None,
            }
            params.update({f"{name}[{index}]": value for name, value in item.items() if value})
        answer = self._call("AddOrder", params, effect=True)
        order_id = _first_id(answer, "orderid")
        if order_id is None:
            raise self._unexpected("AddOrder succeeded without an orderid", effect=True)
        services = answer.get("serviceids") if "serviceids" in answer else answer.get("productids")
        return AddedOrder(order_id, _ids(services), _first_id(answer, "invoiceid"))

    def order(self, order_id: str) -> WhmcsOrder | None:
        """GetOrders id=; None when there is none."""
        answer = self._call("GetOrders", {"id": order_id})
        orders = [_order(row) for row in _rows(answer.get("orders"), "order")]
        return next((order for order in orders if order.id == _id(order_id)), None)

    def orders_of(self, client_id: str) -> list[WhmcsOrder]:
        """All orders of a client, every page, repeated until the listing stood still while it was read.

        Raises a transient UpstreamError (code `listing_unstable`) when it wouldn't stand still.
        """
        return self._listing("GetOrders", {"userid": client_id}, "orders", "order", _order, lambda row: row.id)

    def accept_order(self, order_id: str) -> None:
        """AcceptOrder: runs the server modules inside the request. Success doesn't say that a service is active."""
        self._call("AcceptOrder", {"orderid": order_id}, effect=True)

    def cancel_order(self, order_id: str) -> None:
        """CancelOrder of a Pending order, without a mail to the customer."""
        self._call("CancelOrder", {"orderid": order_id, "noemail": "1"}, effect=True)

    def services(self, client_id: str, service_id: str | None = None) -> list[WhmcsService]:
        """GetClientsProducts of a client, every page; or the one service."""
        if service_id is None:
            return self._listing(
                "GetClientsProducts", {"clientid": client_id}, "products", "product", _service, lambda row: row.id
            )
        answer = self._call("GetClientsProducts", {"clientid": client_id, "serviceid": service_id})
        services = [_service(row) for row in _rows(answer.get("products"), "product")]
        return [service for service in services if service.id == _id(service_id)]

    def invoice_status(self, invoice_id: str) -> str | None:
        """GetInvoice's status (`Unpaid`, `Paid`, `Cancelled`, …); None when there is no such invoice."""
        try:
            answer = self._call("GetInvoice", {"invoiceid": invoice_id})
        except UpstreamError as error:
            if not (error.permanent and NO_INVOICE.search(error.message)):
                raise
            return None
        return _text(answer.get("status")) or None

    def module_create(self, service_id: str) -> None:
        """ModuleCreate: set one service up now."""
        # Before WHMCS 8 the parameter was called accountid.
        self._call("ModuleCreate", {"serviceid": service_id, "accountid": service_id}, effect=True)

    # --- calls

    def _call(
        self, action: str, params: Mapping[str, str], *, effect: bool = False, private: Iterable[str] = ()
    ) -> dict[str, Any]:
        """One API call; its answer as long as `result` is success. `private`: what no error message may repeat."""
        body = urlencode({**self._credentials, "action": action, "responsetype": "json", **params}).encode("ascii")
        hidden = [*self._credentials.values(), *(value for value in private if len(value) > 3)]

        def run(session: Session) -> dict[str, Any]:
            response = session.post(
                self._api_url, data=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
            )
            return self._answer(action, response.status_code, response.content, effect, hidden)

        return self.exchange(action, self.write_seconds if effect else self.read_seconds, run, effect=effect)

    def _answer(self, action: str, status: int, content: bytes, effect: bool, hidden: Sequence[str]) -> dict[str, Any]:
        try:
            answer = json.loads(content.decode("utf-8-sig", "replace"), strict=False)
        except (ValueError, RecursionError):
            answer = None
        result = _text(answer.get("result")).lower() if isinstance(answer, dict) else ""
        if result == "success" and 200 <= status < 300 and isinstance(answer, dict):
            return answer
        if result == "error" and status < 500 and isinstance(answer, dict):
            message = redact(_text(answer.get("message")) or "it gave no reason", hidden)
            raise self._refusal(action, status, message)
        # A maintenance page, a firewall's, a crash: nothing says whether PHP went on in the background.
        not_done = 300 <= status < 400 or status in (404, 405, 413, 429)
        hint = ": check WHMCS_API_URL" if 300 <= status < 400 or status in (404, 405) else ""
        raise UpstreamError(
            NAME,
            f"WHMCS answered {action} with {status} and no usable JSON{hint}",
            permanent=False,
            unknown=effect and not not_done,
            code=f"http_{status}" if not 200 <= status < 300 else "not_json",
            status=status,
        )

    def _refusal(self, action: str, status: int, message: str) -> UpstreamError:
        if status == 429:
            return UpstreamError(NAME, f"WHMCS: {message}", permanent=False, code="http_429", status=status)
        if status in (401, 403) or ACCESS_REFUSED.match(message):
            # A setting is wrong, not the order: it waits, and the doctor and the log say what to do.
            sentence = next(words for pattern, words in ACCESS_HELP if pattern.match(message)).format(message)
            return UpstreamError(
                NAME, f"WHMCS refused {action}: {sentence}", permanent=False, code="auth", status=status
            )
        return UpstreamError(NAME, f"WHMCS: {message}", permanent=True, code="refused", status=status)

    def _unexpected(self, what: str, *, effect: bool = False) -> UpstreamError:
        return UpstreamError(NAME, f"WHMCS: {what}", permanent=False, unknown=effect, code="unexpected_answer")

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
                page = {"limitstart": str(start), "limitnum": str(PAGE_ROWS)}
                answer = self._call(action, {**params, **page})
                told = _number(answer.get("totalresults"))
                rows = [parse(row) for row in _rows(answer.get(outer), inner)]
                if told != total:
                    seen, total = {}, told
                    if start:
                        break  # it changed while being read
                if total is None:
                    break
                seen.update({key(row): row for row in rows if key(row)})
                start += len(rows)
                if len(seen) == total:
                    return list(seen.values())
                if not rows or start >= total:
                    break
            if total is not None and len(seen) > total:
                seen, total = {}, None
        raise UpstreamError(
            NAME,
            f"WHMCS: {action} gave a listing that didn't add up, {LISTING_PASSES} times",
            permanent=False,
            code="listing_unstable",
        )


# --- PHP's ways ----------------------------------------------------------------------------------------


def php_array(values: Mapping[str, str]) -> str:
    """`{"101": "7"}` as AddOrder's customfields wants it: base64 of PHP's serialized array (`a:1:{i:101;s:1:"7";}`)."""
    parts = []
    for name, value in values.items():
        whole = re.fullmatch(r"0|-?[1-9][0-9]{0,17}", name)
        parts.append((f"i:{name};" if whole else _php_string(name)) + _php_string(value))
    return base64.b64encode(f"a:{len(values)}:{{{''.join(parts)}}}".encode()).decode("ascii")


def _php_string(text: str) -> str:
    return f's:{len(text.encode())}:"{text}";'  # PHP counts bytes


def _rows(container: object, inner: str) -> list[Mapping[str, Any]]:
    """The rows of `{"orders": {"order": […]}}`, of a plain list, of one row instead of a list, of a PHP array with
    numbers as keys; none for "" and null."""
    if isinstance(container, Mapping):
        if inner in container:
            return _rows(container[inner], "")
        if container and all(str(name).isdecimal() for name in container):
            return _rows(list(container.values()), "")
        return [container] if container and inner == "" else []
    return [row for row in container if isinstance(row, Mapping)] if isinstance(container, list) else []


def _text(value: object) -> str:
    """A field as text; "" for null and for what is no scalar."""
    if value is None or isinstance(value, dict | list | bool):
        return ""
    return str(value).strip()


def _id(value: object) -> str:
    """An id as text; "" for none. WHMCS writes 7, "7" and, for none, 0, "0" or ""."""
    text = _text(value)
    return text.lstrip("0") if text.isdecimal() else text


def _first_id(row: Mapping[str, Any], *names: str) -> str | None:
    return next((found for name in names if (found := _id(row.get(name)))), None)


def _ids(value: object) -> tuple[str, ...]:
    """ "1,2" (or a list, or one number) as ids."""
    parts = value if isinstance(value, list) else _text(value).split(",")
    return tuple(found for part in parts if (found := _id(part)))


def _number(value: object) -> int | None:
    text = _text(value)
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


# --- from WHMCS' JSON ----------------------------------------------------------------------------------


def _order(row: Mapping[str, Any]) -> WhmcsOrder:
    told = "lineitems" in row
    lines = _rows(row.get("lineitems"), "lineitem")
    services = [_id(line.get("relid")) for line in lines if _text(line.get("type")).lower() in ("product", "")]
    return WhmcsOrder(
        id=_id(row.get("id")),
        client_id=_id(row.get("userid")),
        status=_text(row.get("status")),
        notes=_text(row.get("notes")),
        amount=_text(row.get("amount")),
        invoice_id=_id(row.get("invoiceid")) or None,
        invoice_known="invoiceid" in row,
        service_ids=tuple(service for service in services if service),
        line_item_count=len(lines) if told else None,
    )


def _service(row: Mapping[str, Any]) -> WhmcsService:
    """Picks fields by name: the row holds the service's password."""
    return WhmcsService(
        id=_first_id(row, "id", "serviceid") or "",
        order_id=_id(row.get("orderid")),
        pid=_id(row.get("pid")),
        billing_cycle=_text(row.get("billingcycle")),
        quantity=_number(row.get("qty")),
        status=_text(row.get("status")),
        name=_text(row.get("name")),
        domain=_text(row.get("domain")),
        custom_fields={
            _text(entry.get("name")): _text(entry.get("value"))
            for entry in _rows(row.get("customfields"), "customfield")
        },
    )


def _product(row: Mapping[str, Any]) -> WhmcsProduct:
    pay_type = _text(row.get("paytype")).lower().replace("-", "").replace(" ", "")
    pricing = row.get("pricing")
    prices = [entry for entry in pricing.values() if isinstance(entry, Mapping)] if isinstance(pricing, Mapping) else []
    if pay_type == "free":
        cycles = {"free"}
    elif pay_type == "onetime":
        cycles = {"onetime"}  # its price stands in the column of the monthly one
    else:
        cycles = {cycle for cycle in CYCLES for entry in prices if _offered(entry.get(cycle))}
    return WhmcsProduct(
        pid=_first_id(row, "pid", "id") or "",
        name=_text(row.get("name")),
        cycles=frozenset(cycles),
        custom_fields={
            _text(entry.get("name")): _id(entry.get("id")) for entry in _rows(row.get("customfields"), "customfield")
        },
    )


def _offered(price: object) -> bool:
    """`-1.00` says that a cycle isn't offered."""
    text = _text(price)
    return bool(re.fullmatch(r"[0-9]+(\.[0-9]+)?", text))
