"""AddOrder, AcceptOrder and what else is done with orders."""

from __future__ import annotations

import hashlib

from sandbox.call import Call
from sandbox.store import Document
from sandbox.whmcs import php
from sandbox.whmcs.api.actions import Actions, as_list
from sandbox.whmcs.model import CYCLES, GATEWAYS, NOT_PENDING, ORDER_STATUSES, Refused
from sandbox.whmcs.php import Params, to_int, truthy

ARRAYS = {
    "addorder": (
        "pid",
        "qty",
        "billingcycle",
        "domain",
        "hostname",
        "customfields",
        "configoptions",
        "priceoverride",
        "domaintype",
        "regperiod",
    )
}


class OrderActions(Actions):
    """AddOrder, AcceptOrder and what else is done with orders."""

    def do_addorder(self, p: Params, call: Call) -> Document:
        """AddOrder"""
        client = self.client(p)
        if client["status"] == "Closed":
            raise Refused("Unable to add order when client status is Closed")
        gateway = str(p.get("paymentmethod", ""))
        if gateway not in GATEWAYS:
            raise Refused(f"Invalid Payment Method. Valid options include {','.join(GATEWAYS)}")
        asked, domains = self._cart(p)
        items = self._made(asked, call)
        if not items and not domains:
            raise Refused("No items added to cart so order cannot proceed")
        address = str(p.get("clientip") or (call.connection.peer[0] if call.connection else ""))
        with self.store.transaction(call.entry) as change:
            order = self.model.add_order(
                change,
                client,
                gateway,
                items,
                domains,
                str(p.get("notes", "")),
                truthy(p.get("noinvoice")),
                address,
                asked,
            )
            call.entry["outcome"] = {"orderid": order["id"]}
            half_built = call.fault is not None and call.fault["kind"] == "half_built"
            if not half_built:
                made = self.model.complete_order(change, order, items, domains)
        if half_built:
            assert call.fault is not None
            call.wait(float(call.fault["seconds"]))
            with self.store.transaction(call.entry) as change:
                if change.get("order", str(order["id"])) is None:
                    raise Refused("Order ID Not Found")
                made = self.model.complete_order(change, order, items, domains)
        services, registered, invoice = made
        joined = ",".join(str(each) for each in services)
        return {
            "orderid": self.i(order["id"]),
            "productids" if self.settings["legacy_productids"] else "serviceids": joined,
            "addonids": "",
            "domainids": ",".join(str(each) for each in registered),
            "invoiceid": self.i(invoice),
        }

    def _made(self, items: list[Document], call: Call) -> list[Document]:
        """What the cart makes of what was asked: one of each where it ignores quantities (the setting `quantities`, the
        fault `ignored_quantities`), without the product that the fault `skipped_product` names, or the last one."""
        kind = call.fault["kind"] if call.fault is not None else None
        if kind == "skipped_product":
            assert call.fault is not None
            skipped = to_int(call.fault.get("record") or items[-1]["pid"]) if items else 0
            return [each for each in items if each["pid"] != skipped]
        if kind == "ignored_quantities" or self.settings["quantities"] == "ignored":
            return [{**each, "qty": 1} for each in items]
        return items

    def _cart(self, p: Params) -> tuple[list[Document], list[Document]]:
        columns = {name: as_list(p.get(name)) for name in ARRAYS["addorder"]}
        items = []
        for number, pid in sorted(columns["pid"].items()):
            product = self.model.get("product", to_int(pid))
            if product is None:
                continue
            cycle = str(columns["billingcycle"].get(number) or "")
            if not cycle:
                cycle = next((each for each in CYCLES if self.model.price(product, each) is not None), "free")
            price = self.model.price(product, cycle)
            if price is None:
                raise Refused("Invalid billing cycle")
            override = columns["priceoverride"].get(number)
            known = {each["id"] for each in product.get("customfields", [])}
            values = php.custom_fields(columns["customfields"].get(number, ""))
            items.append(
                {
                    "pid": product["id"],
                    "product": product,
                    "qty": max(1, to_int(columns["qty"].get(number, "1"))),
                    "cycle": cycle,
                    "amount": float(override) if override not in (None, "") else price,
                    "domain": str(columns["hostname"].get(number) or columns["domain"].get(number) or ""),
                    "customfields": {str(key): value for key, value in values.items() if key in known},
                }
            )
        domains = [
            {"domain": str(columns["domain"][number]), "type": str(kind), "amount": 15.0}
            for number, kind in sorted(columns["domaintype"].items())
            if columns["domain"].get(number)
        ]
        return items, domains

    def do_acceptorder(self, p: Params, call: Call) -> Document:
        """AcceptOrder"""
        autosetup = truthy(p["autosetup"]) if "autosetup" in p else None
        with self.store.transaction(call.entry) as change:
            failure = self.model.accept(change, self.model.get("order", to_int(p.get("orderid"))), autosetup)
        if failure is not None:
            raise Refused(failure)
        return {}

    def do_cancelorder(self, p: Params, call: Call) -> Document:
        """CancelOrder"""
        order = self.order(p, NOT_PENDING)
        if order["status"] != "Pending":
            raise Refused(NOT_PENDING)
        with self.store.transaction(call.entry) as change:
            self.model.end_order(change, order, "Cancelled")
        return {}

    def do_fraudorder(self, p: Params, call: Call) -> Document:
        """FraudOrder"""
        order = self.order(p, "Order ID Not Found")
        with self.store.transaction(call.entry) as change:
            self.model.end_order(change, order, "Fraud")
        return {}

    def do_pendingorder(self, p: Params, call: Call) -> Document:
        """PendingOrder"""
        order = self.order(p, "Order ID Not Found")
        with self.store.transaction(call.entry) as change:
            self.model.pending(change, order)
        return {}

    def do_deleteorder(self, p: Params, call: Call) -> Document:
        """DeleteOrder"""
        order = self.order(p, "Order ID not found")
        if order["status"] not in ("Cancelled", "Fraud"):
            raise Refused("The order status must be in Cancelled or Fraud to be deleted")
        with self.store.transaction(call.entry) as change:
            self.model.delete_order(change, order)
        return {}

    def do_getorders(self, p: Params, call: Call) -> Document:
        """GetOrders"""
        if p.get("id"):
            one = self.model.get("order", to_int(p["id"]))
            rows = [one] if one is not None else []
        elif p.get("userid"):
            rows = self.store.find("order", "userid", to_int(p["userid"]))
        else:
            rows = self.store.all("order")
        for name in ("userid", "requestor_id"):
            if p.get(name):
                rows = [each for each in rows if each[name] == to_int(p[name])]
        if p.get("status"):
            rows = [each for each in rows if each["status"].lower() == str(p["status"]).lower()]
        rows = sorted(rows, key=lambda each: each["id"], reverse=True)
        if self.settings["unordered"]:
            # The same scattered order each time, so that pages still add up.
            rows.sort(key=lambda each: hashlib.sha256(str(each["id"]).encode()).digest())
        shown, numbers = self.window(p, rows)
        return {**numbers, "orders": self.many("order", [self._order_row(each) for each in shown])}

    def _order_row(self, order: Document) -> Document:
        client = self.model.get("client", order["userid"]) or {}
        invoice = self.model.get("invoice", order["invoiceid"])
        lines = [
            {
                "type": "product",
                "relid": self.i(each["id"]),
                "producttype": "Hosting Account",
                "product": each["name"],
                "domain": each["domain"],
                "billingcycle": each["billingcycle"],
                "amount": f"${each['firstpaymentamount']} USD",
                "status": each["status"],
            }
            for each in self.model.services_of(order["id"])
        ]
        lines += [
            {
                "type": "domain",
                "relid": self.i(each["id"]),
                "producttype": "Domain",
                "product": each["domainname"],
                "domain": each["domainname"],
                "billingcycle": "1 Year",
                "amount": f"${each['recurringamount']} USD",
                "status": each["status"],
            }
            for each in self.model.domains_of(order["id"])
        ]
        return {
            "id": self.i(order["id"]),
            "ordernum": self.i(order["ordernum"]),
            "userid": self.i(order["userid"]),
            "contactid": self.i(0),
            "requestor_id": self.i(order["requestor_id"]),
            "admin_requestor_id": self.i(0),
            "date": order["date"],
            "nameservers": "",
            "transfersecret": "",
            "renewals": "",
            "promocode": "",
            "promotype": "",
            "promovalue": "",
            "orderdata": "[]",
            "amount": order["amount"],
            "paymentmethod": order["paymentmethod"],
            "invoiceid": self.i(order["invoiceid"]),
            "status": order["status"],
            "ipaddress": order["ipaddress"],
            "fraudmodule": "",
            "fraudoutput": "",
            "notes": order["notes"],
            "paymentmethodname": GATEWAYS.get(order["paymentmethod"], order["paymentmethod"]),
            "paymentstatus": invoice["status"] if invoice else None,
            "name": f"{client.get('firstname', '')} {client.get('lastname', '')}".strip(),
            "currencyprefix": "$",
            "currencysuffix": " USD",
            "frauddata": "",
            "validationdata": "",
            "lineitems": self.many("lineitem", lines),
        }

    def do_getorderstatuses(self, p: Params, call: Call) -> Document:
        """GetOrderStatuses"""
        rows = [
            {"title": each, "count": sum(order["status"] == each for order in self.store.all("order")), "color": "#666"}
            for each in (*ORDER_STATUSES, *self.settings["custom_statuses"])
        ]
        return {"totalresults": len(rows), "statuses": {"status": rows}}
