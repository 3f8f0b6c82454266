"""The pretend org as one server: token endpoint, REST API, pages, and its part of the control API."""

from __future__ import annotations

import contextlib
import re
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.base import Sandbox
from sandbox.call import Call
from sandbox.salesforce import ids, oauth
from sandbox.salesforce.button import Button
from sandbox.salesforce.callout import Callouts
from sandbox.salesforce.errors import SfError, expired_session, not_found
from sandbox.salesforce.locks import RowLocked
from sandbox.salesforce.presets import API_DISABLED, PRESETS
from sandbox.salesforce.records import Records
from sandbox.salesforce.rest import Rest
from sandbox.salesforce.schema import INDEXES
from sandbox.salesforce.staff import Staff
from sandbox.salesforce.web import Pages
from sandbox.store import Document
from sandbox.wire import Request, Response, json_response

ORDER_ID = re.compile(r"(?<![0-9A-Za-z])801[0-9A-Za-z]{12}(?:[0-9A-Za-z]{3})?(?![0-9A-Za-z])")
METHODS = {"GET": "get", "POST": "create", "PATCH": "update", "DELETE": "delete"}


class Org(Sandbox):
    """Salesforce as the portal sees it, and as its operator sees it in a browser."""

    name = "salesforce"
    presets = PRESETS
    indexes = INDEXES
    secret_settings = frozenset({"webhook_secret"})
    defaults = {
        "client_id": "sandbox-client-id",
        "username": "portal@northwind.example",
        "public_key": None,
        "audience": None,
        "webhook_secret": None,
        "portal_url": None,
        "query_batch_size": 2000,
        "upsert_update_status": 200,
        "edit_activated_orders": True,
        "api_limit": 1_000_000,
        "api_used": 0,
        "app_blocked": False,
        "user_approved": True,
        "org_utc_offset_minutes": 0,
        "callout_mode": "package",
        "operator": "operator@northwind.example",
        "retry_minutes": [1, 2, 5, 10, 10],
        "minute_seconds": 1.0,
        "bulk_jobs": 5,
        "lost_clicks": 0,
        # What an org may be like: see permissions.py, refusals.py, order_rules.py and rest.py.
        "permissions": "portal",
        "hidden_objects": [],
        "hidden_fields": [],
        "read_only_objects": [],
        "read_only_fields": [],
        "picklists": {},
        "refused_writes": {},
        "failing_triggers": {},
        "storage_full": False,
        "person_accounts": False,
        "person_contacts": False,
        "multi_currency": False,
        "product_sort_order": True,
        "orders_without_account": False,
        "lock_wait_seconds": 10.0,
        "max_concurrent_requests": None,
        "api_disabled": False,
        "oldest_version": 31,
    }

    def __init__(self, data: Path, settings: dict[str, Any]):
        super().__init__(data, settings)
        self._running = 0
        self._running_lock = threading.Lock()
        self.records = Records(self.store, self.settings)
        self.rest = Rest(self.records, self.settings)
        self.callouts = Callouts(self.records, self.journal, self.settings)
        self.staff = Staff(self.records, self.journal)
        self.button = Button(self.records, self.journal, self.settings, self.callouts, self.stopping)
        self.pages = Pages(self.records, self.press)

    # -- calls

    def describe(self, request: Request) -> dict[str, Any]:
        """The action's name is `token`, `query`, `composite`, `create:Order`, `collections.update`, `web` and so on."""
        body = request.body[:200_000].decode("utf-8", "replace")
        if request.path.startswith("/id/"):
            return {"action": "identity", "params": None}
        if not request.path.startswith("/services/"):
            found = ORDER_ID.search(request.path)
            return {
                "action": "web" if request.method == "GET" else f"web.{request.path.rsplit('/', 1)[-1]}",
                "order": ids.to_18(found.group()) if found else None,
                "params": None,
            }
        if request.path.startswith("/services/oauth2"):
            return {
                "action": request.path.rsplit("/", 1)[-1],
                "params": {"grant_type": request.form().get("grant_type")},
            }
        parts = [part for part in request.raw_path.split("/") if part][3:]
        args = request.args()
        match parts:
            case []:
                action = "resources" if request.path.rstrip("/").count("/") > 2 else "versions"
            case ["sobjects", name]:
                action = f"{METHODS.get(request.method, '?')}:{name}"
            case ["sobjects", name, "describe"]:
                action = f"describe:{name}"
            case ["sobjects", name, _]:
                action = f"{METHODS.get(request.method, '?')}:{name}"
            case ["sobjects", name, _, _]:
                action = f"{'upsert' if request.method == 'PATCH' else METHODS.get(request.method, '?')}:{name}"
            case ["composite", "sobjects", *more]:
                kind = "upsert" if len(more) == 2 else METHODS.get(request.method, "?")
                action = f"collections.{kind}"
            case ["composite", "tree", name]:
                action = f"tree:{name}"
            case ["composite", "batch"]:
                action = "batch"
            case ["query" | "queryAll", _]:
                action = "queryMore"
            case _:
                action = parts[0]
        found = ORDER_ID.search(request.path) or ORDER_ID.search(args.get("q", "")) or ORDER_ID.search(body)
        return {
            "action": action,
            "order": ids.to_18(found.group()) if found else None,
            "params": {"q": args["q"]} if "q" in args else body[:200_000] or None,
        }

    def outcome(self, response: Response) -> Any:
        """Refusals in full; of the rest the length (tokens and customer data stay out)."""
        if response.status >= 400:
            return response.body[:600].decode("utf-8", "replace")
        return {"bytes": len(response.body)}

    def handle(self, request: Request, call: Call) -> Response:
        """Token endpoint, REST or page."""
        if request.path == "/services/oauth2/token":
            return self._token(request, call)
        if request.path == "/services/oauth2/revoke":
            return self._revoke({**request.args(), **request.form()}.get("token", ""), call)
        if not request.path.startswith(("/services/", "/id/")):
            return self.pages.handle(request)
        headers: list[tuple[str, str]] = []
        try:
            if request.path.rstrip("/") != "/services/data":
                self._signed_in(request)
                headers += self._count()
            if request.path == "/services/oauth2/userinfo" or request.path.startswith("/id/"):
                return json_response(self._identity(request), headers=headers)
            if not request.path.startswith("/services/data"):
                raise not_found()
            with self._concurrent():
                status, body = self._dispatch(request, call)
        except SfError as error:
            return json_response(error.body(), error.status, headers)
        except (AttributeError, KeyError, TypeError) as error:
            # JSON of a shape nobody asked for; the traceback tells a mistake of the sandbox from one of the caller.
            traceback.print_exc(file=sys.stderr)
            refusal = SfError("JSON_PARSER_ERROR", f"The request body has an unexpected shape: {error}")
            return json_response(refusal.body(), 400, headers)
        if status == 204:
            return Response(204, headers=headers)
        return json_response(body, status, headers)

    def _count(self) -> list[tuple[str, str]]:
        """Counts a call against the daily limit; answers the header that tells of it. Raises SfError."""
        self.settings["api_used"] += 1
        used, limit = self.settings["api_used"], self.settings["api_limit"]
        if used > limit:
            raise SfError("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", status=403)
        if self.settings["api_disabled"]:
            raise SfError("API_DISABLED_FOR_ORG", API_DISABLED, status=403)
        return [("Sforce-Limit-Info", f"api-usage={used}/{limit}")]

    @contextlib.contextmanager
    def _concurrent(self) -> Iterator[None]:
        """Refuses a call while as many as the org allows are running. Raises SfError."""
        most = self.settings["max_concurrent_requests"]
        with self._running_lock:
            if most is not None and self._running >= most:
                message = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
                raise SfError("REQUEST_LIMIT_EXCEEDED", message, status=403)
            self._running += 1
        try:
            yield
        finally:
            with self._running_lock:
                self._running -= 1

    def _dispatch(self, request: Request, call: Call) -> tuple[int, Any]:
        """Does a call; one that needs a row which somebody holds waits outside the transaction and starts again, as
        long as Salesforce waits."""
        deadline = time.monotonic() + float(self.settings["lock_wait_seconds"])
        while True:
            try:
                with self.store.transaction(call.entry) as change:
                    change.patient = time.monotonic() < deadline
                    return self.rest.dispatch(
                        change, call, request.method, request.raw_path, request.args(), request.body, request.headers
                    )
            except RowLocked as held:
                self.records.locks.wait(held.key, deadline - time.monotonic())

    def _identity(self, request: Request) -> dict[str, Any]:
        """Who the token belongs to (OpenID Connect's userinfo, and the identity URL's answer)."""
        user = self.store.all("User")[0]
        organization = self.records.organization_id
        base = f"http://{request.headers.get('host', '')}"
        return {
            "id": f"{base}/id/{organization}/{user['Id']}",
            "sub": f"{base}/id/{organization}/{user['Id']}",
            "user_id": user["Id"],
            "organization_id": organization,
            "username": self.settings["username"],
            "preferred_username": self.settings["username"],
            "nick_name": "portal",
            "display_name": "Portal Integration",
            "name": "Portal Integration",
            "email": user["Email"],
            "email_verified": True,
            "active": True,
            "user_type": "STANDARD",
            "language": "en_US",
            "locale": "en_US",
            "utcOffset": 0,
            "urls": {
                "rest": f"{base}/services/data/v{{version}}/",
                "query": f"{base}/services/data/v{{version}}/query/",
                "sobjects": f"{base}/services/data/v{{version}}/sobjects/",
                "recent": f"{base}/services/data/v{{version}}/recent/",
            },
        }

    def _token(self, request: Request, call: Call) -> Response:
        if request.method != "POST":
            return json_response({"error": "invalid_request", "error_description": "must use HTTP POST"}, 400)
        try:
            username = oauth.check(request.form(), self.settings)
        except oauth.TokenError as error:
            return json_response(error.body, 400)
        except OSError as error:
            print(f"public key: {error}", file=sys.stderr)
            return json_response({"error": "invalid_client_id", "error_description": "client identifier invalid"}, 400)
        organization, user = self.records.organization_id, self.records.user_id
        token = f"{organization[:15]}!AQ{secrets.token_urlsafe(48)}"
        with self.store.transaction(call.entry) as change:
            change.put("_token", token, {"username": username, "issued": time.time()})
            issued = self.store.tables["_token"]
            for old in list(issued)[: max(0, len(issued) - 200)]:
                change.delete("_token", old)
        base = self.server.url if self.server else ""
        instance = f"http://{request.headers['host']}" if "host" in request.headers else base
        return json_response(
            {
                "access_token": token,
                "scope": "api",
                "instance_url": instance,
                "id": f"{instance}/id/{organization}/{user}",
                "token_type": "Bearer",
            },
            headers=[("Cache-Control", "no-store")],
        )

    def _revoke(self, token: str, call: Call) -> Response:
        if self.store.get("_token", token) is None:
            return json_response({"error": "invalid_token", "error_description": "token invalid"}, 400)
        with self.store.transaction(call.entry) as change:
            change.delete("_token", token)
        return Response(200)

    def _signed_in(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        document = self.store.get("_token", token)
        if scheme.lower() not in ("bearer", "oauth") or document is None:
            raise expired_session()
        return str(document["username"])

    # -- control

    def state(self, args: dict[str, str]) -> dict[str, Any]:
        """`objects=Order,OrderItem` picks; every field of every record, deleted ones included."""
        wanted = args["objects"].split(",") if "objects" in args else list(self.records.schema)
        with self.store.lock:
            result: dict[str, Any] = {
                name: [self.records.whole(name, row) for row in self.records.rows(name)] for name in wanted
            }
        result["organizationId"] = self.records.organization_id
        return result

    def control(self, request: Request, parts: list[str]) -> Response | None:
        """seed, provision, callouts, expire-tokens."""
        match request.method, parts:
            case "POST", ["seed"]:
                return json_response(self.staff.seed(request.json()), 201)
            case "POST", ["staff"]:
                return json_response(self.staff.change_order(request.json()))
            case "POST", ["clone"]:
                return json_response(self.staff.clone(request.json()), 201)
            case "POST", ["locks"]:
                wanted = request.json()
                self.records.locks.hold(
                    ids.to_18(wanted["id"]) or "", float(wanted.get("seconds", 3600)), bool(wanted.get("approval"))
                )
                return json_response({})
            case "DELETE", ["locks", *some]:
                self.records.locks.release(ids.to_18(some[0]) if some else None)
                return json_response({})
            case "POST", ["provision"]:
                return json_response(*self._provision(request.json()))
            case "GET", ["callouts"]:
                order = ids.to_18(request.args().get("order"))
                return json_response(
                    {
                        "callouts": [
                            each for each in self.store.all("_callout") if order is None or each["orderId"] == order
                        ]
                    }
                )
            case "POST", ["expire-tokens"]:
                with self.store.transaction() as change:
                    tokens = list(self.store.tables.get("_token", {}))
                    for token in tokens:
                        change.delete("_token", token)
                return json_response({"expired": len(tokens)})
        return None

    def _provision(self, wanted: Document) -> tuple[Any, int]:
        """`orderId` or `orderIds`, `options`, `background`: presses the button for one order or for many."""
        many = "orderIds" in wanted
        keys = [ids.to_18(key) or key for key in (wanted["orderIds"] if many else [wanted["orderId"]])]
        options = wanted.get("options")
        if wanted.get("background"):
            self.press(keys, options, many=many)
            return {"started": keys if many else keys[0]}, 202
        return (
            {"results": self.button.press_for_all(keys, options)} if many else self.button.press(keys[0], options)
        ), 200

    def press(self, order_ids: list[str], options: dict[str, Any] | None = None, *, many: bool = False) -> None:
        """The click comes back at once, and what it started goes on."""
        target, subject = (self.button.press_for_all, order_ids) if many else (self.button.press, order_ids[0])
        threading.Thread(target=target, args=(subject, options), daemon=True).start()

    def seed(self, wanted: Document) -> Document:
        """Creates and changes records without the checks a caller meets (see staff.py)."""
        return self.staff.seed(wanted)
