"""The org's pages: its orders, and the "Provision in WHMCS" button."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.pages import badge, button, checkbox, esc, form_around, page, table
from sandbox.salesforce import ids
from sandbox.salesforce.records import Records
from sandbox.salesforce.schema import Record
from sandbox.wire import Request, Response, redirect

SITE = "Salesforce (sandbox org)"
LINKS = {"Orders": "/", "Accounts": "/accounts", "Products": "/products"}
STATUSES = ("Pending Review", "Activated", "Cancelled", "Rejected")
SHOWN_ORDERS = 200
ERROR_FIELDS = ("Provisioning_Error_Code__c", "Provisioning_Error_Message__c")


class Pages:
    """The org's pages; `press` is what the button "Provision in WHMCS" does with orders' ids."""

    def __init__(self, records: Records, press: Callable[..., None]):
        self.records = records
        self.store = records.store
        self.press = press

    def handle(self, request: Request) -> Response:
        """Pages by GET, buttons by POST."""
        parts = [part for part in request.path.split("/") if part]
        match request.method, parts:
            case "GET", []:
                return self._orders()
            case "GET", ["accounts"]:
                return self._accounts()
            case "GET", ["products"]:
                return self._products()
            case "GET", ["orders", key]:
                record = self.records.record("Order", ids.to_18(key) or "")
                if record is not None:
                    return self._order(record)
            case "POST", ["provision"]:
                chosen = [key for key in request.form_lists().get("order", []) if self.records.record("Order", key)]
                if chosen:
                    self.press(chosen, many=True)
                return redirect("/")
            case "POST", ["orders", key, action]:
                record = self.records.record("Order", ids.to_18(key) or "")
                if record is not None and action == "provision":
                    self.press([record["Id"]])
                    return redirect(f"/orders/{record['Id']}")
                if record is not None and action == "status" and request.form().get("status") in STATUSES:
                    with self.store.transaction() as change:
                        self.records.write(change, "Order", record, {"Status": request.form()["status"]})
                    return redirect(f"/orders/{record['Id']}")
        return page(SITE, "Not found", "<p>There is no such page.</p>", LINKS, status=404)

    def _account_name(self, record: Record) -> str:
        return str((self.records.record("Account", record.get("AccountId") or "") or {}).get("Name") or "")

    def _orders(self) -> Response:
        with self.store.lock:
            records = [each for each in self.records.rows("Order") if not each.get("IsDeleted")]
            rows = [
                [
                    checkbox("order", each["Id"], f"Select order {each.get('OrderNumber')}"),
                    f'<a href="/orders/{esc(each["Id"])}">{esc(each.get("OrderNumber"))}</a>',
                    esc(self._account_name(each)),
                    badge(each.get("Status")),
                    badge(each.get("Provisioning_Status__c")),
                    esc(each.get("Portal_Reference__c")),
                    esc(each.get("WHMCS_Order_ID__c")),
                    esc(" – ".join(str(each[name]) for name in ERROR_FIELDS if each.get(name))),
                    f"{self.records.value('Order', each, 'TotalAmount'):.2f}",
                    esc((each.get("CreatedDate") or "")[:19]),
                ]
                for each in records[: -SHOWN_ORDERS - 1 : -1]
            ]
        headings = [
            "Select",
            "Order",
            "Account",
            "Status",
            "Provisioning",
            "Reference",
            "WHMCS order",
            "Error",
            "Total",
            "Created",
        ]
        body = table(headings, rows, "No orders yet: place one in the portal.")
        if rows:
            body = form_around("/provision", body, "Provision in WHMCS")
        return page(SITE, f"Orders ({len(records)})", body, LINKS)

    def _order(self, record: Record) -> Response:
        with self.store.lock:
            shown = self.records.whole("Order", record)
            items = []
            for each in self.records.items(record["Id"]):
                entry = self.records.record("PricebookEntry", each["PricebookEntryId"]) or {}
                product = self.records.record("Product2", entry.get("Product2Id") or "") or {}
                items.append(
                    [
                        esc(product.get("Name")),
                        esc(product.get("WH_Product_ID__c")),
                        esc(product.get("Billing_Cycle__c")),
                        f"{each['Quantity']:g}",
                        f"{each['UnitPrice']:.2f}",
                        esc(each.get("Domain__c") or each.get("Hostname__c")),
                    ]
                )
            callouts = [each for each in self.store.all("_callout") if each["orderId"] == record["Id"]][::-1]
        facts = [
            ("Account", self._account_name(record)),
            ("Status", shown["Status"]),
            ("Provisioning status", shown["Provisioning_Status__c"]),
            ("WHMCS order", shown["WHMCS_Order_ID__c"]),
            ("Error code", shown["Provisioning_Error_Code__c"]),
            ("Error message", shown["Provisioning_Error_Message__c"]),
            ("Last provisioning", shown["Last_Provisioning_At__c"]),
            ("Effective date", shown["EffectiveDate"]),
            ("Portal reference", shown["Portal_Reference__c"]),
            ("Record id", shown["Id"]),
            ("Total", f"{shown['TotalAmount']:.2f}"),
        ]
        body = "<dl>" + "".join(f"<dt>{esc(name)}</dt><dd>{esc(value) or '–'}</dd>" for name, value in facts) + "</dl>"
        base = f"/orders/{record['Id']}"
        body += (
            "<p>"
            + button(f"{base}/provision", "Provision in WHMCS", main=True)
            + "".join(
                button(f"{base}/status", f"Set {status}", status=status)
                for status in STATUSES
                if status != shown["Status"]
            )
            + "</p>"
        )
        headings = ["Product", "WHMCS product", "Billing cycle", "Quantity", "Price", "Domain"]
        body += "<h2>Order products</h2>" + table(headings, items, "This order has no products.")
        waiting = any(each["seconds"] is None for each in callouts[:5])
        rows = [
            [
                esc(each["sentAt"][:19]),
                "waiting for the portal…"
                if each["seconds"] is None
                else f"HTTP {each['status']}"
                if each["status"]
                else esc(each["error"]),
                f"{each['seconds']:.2f} s" if each["seconds"] is not None else "",
                esc(each["key"]),
                f"<pre>{esc((each['body'] or '')[:600])}</pre>" if each["body"] else "",
            ]
            for each in callouts[:10]
        ]
        body += "<h2>Callouts</h2>" + table(
            ["Sent", "Answer", "Took", "Idempotency-Key", "Body"], rows, "The button has not been pressed yet."
        )
        unfinished = shown["Provisioning_Status__c"] in ("Activating", "Requested")
        return page(SITE, f"Order {shown['OrderNumber']}", body, LINKS, refresh=2 if waiting or unfinished else None)

    def _accounts(self) -> Response:
        with self.store.lock:
            rows = []
            for each in self.records.rows("Account")[-SHOWN_ORDERS:]:
                contacts = [
                    str(contact.get("Email")) for contact in self.store.find("Contact", "AccountId", each["Id"])
                ]
                rows.append(
                    [
                        esc(each.get("Name")),
                        esc(each.get("WHMCS_Client_ID__c")),
                        esc(", ".join(contacts)),
                        esc(each["Id"]),
                    ]
                )
        return page(SITE, "Accounts", table(["Name", "WHMCS client", "Contacts", "Record id"], rows), LINKS)

    def _products(self) -> Response:
        with self.store.lock:
            rows = []
            for each in self.records.rows("PricebookEntry")[-SHOWN_ORDERS:]:
                product = self.records.record("Product2", each.get("Product2Id") or "") or {}
                book = self.records.record("Pricebook2", each.get("Pricebook2Id") or "") or {}
                rows.append(
                    [
                        esc(book.get("Name")),
                        esc(product.get("Name")),
                        esc(product.get("WH_Product_ID__c")),
                        esc(product.get("Billing_Cycle__c")),
                        f"{each.get('UnitPrice', 0):.2f}",
                    ]
                )
        headings = ["Price book", "Product", "WHMCS product", "Billing cycle", "Price"]
        return page(SITE, "Products", table(headings, rows), LINKS)
