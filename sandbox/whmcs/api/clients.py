"""Clients, how they pay, and their way into the client area."""

from __future__ import annotations

import hashlib
import secrets
import time

from sandbox.call import Call
from sandbox.store import Document
from sandbox.whmcs.api.actions import Actions
from sandbox.whmcs.model import Refused
from sandbox.whmcs.php import Params, to_int, truthy

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


class ClientActions(Actions):
    """Clients, how they pay, and their way into the client area."""

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
            client = self.client(p, message="Client Not Found")
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
        client = self.client(p)
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
        client = self.client(p)
        with self.store.transaction(call.entry) as change:
            change.change("client", str(client["id"]), status="Closed")
        return {"clientid": self.i(client["id"])}

    def do_getpaymethods(self, p: Params, call: Call) -> Document:
        """GetPayMethods: the one list that isn't wrapped"""
        if not p.get("clientid"):
            raise Refused("Client ID is required")
        client = self.client(p)
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
        client = self.client(p)
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
        client = self.client(p, "client_id", "Invalid client id" if p.get("client_id") else "Client ID is required")
        token = secrets.token_hex(32)
        with self.store.transaction(call.entry) as change:
            change.put(
                "_sso",
                token,
                {"client": client["id"], "destination": str(p.get("destination", "")), "issued": time.time()},
            )
        return {"access_token": token, "redirect_url": f"{self._url()}/oauth/singlesignon.php?access_token={token}"}
