"""Services, their modules, and domains."""

from __future__ import annotations

from sandbox.call import Call
from sandbox.store import Document
from sandbox.whmcs import php
from sandbox.whmcs.api.actions import Actions
from sandbox.whmcs.model import GATEWAYS, Refused
from sandbox.whmcs.php import Params, to_int


class ServiceActions(Actions):
    """Services, their modules, and domains."""

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
        service = self.service(p)
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
        service = self.service(p)
        with self.store.transaction(call.entry) as change:
            failure = self.model.module_create(change, service)
        if failure is not None:
            raise Refused(failure)
        return {}

    def _module(self, p: Params, call: Call, status: str) -> Document:
        service = self.service(p)
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
        asked = {"clientid": p.get("clientid"), "domainid": p.get("domainid")}
        return {**asked, **numbers, "domains": self.many("domain", listed)}
