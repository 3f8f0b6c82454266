"""WHMCS' pages: what staff see (clients, orders, invoices, activity log) and the customer's payment methods."""

from __future__ import annotations

import secrets
import time
from http.cookies import CookieError, SimpleCookie

from sandbox.pages import badge, button, esc, page, table
from sandbox.store import Document
from sandbox.whmcs.model import Refused
from sandbox.whmcs.ordering import Ordering
from sandbox.wire import Request, Response, redirect

SITE = "WHMCS (sandbox)"
LINKS = {
    "Orders": "/",
    "Clients": "/clients",
    "Invoices": "/invoices",
    "Products": "/products",
    "Activity log": "/activity",
}
AREA = "Northwind Hosting client area (sandbox)"
SHOWN = 200
SSO_SECONDS = 60
ORDER_HEADINGS = ["Order", "Date", "Client", "Status", "Services", "Amount", "Notes"]


class Pages:
    """What staff do in the admin area, and the customer in the client area."""

    def __init__(self, model: Ordering):
        self.model = model
        self.store = model.store
        self.settings = model.settings

    def handle(self, request: Request) -> Response:
        """Pages by GET, buttons by POST."""
        parts = [part for part in request.path.split("/") if part]
        match request.method, parts:
            case "GET", []:
                return self._orders()
            case "GET", ["clients"]:
                return self._clients()
            case "GET", ["invoices"]:
                return self._invoices()
            case "GET", ["products"]:
                return self._products()
            case "GET", ["activity"]:
                rows = [
                    [esc(each["date"]), esc(each["description"]), esc(each["userid"] or "")]
                    for each in self.store.all("activity")[: -SHOWN - 1 : -1]
                ]
                return page(SITE, "Activity log", table(["Date", "Description", "Client"], rows), LINKS)
            case "GET", ["orders", key]:
                order = self.model.get("order", key)
                if order is not None:
                    return self._order(order)
            case "GET", ["clients", key]:
                client = self.model.get("client", key)
                if client is not None:
                    return self._client(client)
            case "POST", ["orders", key, ("accept" | "cancel" | "fraud") as action]:
                order = self.model.get("order", key)
                if order is not None:
                    return self._decide(order, action)
            case "POST", ["clients", key, "paymethods"]:
                client = self.model.get("client", key)
                if client is not None:
                    with self.store.transaction() as change:
                        self.model.add_paymethod(change, client)
                    return redirect(f"/clients/{client['id']}")
            case "GET", ["oauth", "singlesignon.php"]:
                return self._sign_on(request)
            case (("GET" | "POST"), ["clientarea", "payment-methods"]):
                return self._payment_methods(request)
        return page(SITE, "Not found", "<p>There is no such page.</p>", LINKS, status=404)

    def _name(self, client_id: int) -> str:
        client = self.model.get("client", client_id) or {}
        shown = f"{client.get('firstname', '')} {client.get('lastname', '')}".strip() or "?"
        return f'<a href="/clients/{client_id}">{esc(shown)}</a>'

    def _order_row(self, order: Document) -> list[str]:
        services = self.model.services_of(order["id"])
        listed = "<br>".join(f"{esc(each['name'])} {esc(each['domain'])} {badge(each['status'])}" for each in services)
        return [
            f'<a href="/orders/{order["id"]}">{order["id"]}</a>',
            esc(order["date"]),
            self._name(order["userid"]),
            badge(order["status"]),
            listed,
            esc(order["amount"]),
            esc(order["notes"]),
        ]

    def _orders(self) -> Response:
        with self.store.lock:
            orders = self.store.all("order")
            rows = [self._order_row(each) for each in orders[: -SHOWN - 1 : -1]]
        return page(SITE, f"Orders ({len(orders)})", table(ORDER_HEADINGS, rows, "No orders yet."), LINKS)

    def _order(self, order: Document) -> Response:
        with self.store.lock:
            services = [
                [
                    str(each["id"]),
                    esc(each["name"]),
                    esc(each["domain"]),
                    str(each["qty"]),
                    esc(each["billingcycle"]),
                    badge(each["status"]),
                    esc(each["username"]),
                    esc(", ".join(f"{key}={value}" for key, value in each["customfields"].items())),
                ]
                for each in self.model.services_of(order["id"])
            ]
            invoice = self.model.get("invoice", order["invoiceid"])
        facts = [
            ("Client", self._name(order["userid"])),
            ("Status", badge(order["status"])),
            ("Order number", esc(order["ordernum"])),
            ("Date", esc(order["date"])),
            ("Amount", esc(order["amount"])),
            ("Payment method", esc(order["paymentmethod"])),
            ("Notes", esc(order["notes"]) or "–"),
            ("Invoice", f"{invoice['id']} {badge(invoice['status'])}" if invoice else "none"),
        ]
        body = "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts) + "</dl><p>"
        base = f"/orders/{order['id']}"
        if order["status"] == "Pending":
            body += button(f"{base}/accept", "Accept order")
        if order["status"] in ("Pending", "Active"):
            body += button(f"{base}/cancel", "Cancel order") + button(f"{base}/fraud", "Mark as fraud")
        body += "</p><h2>Services</h2>" + table(
            ["Id", "Product", "Domain", "Qty", "Cycle", "Status", "Username", "Custom fields"],
            services,
            "This order has no services (yet).",
        )
        return page(SITE, f"Order {order['id']}", body, LINKS)

    def _decide(self, order: Document, action: str) -> Response:
        try:
            with self.store.transaction() as change:
                if action == "accept":
                    self.model.accept(change, order, None)
                else:
                    self.model.end_order(change, order, "Cancelled" if action == "cancel" else "Fraud", by_staff=True)
        except Refused as refused:
            return page(SITE, "Not done", f"<p>{esc(refused)}</p>", LINKS, status=409)
        return redirect(f"/orders/{order['id']}")

    def _clients(self) -> Response:
        rows = [
            [
                str(each["id"]),
                self._name(each["id"]),
                esc(each["companyname"]),
                esc(each["email"]),
                badge(each["status"]),
                esc(each["defaultgateway"]),
                str(len(self.store.find("paymethod", "userid", each["id"]))),
            ]
            for each in self.store.all("client")[:SHOWN]
        ]
        headings = ["Id", "Name", "Company", "E-mail", "Status", "Gateway", "Payment methods"]
        return page(SITE, "Clients", table(headings, rows), LINKS)

    def _methods(self, client_id: int) -> str:
        rows = [
            [esc(each["type"]), esc(each["description"]), esc(each["expiry_date"])]
            for each in self.store.find("paymethod", "userid", client_id)
        ]
        return table(["Type", "Description", "Expires"], rows, "No payment method on file.")

    def _client(self, client: Document) -> Response:
        with self.store.lock:
            orders = [
                self._order_row(each) for each in self.store.find("order", "userid", client["id"])[: -SHOWN - 1 : -1]
            ]
        add = button(f"/clients/{client['id']}/paymethods", "Add a test card")
        body = (
            f"<dl><dt>E-mail</dt><dd>{esc(client['email'])}</dd><dt>Status</dt><dd>{badge(client['status'])}</dd>"
            f"<dt>Company</dt><dd>{esc(client['companyname']) or '–'}</dd></dl>"
            f"<h2>Payment methods</h2>{self._methods(client['id'])}"
            f"<p>{add}</p>"
            f"<h2>Orders</h2>{table(ORDER_HEADINGS, orders, 'No orders yet.')}"
        )
        return page(SITE, f"{client['firstname']} {client['lastname']}", body, LINKS)

    def _invoices(self) -> Response:
        rows = [
            [str(each["id"]), esc(each["date"]), self._name(each["userid"]), esc(each["total"]), badge(each["status"])]
            for each in self.store.all("invoice")[: -SHOWN - 1 : -1]
        ]
        return page(SITE, "Invoices", table(["Invoice", "Date", "Client", "Total", "Status"], rows), LINKS)

    def _products(self) -> Response:
        rows = [
            [
                str(each["id"]),
                esc(each["name"]),
                esc(each["paytype"]),
                esc(", ".join(f"{cycle} {price}" for cycle, price in each["pricing"].items())),
                esc(each.get("module")),
                esc(", ".join(f"{field['id']} {field['name']}" for field in each.get("customfields", []))),
            ]
            for each in self.store.all("product")
        ]
        return page(
            SITE, "Products", table(["Id", "Name", "Payment", "Prices", "Module", "Custom fields"], rows), LINKS
        )

    # -- the customer's side

    def _sign_on(self, request: Request) -> Response:
        """The one-time link of CreateSsoToken: turns the token into a session."""
        token = request.args().get("access_token", "")
        with self.store.transaction() as change:
            document = change.get("_sso", token)
            if document is not None:
                change.delete("_sso", token)
            if document is None or time.time() - document["issued"] > SSO_SECONDS:
                return page(
                    AREA, "Link no longer valid", "<p>This link has been used or is too old.</p>", {}, status=403
                )
            session = secrets.token_urlsafe(24)
            change.put("_session", session, {"client": document["client"]})
        return redirect(
            "/clientarea/payment-methods",
            [("Set-Cookie", f"WHMCSsandbox={session}; Path=/clientarea; HttpOnly; SameSite=Lax")],
        )

    def _payment_methods(self, request: Request) -> Response:
        try:
            cookie = SimpleCookie(request.headers.get("cookie", "")).get("WHMCSsandbox")
        except CookieError:
            cookie = None
        session = self.store.get("_session", cookie.value) if cookie is not None else None
        client = self.model.get("client", session["client"]) if session is not None else None
        if client is None:
            return page(AREA, "Please sign in", "<p>Come here from your order page in the portal.</p>", {}, status=403)
        if request.method == "POST":
            with self.store.transaction() as change:
                self.model.add_paymethod(change, client)
            return redirect("/clientarea/payment-methods")
        back = str(self.settings["portal_url"] or "")
        links = {"Back to the portal": f"{back.rstrip('/')}/orders"} if back else {}
        body = (
            f"<p>Signed in as {esc(client['firstname'])} {esc(client['lastname'])}.</p>{self._methods(client['id'])}"
            f"<p>{button('/clientarea/payment-methods', 'Add a test card', main=True)}</p>"
        )
        return page(AREA, "Payment methods", body, links)
