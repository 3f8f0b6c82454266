"""The pretend org as one server: token endpoint, REST API, pages, and its part of the control API."""

from __future__ import annotations

import re
import secrets
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from sandbox.base import Sandbox
from sandbox.call import Call
from sandbox.salesforce import ids, oauth
from sandbox.salesforce.callout import Callouts
from sandbox.salesforce.errors import PRESETS, SfError, expired_session, not_found
from sandbox.salesforce.records import Records
from sandbox.salesforce.rest import Rest
from sandbox.salesforce.schema import INDEXES, Field, Record
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
        "callout_mode": "guide",
    }

    def __init__(self, data: Path, settings: dict[str, Any]):
        super().__init__(data, settings)
        self.records = Records(self.store, self.settings)
        self.rest = Rest(self.records, self.settings)
        self.callouts = Callouts(self.records, self.journal, self.settings)
        self.pages = Pages(self.records, self.provision_in_background)

    # -- calls

    def describe(self, request: Request) -> dict[str, Any]:
        """The action's name is `token`, `query`, `composite`, `create:Order`, `collections.update`, `web`, …"""
        body = request.body[:200_000].decode("utf-8", "replace")
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
                action = "versions" if request.path.count("/") < 4 else "resources"
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
        if not request.path.startswith("/services/"):
            return self.pages.handle(request)
        headers: list[tuple[str, str]] = []
        try:
            if request.path.rstrip("/") != "/services/data":
                user = self._signed_in(request)
                self.settings["api_used"] += 1
                headers = [("Sforce-Limit-Info", f"api-usage={self.settings['api_used']}/{self.settings['api_limit']}")]
                if self.settings["api_used"] > self.settings["api_limit"]:
                    raise SfError("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", status=403)
                if request.path == "/services/oauth2/userinfo":
                    return json_response(
                        {
                            "user_id": self.records.user_id,
                            "preferred_username": user,
                            "organization_id": self.records.organization_id,
                        },
                        headers=headers,
                    )
            if not request.path.startswith("/services/data"):
                raise not_found()
            with self.store.transaction(call.entry) as change:
                status, body = self.rest.dispatch(
                    change, call, request.method, request.raw_path, request.args(), request.body, request.headers
                )
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
                "id": f"https://login.salesforce.com/id/{organization}/{user}",
                "token_type": "Bearer",
            },
            headers=[("Cache-Control", "no-store")],
        )

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
                return json_response(self.seed(request.json()), 201)
            case "POST", ["provision"]:
                wanted = request.json()
                key = ids.to_18(wanted["orderId"]) or wanted["orderId"]
                if wanted.get("background"):
                    self.provision_in_background(key, wanted.get("options"))
                    return json_response({"started": key}, 202)
                return json_response(self.callouts.provision(key, wanted.get("options")))
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

    def provision_in_background(self, order_id: str, options: dict[str, Any] | None = None) -> None:
        """Like @future: the click returns at once."""
        threading.Thread(target=self.callouts.provision, args=(order_id, options), daemon=True).start()

    def seed(self, wanted: Document) -> Document:
        """`fields` adds custom fields, `records` creates, `update` changes, `delete` removes: all without the checks a
        caller of the REST API meets. `ref` names a record; "@{name}" elsewhere is its id."""
        for name, fields in (wanted.get("fields") or {}).items():
            for field_name, about in fields.items():
                self.records.add_field(name, Field(field_name, **about))
        names: dict[str, str] = {}

        def values_of(record: Record) -> Record:
            result = {}
            for key, value in record.items():
                if key in ("type", "ref"):
                    continue
                if isinstance(value, str) and value.startswith("@{") and value.endswith("}"):
                    value = names[value[2:-1]]
                result[key] = value
            unknown = set(result) - set(self.records.object(record["type"]).fields)
            if unknown:
                raise ValueError(f"{record['type']} has no field {', '.join(sorted(unknown))}")
            return result

        created, updated = [], 0
        with self.store.transaction() as change:
            for record in wanted.get("records", []):
                key = self.records.insert(change, self.records.object(record["type"]).name, values_of(record))
                created.append(key)
                names[record.get("ref", key)] = key
            for record in wanted.get("update", []):
                key = ids.to_18(record["Id"]) or ""
                before = change.get(record["type"], key)
                if before is None:
                    raise ValueError(f"no {record['type']} {record['Id']}")
                self.records.write(change, record["type"], before, {**values_of(record), "Id": key})
                updated += 1
            for record in wanted.get("delete", []):
                change.delete(record["type"], ids.to_18(record["Id"]) or "")
        return {"ids": created, "names": names, "updated": updated}
