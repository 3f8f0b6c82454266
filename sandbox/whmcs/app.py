"""The pretend WHMCS as one server: api.php, pages, webhooks, and its part of the control API."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

from sandbox.base import Sandbox
from sandbox.call import Call
from sandbox.store import Document
from sandbox.whmcs.api import ARRAYS, actions
from sandbox.whmcs.events import Events
from sandbox.whmcs.model import INDEXES, Refused, timestamp
from sandbox.whmcs.ordering import Ordering
from sandbox.whmcs.php import Params, parse_form
from sandbox.whmcs.staff import Staff
from sandbox.whmcs.web import Pages
from sandbox.wire import Request, Response, json_response

SECRET_PARAMS = {
    "identifier",
    "secret",
    "accesskey",
    "username",
    "password",
    "password2",
    "card_number",
    "card_cvv",
    "bank_account",
    "serviceusername",
    "servicepassword",
}
MARK = re.compile(r"sfOrderId=([0-9A-Za-z]{15,18})")
KINDS = {
    "clients": "client",
    "paymethods": "paymethod",
    "products": "product",
    "orders": "order",
    "services": "service",
    "invoices": "invoice",
    "domains": "domain",
    "transactions": "transaction",
    "activity": "activity",
    "moduleFailures": "module_failure",
}


def parameters(request: Request) -> Params:
    """What a call brings, as PHP's $_REQUEST has it: the form's values before those in the address. Credentials count
    in the form only: an address is in everybody's logs."""
    in_address = {
        name: value for name, value in parse_form(request.query.encode()).items() if name not in SECRET_PARAMS
    }
    return {**in_address, **parse_form(request.body)}


class Whmcs(Sandbox):
    """WHMCS as the portal sees it, and as staff and customers see it in a browser."""

    name = "whmcs"
    presets: dict[str, tuple[int, Any]] = {
        "AUTHENTICATION_FAILED": (403, {"result": "error", "message": "Authentication Failed"}),
        "INVALID_IP": (403, {"result": "error", "message": "Invalid IP 203.0.113.9"}),
        "INVALID_PERMISSIONS": (
            403,
            {"result": "error", "message": 'Invalid Permissions: API action "addorder" is not allowed'},
        ),
        # With `message`: any refusal in words of its own, and an answer that says neither success nor error.
        "RESULT_ERROR": (200, {"result": "error", "message": "An unexpected error occurred"}),
        "WARNING_ONLY": (200, {"warning": "Something may have gone wrong"}),
        "RATE_LIMITED": (429, {"result": "error", "message": "Too Many Requests"}),
    }
    indexes = INDEXES
    secret_settings = frozenset({"secret", "access_key", "admin_password", "webhook_secret"})
    defaults = {
        "identifier": "sandbox-identifier",
        "secret": "sandbox-secret",
        "access_key": None,
        "admin_username": None,
        "admin_password": None,
        "notes": "stored",
        "ids": "strings",
        "empty_lists": "object",
        "unordered": False,
        "quantities": "multiple",
        "legacy_productids": False,
        "denied_actions": [],
        "cancel_services": True,
        "cancel_invoice": True,
        "module_failure_order_status": "Active",
        "custom_statuses": [],
        "leaky_errors": False,
        "portal_url": None,
        "webhook_secret": None,
        "webhooks": True,
    }

    def __init__(self, data: Path, settings: dict[str, Any]):
        super().__init__(data, settings)
        self.events = Events(self.store, self.journal, self.settings, self.stopping)
        self.model = Ordering(self.store, self.settings, self.events)
        self.staff = Staff(self.model, self.journal)
        self.pages = Pages(self.model)
        self.actions = actions(self.model, lambda: self.server.url if self.server else "")

    def begin_background(self) -> None:
        """Starts the webhook courier."""
        self.events.start()

    def describe(self, request: Request) -> dict[str, Any]:
        """The action's name is WHMCS' own as it was sent; pages are `web`."""
        if not request.path.endswith("/includes/api.php"):
            return {
                "action": "web" if request.method == "GET" else f"web.{request.path.rsplit('/', 1)[-1]}",
                "params": None,
            }
        params = parameters(request)
        shown = {key: value for key, value in params.items() if key not in SECRET_PARAMS | {"action", "responsetype"}}
        order = params.get("orderid")
        if order is None and str(params.get("action", "")).lower() == "getorders":
            order = params.get("id")
        stored = self.store.get("order", str(order)) or {} if order else {}
        mark = MARK.search(str(params.get("notes") or stored.get("sent_notes", "")))
        client = params.get("clientid") or params.get("userid") or params.get("client_id")
        return {
            "action": str(params.get("action", "")) or "?",
            "order": str(order) if order else None,
            "mark": mark.group(1) if mark else None,
            "client": str(client) if isinstance(client, str) and client else None,
            "params": shown,
        }

    def outcome(self, response: Response) -> Any:
        """`result`, `message` and the ids of an answer; nothing that could be a password or a token."""
        try:
            body = json.loads(response.body)
        except ValueError:
            return {"bytes": len(response.body)}
        return {
            key: body[key]
            for key in (
                "result",
                "message",
                "orderid",
                "serviceids",
                "productids",
                "invoiceid",
                "clientid",
                "totalresults",
                "numreturned",
            )
            if key in body
        }

    def handle(self, request: Request, call: Call) -> Response:
        """api.php or a page."""
        if not request.path.endswith("/includes/api.php"):
            return self.pages.handle(request)
        params = parameters(request)
        status, body = self._call(params, request, call)
        return json_response(body, status)

    def _call(self, params: Params, request: Request, call: Call) -> tuple[int, Document]:
        refusal = self._refusal(params, request)
        if refusal is not None:
            return 403, {"result": "error", "message": refusal}
        action = str(params.get("action", ""))
        act = self.actions.get(action.lower())
        if act is None:
            return 200, {"result": "error", "message": f'Invalid API Action: "{action}" is not a valid API action'}
        if action.lower() in [each.lower() for each in self.settings["denied_actions"]]:
            message = f'Invalid Permissions: API action "{action.lower()}" is not allowed'
            return 403, {"result": "error", "message": message}
        for name in ARRAYS.get(action.lower(), ()):
            if name in params and not isinstance(params[name], dict):
                return 200, {"result": "error", "message": f"Expecting parameter '{name}' to be an array"}
        try:
            return 200, {"result": "success", **act(params, call)}
        except Refused as refused:
            return 200, {"result": "error", "message": str(refused)}

    def _refusal(self, params: Params, request: Request) -> str | None:
        """Why the caller may not come in, or None."""
        # API credentials under their own names, or as many clients still send them; last, an administrator's own.
        pairs = [(params.get("identifier"), params.get("secret")), (params.get("username"), params.get("password"))]
        given = [(name, word) for name, word in pairs if isinstance(name, str) and isinstance(word, str)]
        given = [(name, word) for name, word in given if name and word]
        if not given:
            return "Invalid or missing credentials"
        good = [(str(self.settings["identifier"]), str(self.settings["secret"]))]
        if self.settings["admin_username"] and self.settings["admin_password"]:
            digest = hashlib.md5(str(self.settings["admin_password"]).encode(), usedforsecurity=False).hexdigest()
            good.append((str(self.settings["admin_username"]), digest))
        if not any(
            hmac.compare_digest(name.encode(), known.encode()) and hmac.compare_digest(word.encode(), secret.encode())
            for name, word in given
            for known, secret in good
        ):
            return "Authentication Failed"
        if self.settings["access_key"] and params.get("accesskey") != self.settings["access_key"]:
            return f"Invalid IP {request.connection.peer[0]}"
        return None

    # -- control

    def state(self, args: dict[str, str]) -> dict[str, Any]:
        """`objects=orders,services` picks; documents as they are kept, service passwords included."""
        wanted = args["objects"].split(",") if "objects" in args else list(KINDS)
        with self.store.lock:
            return {name: self.store.all(KINDS[name]) for name in wanted}

    def control(self, request: Request, parts: list[str]) -> Response | None:
        """seed, staff, events, module-failures, outbox."""
        match request.method, parts:
            case "POST", ["seed"]:
                return json_response(self.seed(request.json()), 201)
            case "POST", ["module-failures"]:
                wanted = request.json()
                with self.store.transaction() as change:
                    added = self.model.add(
                        change,
                        "module_failure",
                        pid=int(wanted.get("pid") or 0),
                        serviceid=int(wanted.get("serviceid") or 0),
                        message=wanted.get("message", "Could not connect to the server"),
                        left=int(wanted.get("count") or -1),
                    )
                return json_response(added, 201)
            case "DELETE", ["module-failures"]:
                with self.store.transaction() as change:
                    for each in self.store.all("module_failure"):
                        change.delete("module_failure", str(each["id"]))
                return json_response({})
            case "POST", ["staff"]:
                return json_response(self.staff.act(request.json()))
            case "POST", ["events"]:
                wanted = request.json()
                told = self.events.told(wanted["event"], wanted.get("data") or {}, float(wanted.get("wait", 0)))
                return json_response({"delivered": told}, 201)
            case "GET", ["outbox"]:
                return json_response({"events": self.store.all("_sent") + self.store.all("_outbox")})
        return None

    def seed(self, wanted: Document) -> Document:
        """Creates `clients`, `products`, `paymethods`, `orders`, `services`, `invoices` (an `id` given is kept) and
        changes fields by `update` ([{"kind": "orders", "id": 1, …}])."""
        made: dict[str, list[int]] = {}
        with self.store.transaction() as change:
            for client in wanted.get("clients", []):
                made.setdefault("clients", []).append(self.model.add_client(change, **client)["id"])
            for product in wanted.get("products", []):
                fields = [
                    {**each, "id": int(each.get("id") or change.next("customfield", 101))}
                    for each in product.get("customfields", [])
                ]
                full = {
                    "gid": 1,
                    "description": "",
                    "module": "cpanel",
                    "paytype": "recurring",
                    "autosetup": "payment",
                    "pricing": {},
                    **product,
                    "customfields": fields,
                }
                made.setdefault("products", []).append(self.model.add(change, "product", **full)["id"])
            for method in wanted.get("paymethods", []):
                client = self.model.get("client", method["userid"])
                if client is None:
                    raise ValueError(f"no client {method['userid']}")
                made.setdefault("paymethods", []).append(self.model.add_paymethod(change, client, **method)["id"])
            for order in wanted.get("orders", []):
                full = {
                    "ordernum": "1",
                    "userid": 0,
                    "date": timestamp(),
                    "status": "Pending",
                    "notes": "",
                    "paymentmethod": "stripe",
                    "invoiceid": 0,
                    "amount": "0.00",
                    "ipaddress": "",
                    "requestor_id": 0,
                    "complete": True,
                    "noinvoice": False,
                    "sent_notes": "",
                    "asked": [],
                    **order,
                }
                made.setdefault("orders", []).append(self.model.add(change, "order", **full)["id"])
            for service in wanted.get("services", []):
                full = {
                    "userid": 0,
                    "orderid": 0,
                    "pid": 0,
                    "regdate": "2026-01-01",
                    "name": "",
                    "domain": "",
                    "qty": 1,
                    "firstpaymentamount": "0.00",
                    "recurringamount": "0.00",
                    "paymentmethod": "stripe",
                    "billingcycle": "Monthly",
                    "nextduedate": "0000-00-00",
                    "status": "Pending",
                    "username": "",
                    "password": "",
                    "customfields": {},
                    "module_creates": 0,
                    "suspensionreason": "",
                    "notes": "",
                    **service,
                }
                made.setdefault("services", []).append(self.model.add(change, "service", **full)["id"])
            for document in wanted.get("update", []):
                kind, key = KINDS[document["kind"]], str(document["id"])
                if change.get(kind, key) is None:
                    raise ValueError(f"no {kind} {key}")
                change.change(
                    kind, key, **{name: value for name, value in document.items() if name not in ("kind", "id")}
                )
            for document in wanted.get("delete", []):
                change.delete(KINDS[document["kind"]], str(document["id"]))
        return made
