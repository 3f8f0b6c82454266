"""Products, gateways, invoices and payments."""

from __future__ import annotations

from sandbox.call import Call
from sandbox.store import Document
from sandbox.whmcs.api.actions import Actions
from sandbox.whmcs.model import CYCLES, GATEWAYS, Refused, money, timestamp
from sandbox.whmcs.php import Params, to_int


class BillingActions(Actions):
    """Products, gateways, invoices and payments."""

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

    def do_addinvoicepayment(self, p: Params, call: Call) -> Document:
        """AddInvoicePayment"""
        invoice = self._invoice(p)
        amount = p.get("amount") or invoice["total"]
        return self.do_addtransaction(
            {
                "userid": str(invoice["userid"]),
                "invoiceid": str(invoice["id"]),
                "transid": p.get("transid", ""),
                "paymentmethod": p.get("gateway", ""),
                "amountin": amount,
            },
            call,
        )

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
