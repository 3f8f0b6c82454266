"""The actions of /includes/api.php, with the parameters, answers and error texts of the real ones."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any

from sandbox.call import Call
from sandbox.store import Document
from sandbox.whmcs import php
from sandbox.whmcs.model import CYCLES, GATEWAYS, NOT_PENDING, ORDER_STATUSES, Model, Refused, money, timestamp
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
REQUIRED_CLIENT = {
    "firstname": "First Name",
    "lastname": "Last Name",
    "email": "Email",
    "address1": "Address 1",
    "city": "City",
    "state": "State",
    "postcode": "Postcode",
    "country": "Country",
    "phonenumber": "Phone Number",
}


def as_list(value: Any) -> dict[int, Any]:
    """A PHP array parameter by index."""
    return {to_int(key): each for key, each in value.items()} if isinstance(value, dict) else {}


class Api:
    """One method per action; each answers the body beside `result`, or raises Refused."""

    def __init__(self, model: Model, settings: dict[str, Any], url: Callable[[], str]):
        self.model = model
        self.store = model.store
        self.settings = settings
        self._url = url
        self.actions: dict[str, Callable[[Params, Call], Document]] = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    # -- shapes

    def i(self, value: Any) -> Any:
        """An id, as text or number by the setting `ids`."""
        return str(value) if self.settings["ids"] == "strings" else int(value)

    def many(self, inner: str, rows: list[Any]) -> Any:
        """{"order": [...]}; an empty one is "" when the setting `empty_lists` is "string"."""
        return "" if not rows and self.settings["empty_lists"] == "string" else {inner: rows}

    @staticmethod
    def window(p: Params, rows: list[Document], default: int = 25) -> tuple[list[Document], Document]:
        """limitstart/limitnum, with the three numbers of a list answer."""
        start, count = max(0, to_int(p.get("limitstart", 0))), to_int(p.get("limitnum", default)) or default
        shown = rows[start : start + count]
        return shown, {"totalresults": len(rows), "startnumber": start, "numreturned": len(shown)}

    def _client(self, p: Params, name: str = "clientid", message: str = "Client ID Not Found") -> Document:
        found = self.model.get("client", to_int(p.get(name)))
        if found is None:
            raise Refused(message)
        return found

    def _order(self, p: Params, message: str) -> Document:
        found = self.model.get("order", to_int(p.get("orderid")))
        if found is None:
            raise Refused(message)
        return found

    def _service(self, p: Params, message: str = "Service ID Not Found") -> Document:
        found = self.model.get("service", to_int(p.get("serviceid")))
        if found is None:
            raise Refused(message)
        return found

    # -- orders

    def do_addorder(self, p: Params, call: Call) -> Document:
        """AddOrder"""
        client = self._client(p)
        if client["status"] == "Closed":
            raise Refused("Unable to add order when client status is Closed")
        gateway = str(p.get("paymentmethod", ""))
        if gateway not in GATEWAYS:
            raise Refused(f"Invalid Payment Method. Valid options include {','.join(GATEWAYS)}")
        items, domains = self._cart(p)
        if not items and not domains:
            raise Refused("No items added to cart so order cannot proceed")
        address = str(p.get("clientip") or (call.connection.peer[0] if call.connection else ""))
        with self.store.transaction(call.entry) as change:
            order = self.model.add_order(
                change, client, gateway, items, domains, str(p.get("notes", "")), truthy(p.get("noinvoice")), address
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
        order = self._order(p, NOT_PENDING)
        if order["status"] != "Pending":
            raise Refused(NOT_PENDING)
        with self.store.transaction(call.entry) as change:
            self.model.end_order(change, order, "Cancelled")
        return {}

    def do_fraudorder(self, p: Params, call: Call) -> Document:
        """FraudOrder"""
        order = self._order(p, "Order ID Not Found")
        with self.store.transaction(call.entry) as change:
            self.model.end_order(change, order, "Fraud")
        return {}

    def do_pendingorder(self, p: Params, call: Call) -> Document:
        """PendingOrder"""
        order = self._order(p, "Order ID Not Found")
        with self.store.transaction(call.entry) as change:
            self.model.pending(change, order)
        return {}

    def do_deleteorder(self, p: Params, call: Call) -> Document:
        """DeleteOrder"""
        order = self._order(p, "Order ID not found")
        if order["status"] not in ("Cancelled", "Fraud"):
            raise Refused("The order status must be in Cancelled or Fraud to be deleted")
        with self.store.transaction(call.entry) as change:
            for kind, found in (
                ("service", self.model.services_of(order["id"])),
                ("domain", self.model.domains_of(order["id"])),
            ):
                for each in found:
                    change.delete(kind, str(each["id"]))
            change.delete("order", str(order["id"]))
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

    # -- services

    def do_getclientsproducts(self, p: Params, call: Call) -> Document:
        """GetClientsProducts"""
        if p.get("clientid"):
            rows = self.store.find("service", "userid", to_int(p["clientid"]))
        else:
            rows = self.store.all("service")
        for name, field in (("serviceid", "id"), ("pid", "pid")):
            if p.get(name):
                rows = [each for each in rows if each[field] == to_int(p[name])]
        if p.get("domain"):
            rows = [each for each in rows if each["domain"].lower() == str(p["domain"]).lower()]
        rows = sorted(rows, key=lambda each: each["id"])
        shown, numbers = self.window(p, rows)
        return {
            "clientid": p.get("clientid"),
            "serviceid": p.get("serviceid"),
            "pid": p.get("pid"),
            "domain": p.get("domain"),
            **numbers,
            "products": self.many("product", [self._service_row(each) for each in shown]),
        }

    def _service_row(self, service: Document) -> Document:
        product = self.model.get("product", service["pid"]) or {}
        order = self.model.get("order", service["orderid"]) or {}
        fields = self.model.fields_of(product, lambda key: service["customfields"].get(str(key), ""), all_fields=True)
        for each in fields:
            each["id"] = self.i(each["id"])
        return {
            "id": self.i(service["id"]),
            "qty": self.i(service["qty"]),
            "clientid": self.i(service["userid"]),
            "orderid": self.i(service["orderid"]),
            "ordernumber": self.i(order.get("ordernum", 0)),
            "pid": self.i(service["pid"]),
            "regdate": service["regdate"],
            "name": service["name"],
            "translated_name": service["name"],
            "groupname": "Hosting",
            "translated_groupname": "Hosting",
            "domain": service["domain"],
            "dedicatedip": "",
            "serverid": self.i(1),
            "servername": "Saturn",
            "serverip": "192.0.2.10",
            "serverhostname": "saturn.northwind.example",
            "suspensionreason": service["suspensionreason"],
            "firstpaymentamount": service["firstpaymentamount"],
            "recurringamount": service["recurringamount"],
            "paymentmethod": service["paymentmethod"],
            "paymentmethodname": GATEWAYS.get(service["paymentmethod"], ""),
            "billingcycle": service["billingcycle"],
            "nextduedate": service["nextduedate"],
            "status": service["status"],
            "username": service["username"],
            "password": service["password"],
            "subscriptionid": "",
            "promoid": self.i(0),
            "overideautosuspend": "",
            "overidesuspenduntil": "",
            "ns1": "",
            "ns2": "",
            "assignedips": "",
            "notes": service["notes"],
            "diskusage": 0,
            "disklimit": 0,
            "bwusage": 0,
            "bwlimit": 0,
            "lastupdate": "0000-00-00 00:00:00",
            "customfields": self.many("customfield", fields),
            "configoptions": self.many("configoption", []),
        }

    def do_updateclientproduct(self, p: Params, call: Call) -> Document:
        """UpdateClientProduct"""
        service = self._service(p)
        changes: Document = {
            name: str(p[name])
            for name in (
                "status",
                "domain",
                "notes",
                "paymentmethod",
                "billingcycle",
                "nextduedate",
                "suspensionreason",
                "recurringamount",
                "firstpaymentamount",
            )
            if name in p
        }
        if p.get("serviceusername"):
            changes["username"] = str(p["serviceusername"])
        if p.get("customfields"):
            changes["customfields"] = {
                **service["customfields"],
                **{str(key): value for key, value in php.custom_fields(p["customfields"]).items()},
            }
        status = changes.pop("status", service["status"])
        with self.store.transaction(call.entry) as change:
            changed = change.change("service", str(service["id"]), **changes)
            if status != service["status"]:
                self.model.service_status(change, changed, status)
        return {"serviceid": self.i(service["id"])}

    def do_modulecreate(self, p: Params, call: Call) -> Document:
        """ModuleCreate"""
        service = self._service(p)
        with self.store.transaction(call.entry) as change:
            failure = self.model.module_create(change, service)
        if failure is not None:
            raise Refused(failure)
        return {}

    def _module(self, p: Params, call: Call, status: str) -> Document:
        service = self._service(p)
        with self.store.transaction(call.entry) as change:
            self.model.service_status(change, service, status, str(p.get("suspendreason", "")))
        return {}

    def do_modulesuspend(self, p: Params, call: Call) -> Document:
        """ModuleSuspend"""
        return self._module(p, call, "Suspended")

    def do_moduleunsuspend(self, p: Params, call: Call) -> Document:
        """ModuleUnsuspend"""
        return self._module(p, call, "Active")

    def do_moduleterminate(self, p: Params, call: Call) -> Document:
        """ModuleTerminate"""
        return self._module(p, call, "Terminated")

    def do_getclientsdomains(self, p: Params, call: Call) -> Document:
        """GetClientsDomains"""
        rows = self.store.all("domain")
        for name, field in (("clientid", "userid"), ("domainid", "id")):
            if p.get(name):
                rows = [each for each in rows if each[field] == to_int(p[name])]
        shown, numbers = self.window(p, rows)
        listed = [
            {
                **each,
                "id": self.i(each["id"]),
                "userid": self.i(each["userid"]),
                "orderid": self.i(each["orderid"]),
                "expirydate": "0000-00-00",
                "nextduedate": "0000-00-00",
                "registrar": "",
                "subscriptionid": "",
                "promoid": self.i(0),
                "dnsmanagement": 0,
                "emailforwarding": 0,
                "idprotection": 0,
                "donotrenew": 0,
                "paymentmethodname": GATEWAYS.get(each["paymentmethod"], ""),
            }
            for each in shown
        ]
        return {**numbers, "domains": self.many("domain", listed)}

    # -- clients

    def do_getclients(self, p: Params, call: Call) -> Document:
        """GetClients"""
        rows = sorted(self.store.all("client"), key=lambda each: (each["lastname"], each["id"]))
        search = str(p.get("search", "")).lower()
        if search:
            rows = [
                each
                for each in rows
                if search in f"{each['firstname']} {each['lastname']} {each['companyname']} {each['email']}".lower()
            ]
        if p.get("status"):
            rows = [each for each in rows if each["status"] == p["status"]]
        shown, numbers = self.window(p, rows)
        listed = [
            {
                "id": self.i(each["id"]),
                "firstname": each["firstname"],
                "lastname": each["lastname"],
                "companyname": each["companyname"],
                "email": each["email"],
                "datecreated": each["datecreated"],
                "groupid": self.i(each["groupid"]),
                "status": each["status"],
            }
            for each in shown
        ]
        return {**numbers, "clients": self.many("client", listed)}

    def do_getclientsdetails(self, p: Params, call: Call) -> Document:
        """GetClientsDetails"""
        if p.get("clientid"):
            client = self._client(p, message="Client Not Found")
        else:
            found = self.store.find("client", "email", str(p.get("email", ""))) if p.get("email") else []
            if not found:
                raise Refused("Client Not Found")
            client = found[0]
        fields = {
            "userid": self.i(client["id"]),
            "client_id": self.i(client["id"]),
            "id": self.i(client["id"]),
            "owner_user_id": self.i(client["id"]),
            "uuid": hashlib.sha256(str(client["id"]).encode()).hexdigest()[:32],
            **{
                name: client[name]
                for name in (
                    "firstname",
                    "lastname",
                    "companyname",
                    "email",
                    "address1",
                    "address2",
                    "city",
                    "state",
                    "postcode",
                    "country",
                    "phonenumber",
                    "status",
                    "defaultgateway",
                    "credit",
                    "language",
                    "notes",
                    "datecreated",
                )
            },
            "fullname": f"{client['firstname']} {client['lastname']}",
            "fullstate": client["state"],
            "countrycode": client["country"],
            "countryname": client["country"],
            "currency": self.i(client["currency"]),
            "currency_code": "USD",
            "groupid": self.i(client["groupid"]),
            "taxexempt": False,
            "latefeeoveride": False,
            "email_preferences": {"general": 1, "invoice": 1},
            "allowSingleSignOn": 1,
            "email_verified": True,
            "lastlogin": "No Login Logged",
            "isOptedInToMarketingEmails": False,
            "customfields": [{"id": self.i(key), "value": value} for key, value in client["customfields"].items()],
        }
        return {**fields, "client": dict(fields)}

    def do_addclient(self, p: Params, call: Call) -> Document:
        """AddClient"""
        skip = truthy(p.get("skipvalidation"))
        for name, label in REQUIRED_CLIENT.items():
            if not skip and not p.get(name):
                raise Refused(f"You did not enter your {label.lower()}")
        if not p.get("password2"):
            raise Refused("The Password field is required.")
        if self.store.find("client", "email", str(p.get("email", ""))):
            raise Refused("A user already exists with that email address")
        fields = {
            name: str(p[name])
            for name in (*REQUIRED_CLIENT, "companyname", "address2", "language", "notes")
            if name in p
        }
        if p.get("paymentmethod") or p.get("defaultgateway"):
            fields["defaultgateway"] = str(p.get("paymentmethod") or p.get("defaultgateway"))
        with self.store.transaction(call.entry) as change:
            client = self.model.add_client(change, **fields)
        return {"clientid": self.i(client["id"]), "owner_id": self.i(client["id"])}

    def do_updateclient(self, p: Params, call: Call) -> Document:
        """UpdateClient"""
        client = self._client(p)
        if p.get("email") and any(
            each["id"] != client["id"] for each in self.store.find("client", "email", str(p["email"]))
        ):
            raise Refused("Duplicate Email Address")
        names = (*REQUIRED_CLIENT, "companyname", "address2", "language", "notes", "status", "defaultgateway")
        changes = {name: str(p[name]) for name in names if name in p}
        if "paymentmethod" in p:
            changes["defaultgateway"] = str(p["paymentmethod"])
        with self.store.transaction(call.entry) as change:
            change.change("client", str(client["id"]), **changes)
        return {"clientid": self.i(client["id"])}

    def do_closeclient(self, p: Params, call: Call) -> Document:
        """CloseClient"""
        client = self._client(p)
        with self.store.transaction(call.entry) as change:
            change.change("client", str(client["id"]), status="Closed")
        return {"clientid": self.i(client["id"])}

    def do_getpaymethods(self, p: Params, call: Call) -> Document:
        """GetPayMethods: the one list that isn't wrapped"""
        if not p.get("clientid"):
            raise Refused("Client ID is required")
        client = self._client(p)
        rows = self.store.find("paymethod", "userid", client["id"])
        if p.get("paymethodid"):
            rows = [each for each in rows if each["id"] == to_int(p["paymethodid"])]
        if p.get("type"):
            rows = [each for each in rows if each["type"].lower() == str(p["type"]).lower()]
        listed = [
            {
                **{key: value for key, value in each.items() if key != "userid"},
                "id": self.i(each["id"]),
                "contact_id": self.i(each["contact_id"]),
            }
            for each in rows
        ]
        return {"clientid": self.i(client["id"]), "paymethods": listed}

    def do_addpaymethod(self, p: Params, call: Call) -> Document:
        """AddPayMethod"""
        client = self._client(p)
        kind = str(p.get("type") or "CreditCard")
        number = str(p.get("card_number", ""))
        if kind == "CreditCard" and not number:
            raise Refused("Card Number is required")
        with self.store.transaction(call.entry) as change:
            method = self.model.add_paymethod(
                change,
                client,
                type=kind,
                description=str(p.get("description", "")),
                card_last_four=number[-4:],
                gateway_name=str(p.get("gateway_module_name", "")),
                expiry_date=str(p.get("card_expiry", "")),
            )
        return {"clientid": self.i(client["id"]), "paymethodid": self.i(method["id"])}

    def do_createssotoken(self, p: Params, call: Call) -> Document:
        """CreateSsoToken"""
        client = self._client(p, "client_id", "Invalid client id" if p.get("client_id") else "Client ID is required")
        token = secrets.token_hex(32)
        with self.store.transaction(call.entry) as change:
            change.put(
                "_sso",
                token,
                {"client": client["id"], "destination": str(p.get("destination", "")), "issued": time.time()},
            )
        return {"access_token": token, "redirect_url": f"{self._url()}/oauth/singlesignon.php?access_token={token}"}

    # -- catalogue and money

    def do_getproducts(self, p: Params, call: Call) -> Document:
        """GetProducts"""
        rows = sorted(self.store.all("product"), key=lambda each: each["id"])
        if p.get("pid"):
            wanted = {to_int(each) for each in str(p["pid"]).split(",")}
            rows = [each for each in rows if each["id"] in wanted]
            if not rows:
                raise Refused("Product ID Not Found")
        if p.get("gid"):
            rows = [each for each in rows if each.get("gid") == to_int(p["gid"])]
        listed = []
        for each in rows:
            prices = {cycle: each["pricing"].get(cycle, "-1.00") for cycle in list(CYCLES)[:6]}
            fields = self.model.fields_of(each)
            for field in fields:
                field["id"] = self.i(field["id"])
            listed.append(
                {
                    "pid": self.i(each["id"]),
                    "gid": self.i(each.get("gid", 1)),
                    "type": "hostingaccount",
                    "name": each["name"],
                    "description": each.get("description", ""),
                    "module": each.get("module", ""),
                    "paytype": each["paytype"],
                    "allowqty": self.i(0),
                    "pricing": {
                        "USD": {
                            "prefix": "$",
                            "suffix": " USD",
                            "msetupfee": "0.00",
                            "qsetupfee": "0.00",
                            "ssetupfee": "0.00",
                            "asetupfee": "0.00",
                            "bsetupfee": "0.00",
                            "tsetupfee": "0.00",
                            **prices,
                        }
                    },
                    "customfields": self.many("customfield", fields),
                    "configoptions": self.many("configoption", []),
                }
            )
        return {"totalresults": len(listed), "products": self.many("product", listed)}

    def do_addproduct(self, p: Params, call: Call) -> Document:
        """AddProduct"""
        if not p.get("name") or not p.get("gid"):
            raise Refused("Product Name and Group ID are required")
        with self.store.transaction(call.entry) as change:
            product = self.model.add(
                change,
                "product",
                gid=to_int(p["gid"]),
                name=str(p["name"]),
                description=str(p.get("description", "")),
                module=str(p.get("module", "")),
                paytype=str(p.get("paytype") or "recurring"),
                autosetup=str(p.get("autosetup", "")),
                pricing={"monthly": "10.00"},
                customfields=[],
            )
        return {"pid": self.i(product["id"])}

    def do_getpaymentmethods(self, p: Params, call: Call) -> Document:
        """GetPaymentMethods: the gateways"""
        rows = [{"module": name, "displayname": shown} for name, shown in GATEWAYS.items()]
        return {"totalresults": len(rows), "paymentmethods": {"paymentmethod": rows}}

    def _invoice_row(self, invoice: Document) -> Document:
        return {
            "id": self.i(invoice["id"]),
            "userid": self.i(invoice["userid"]),
            "invoicenum": "",
            "date": invoice["date"],
            "duedate": invoice["duedate"],
            "datepaid": invoice["datepaid"],
            "subtotal": invoice["subtotal"],
            "credit": "0.00",
            "tax": "0.00",
            "total": invoice["total"],
            "status": invoice["status"],
            "paymentmethod": invoice["paymentmethod"],
            "notes": invoice["notes"],
        }

    def do_getinvoices(self, p: Params, call: Call) -> Document:
        """GetInvoices"""
        rows = self.store.all("invoice")
        if p.get("userid"):
            rows = [each for each in rows if each["userid"] == to_int(p["userid"])]
        if p.get("status"):
            rows = [each for each in rows if each["status"].lower() == str(p["status"]).lower()]
        shown, numbers = self.window(p, sorted(rows, key=lambda each: each["id"], reverse=True))
        return {**numbers, "invoices": self.many("invoice", [self._invoice_row(each) for each in shown])}

    def _invoice(self, p: Params) -> Document:
        found = self.model.get("invoice", to_int(p.get("invoiceid")))
        if found is None:
            raise Refused("Invoice ID Not Found")
        return found

    def do_getinvoice(self, p: Params, call: Call) -> Document:
        """GetInvoice"""
        invoice = self._invoice(p)
        items = [
            {
                "id": self.i(number),
                "type": each["type"],
                "relid": self.i(each["relid"]),
                "description": each["description"],
                "amount": each["amount"],
                "taxed": 0,
            }
            for number, each in enumerate(invoice["items"], 1)
        ]
        payments = [
            {**each, "id": self.i(each["id"])}
            for each in self.store.all("transaction")
            if each["invoiceid"] == invoice["id"]
        ]
        row = self._invoice_row(invoice)
        balance = "0.00" if invoice["status"] == "Paid" else invoice["total"]
        return {
            "invoiceid": row.pop("id"),
            **row,
            "balance": balance,
            "items": self.many("item", items),
            "transactions": self.many("transaction", payments),
        }

    def do_updateinvoice(self, p: Params, call: Call) -> Document:
        """UpdateInvoice"""
        invoice = self._invoice(p)
        changes = {name: str(p[name]) for name in ("status", "notes", "paymentmethod", "duedate") if name in p}
        with self.store.transaction(call.entry) as change:
            change.change("invoice", str(invoice["id"]), **changes)
        return {"invoiceid": self.i(invoice["id"])}

    def do_addtransaction(self, p: Params, call: Call) -> Document:
        """AddTransaction; one that covers an invoice pays it"""
        with self.store.transaction(call.entry) as change:
            payment = self.model.add(
                change,
                "transaction",
                userid=to_int(p.get("userid")),
                invoiceid=to_int(p.get("invoiceid")),
                gateway=str(p.get("paymentmethod", "")),
                transid=str(p.get("transid", "")),
                amountin=money(p.get("amountin") or 0),
                date=timestamp(),
                description=str(p.get("description", "")),
            )
            invoice = self.model.get("invoice", payment["invoiceid"])
            if invoice is not None and float(payment["amountin"]) >= float(invoice["total"]):
                change.change("invoice", str(invoice["id"]), status="Paid", datepaid=timestamp())
        return {}

    def do_gettransactions(self, p: Params, call: Call) -> Document:
        """GetTransactions"""
        rows = self.store.all("transaction")
        for name, field in (("invoiceid", "invoiceid"), ("clientid", "userid")):
            if p.get(name):
                rows = [each for each in rows if each[field] == to_int(p[name])]
        listed = [{**each, "id": self.i(each["id"]), "invoiceid": self.i(each["invoiceid"])} for each in rows]
        return {
            "totalresults": len(listed),
            "startnumber": 0,
            "numreturned": len(listed),
            "transactions": {"transaction": listed},
        }

    # -- the rest

    def do_logactivity(self, p: Params, call: Call) -> Document:
        """LogActivity"""
        if not p.get("description"):
            raise Refused("Description is required")
        with self.store.transaction(call.entry) as change:
            self.model.log(change, str(p["description"]), to_int(p.get("clientid") or p.get("userid")))
        return {}

    def do_getactivitylog(self, p: Params, call: Call) -> Document:
        """GetActivityLog"""
        shown, numbers = self.window(p, self.store.all("activity")[::-1])
        return {**numbers, "activity": self.many("entry", [{**each, "id": self.i(each["id"])} for each in shown])}

    def do_whmcsdetails(self, p: Params, call: Call) -> Document:
        """WhmcsDetails"""
        return {"whmcs": {"version": "8.13.1-release.1", "canonicalversion": "8.13.1-release.1"}}

    def do_getorderstatuses(self, p: Params, call: Call) -> Document:
        """GetOrderStatuses"""
        rows = [
            {"title": each, "count": sum(order["status"] == each for order in self.store.all("order")), "color": "#666"}
            for each in (*ORDER_STATUSES, *self.settings["custom_statuses"])
        ]
        return {"totalresults": len(rows), "statuses": {"status": rows}}

    def do_getcurrencies(self, p: Params, call: Call) -> Document:
        """GetCurrencies"""
        return {
            "totalresults": 1,
            "currencies": {
                "currency": [
                    {"id": self.i(1), "code": "USD", "prefix": "$", "suffix": " USD", "format": 1, "rate": "1.00000"}
                ]
            },
        }

    def do_getstats(self, p: Params, call: Call) -> Document:
        """GetStats"""
        orders = self.store.all("order")
        return {
            "orders_pending": sum(each["status"] == "Pending" for each in orders),
            "orders_today_total": len(orders),
            "products_active": sum(each["status"] == "Active" for each in self.store.all("service")),
        }

    def do_getservers(self, p: Params, call: Call) -> Document:
        """GetServers"""
        return {
            "servers": [
                {
                    "id": self.i(1),
                    "name": "Saturn",
                    "hostname": "saturn.northwind.example",
                    "ipaddress": "192.0.2.10",
                    "module": "cpanel",
                    "activeServices": str(len(self.store.all("service"))),
                    "active": True,
                }
            ],
            "fetchStatus": False,
        }

    def do_gettldpricing(self, p: Params, call: Call) -> Document:
        """GetTLDPricing"""
        return {
            "currency": {
                "id": self.i(1),
                "code": "USD",
                "prefix": "$",
                "suffix": " USD",
                "format": 1,
                "rate": "1.00000",
            },
            "pricing": {
                "example": {
                    "categories": ["Other"],
                    "register": {"1": "15.00"},
                    "renew": {"1": "15.00"},
                    "transfer": {"1": "15.00"},
                }
            },
        }

    def do_sendemail(self, p: Params, call: Call) -> Document:
        """SendEmail; goes to the activity log only"""
        if not p.get("messagename") and not p.get("customsubject"):
            raise Refused("You must provide either a email template name or custom subject")
        with self.store.transaction(call.entry) as change:
            name = p.get("messagename") or p.get("customsubject")
            self.model.log(change, f"Email Sent ({name})", to_int(p.get("id")))
        return {}

    def do_openticket(self, p: Params, call: Call) -> Document:
        """OpenTicket"""
        if not p.get("subject") or not p.get("message"):
            raise Refused("Subject is required" if not p.get("subject") else "Message is required")
        with self.store.transaction(call.entry) as change:
            ticket = self.model.add(
                change,
                "ticket",
                tid=str(100_000 + secrets.randbelow(900_000)),
                deptid=to_int(p.get("deptid")),
                userid=to_int(p.get("clientid")),
                subject=str(p["subject"]),
                status="Open",
                date=timestamp(),
                name=str(p.get("name", "")),
                email=str(p.get("email", "")),
            )
        return {"id": self.i(ticket["id"]), "tid": ticket["tid"], "c": secrets.token_hex(4)}

    def do_gettickets(self, p: Params, call: Call) -> Document:
        """GetTickets"""
        rows = [
            each
            for each in self.store.all("ticket")
            if not p.get("clientid") or each["userid"] == to_int(p["clientid"])
        ]
        shown, numbers = self.window(p, rows)
        return {**numbers, "tickets": self.many("ticket", [{**each, "id": self.i(each["id"])} for each in shown])}
