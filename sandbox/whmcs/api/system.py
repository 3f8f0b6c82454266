"""Activity log, servers, mails, tickets and figures."""

from __future__ import annotations

import secrets

from sandbox.call import Call
from sandbox.store import Document
from sandbox.whmcs.api.actions import Actions
from sandbox.whmcs.model import Refused, timestamp
from sandbox.whmcs.php import Params, to_int


class SystemActions(Actions):
    """Activity log, servers, mails, tickets and figures."""

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
