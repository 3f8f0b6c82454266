"""The life of an order in WHMCS: its services and invoice, acceptance and the server modules, cancellation."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from sandbox.store import Document, Transaction
from sandbox.whmcs.leaks import leaking
from sandbox.whmcs.model import CYCLES, NOT_PENDING, Model, Refused, money, timestamp


class Ordering(Model):
    """What becomes of orders; the API, the pages and the scripted changes of staff all go through here."""

    def add_order(
        self,
        change: Transaction,
        client: Document,
        gateway: str,
        items: list[Document],
        domains: list[Document],
        notes: str,
        noinvoice: bool,
        address: str,
        asked: list[Document],
    ) -> Document:
        """The order's row alone; `complete_order` gives it its services and invoice. `asked` is what the caller sent,
        `items` what the cart made of it."""
        amount = sum(each["amount"] * each["qty"] for each in items) + sum(each["amount"] for each in domains)
        stored = notes if self.settings["notes"] == "stored" else ""
        return self.add(
            change,
            "order",
            ordernum=str(1_000_000_000 + secrets.randbelow(9_000_000_000)),
            userid=client["id"],
            date=timestamp(),
            status="Pending",
            notes=stored,
            paymentmethod=gateway,
            invoiceid=0,
            amount=money(amount),
            ipaddress=address,
            requestor_id=client["id"],
            complete=False,
            noinvoice=noinvoice,
            sent_notes=notes,
            asked=[{key: each[key] for key in ("pid", "qty", "cycle", "domain", "customfields")} for each in asked],
        )

    def complete_order(
        self, change: Transaction, order: Document, items: list[Document], domains: list[Document]
    ) -> tuple[list[int], list[int], int]:
        """Services, domains and invoice of an order; answers their ids (invoice 0 when there is none)."""
        lines, services, registered = [], [], []
        for item in items:
            product = item["product"]
            scalable = (product.get("allowqty") or self.settings["quantities"]) == "scalable"
            for _ in range(1 if scalable else item["qty"]):
                quantity = item["qty"] if scalable else 1
                service = self._add_service(change, order, item, quantity)
                services.append(service["id"])
                lines.append(
                    {
                        "type": "Hosting",
                        "relid": service["id"],
                        "description": product["name"],
                        "amount": money(item["amount"] * quantity),
                    }
                )
        for item in domains:
            domain = self.add(
                change,
                "domain",
                orderid=order["id"],
                userid=order["userid"],
                domainname=item["domain"],
                regtype=item["type"].capitalize(),
                regdate=timestamp()[:10],
                regperiod=1,
                firstpaymentamount=money(item["amount"]),
                recurringamount=money(item["amount"]),
                status="Pending",
                paymentmethod=order["paymentmethod"],
                notes="",
            )
            registered.append(domain["id"])
            lines.append(
                {
                    "type": f"Domain{item['type'].capitalize()}",
                    "relid": domain["id"],
                    "description": item["domain"],
                    "amount": money(item["amount"]),
                }
            )
        invoice_id = 0
        if not order["noinvoice"] and any(float(line["amount"]) for line in lines):
            total = money(sum(float(line["amount"]) for line in lines))
            due = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%d")
            invoice = self.add(
                change,
                "invoice",
                userid=order["userid"],
                date=timestamp()[:10],
                duedate=due,
                datepaid="0000-00-00 00:00:00",
                subtotal=total,
                total=total,
                status="Unpaid",
                paymentmethod=order["paymentmethod"],
                notes="",
                items=lines,
                orderid=order["id"],
            )
            invoice_id = invoice["id"]
        change.change("order", str(order["id"]), invoiceid=invoice_id, complete=True)
        self.log(change, f"New Order Placed - Order ID: {order['id']} - User ID: {order['userid']}", order["userid"])
        return services, registered, invoice_id

    def _add_service(self, change: Transaction, order: Document, item: Document, quantity: int) -> Document:
        product = item["product"]
        cycle, months = CYCLES[item["cycle"]]
        due = (datetime.now(UTC) + timedelta(days=30 * months)).strftime("%Y-%m-%d") if months else "0000-00-00"
        return self.add(
            change,
            "service",
            userid=order["userid"],
            orderid=order["id"],
            pid=product["id"],
            regdate=timestamp()[:10],
            name=product["name"],
            domain=item["domain"],
            qty=quantity,
            firstpaymentamount=money(item["amount"] * quantity),
            recurringamount=money(item["amount"] * quantity if months else 0),
            paymentmethod=order["paymentmethod"],
            billingcycle=cycle,
            nextduedate=due,
            status="Pending",
            username="",
            password="",
            customfields=item["customfields"],
            module_creates=0,
            suspensionreason="",
            notes="",
        )

    def order_event(self, change: Transaction, order: Document, event: str, status: str) -> None:
        """Tells the portal about an order."""
        self.events.emit(change, event, orderId=order["id"], clientId=order["userid"], status=status)

    def service_event(
        self, change: Transaction, service: Document, event: str, status: str, message: str | None = None
    ) -> None:
        """Tells the portal about a service (never with its password)."""
        self.events.emit(
            change,
            event,
            serviceId=service["id"],
            orderId=service["orderid"],
            clientId=service["userid"],
            productId=service["pid"],
            status=status,
            message=message,
        )

    def accept(self, change: Transaction, order: Document | None, autosetup: bool | None) -> str | None:
        """Accepts a Pending order; answers the raw module message when a module failed."""
        if order is None or order["status"] != "Pending":
            raise Refused(NOT_PENDING)
        failure: str | None = None
        for service in self.services_of(order["id"]):
            if service["status"] != "Pending":
                continue
            product = self.get("product", service["pid"]) or {}
            run = product.get("module") and (bool(product.get("autosetup")) if autosetup is None else autosetup)
            if run:
                failure = self.module_create(change, service) or failure
            else:
                active = change.change("service", str(service["id"]), status="Active")
                self.service_event(change, active, "service.active", "Active")
        for domain in self.domains_of(order["id"]):
            change.change("domain", str(domain["id"]), status="Active")
        if failure is None or self.settings["module_failure_order_status"] == "Active":
            change.change("order", str(order["id"]), status="Active")
            self.log(change, f"Order Accepted - Order ID: {order['id']}", order["userid"])
            self.order_event(change, order, "order.accepted", "Active")
        return failure

    def module_create(self, change: Transaction, service: Document) -> str | None:
        """Runs the server module; answers its message when it failed."""
        failure = self._module_failure(change, service)
        tries = service["module_creates"] + 1
        if failure is not None:
            changed = change.change("service", str(service["id"]), module_creates=tries)
            self.log(
                change, f"Module Create Failed - Service ID: {service['id']} - Error: {failure}", service["userid"]
            )
            self.service_event(change, changed, "service.failed", changed["status"], failure)
            return failure
        changed = change.change(
            "service",
            str(service["id"]),
            status="Active",
            module_creates=tries,
            accounts=service.get("accounts", 0) + 1,
            username=service["username"] or f"nw{service['id']:06d}",
            password=secrets.token_urlsafe(12),
        )
        self.log(change, f"Module Create Successful - Service ID: {service['id']}", service["userid"])
        self.service_event(change, changed, "service.active", "Active")
        return None

    def _module_failure(self, change: Transaction, service: Document) -> str | None:
        for each in self.store.all("module_failure"):
            if (
                each["left"] == 0
                or (each["pid"] and each["pid"] != service["pid"])
                or (each["serviceid"] and each["serviceid"] != service["id"])
            ):
                continue
            if each["left"] > 0:
                change.change("module_failure", str(each["id"]), left=each["left"] - 1)
            message = str(each["message"])
            return leaking(message, change.next("leak", 0)) if self.settings["leaky_errors"] else message
        return None

    def service_status(self, change: Transaction, service: Document, status: str, reason: str = "") -> None:
        """Suspends, unsuspends, terminates or cancels a service."""
        changed = change.change("service", str(service["id"]), status=status, suspensionreason=reason)
        event = {"Suspended": "service.suspended", "Terminated": "service.terminated", "Active": "service.active"}
        if status in event:
            self.service_event(change, changed, event[status], status)

    def end_order(self, change: Transaction, order: Document, status: str, by_staff: bool = False) -> None:
        """Cancelled or Fraud, with services and the unpaid invoice as the settings say."""
        change.change("order", str(order["id"]), status=status)
        if self.settings["cancel_services"]:
            for service in self.services_of(order["id"]):
                change.change("service", str(service["id"]), status=status)
            for domain in self.domains_of(order["id"]):
                change.change("domain", str(domain["id"]), status=status)
        invoice = self.get("invoice", order["invoiceid"])
        if self.settings["cancel_invoice"] and invoice is not None and invoice["status"] == "Unpaid":
            change.change("invoice", str(invoice["id"]), status="Cancelled")
        who = "by staff" if by_staff else "by API"
        self.log(change, f"Order set to {status} {who} - Order ID: {order['id']}", order["userid"])
        self.order_event(change, order, "order.cancelled", status)

    def delete_order(self, change: Transaction, order: Document) -> None:
        """Gone, with its services and domains (the invoice stays, as in WHMCS)."""
        for kind, found in (("service", self.services_of(order["id"])), ("domain", self.domains_of(order["id"]))):
            for each in found:
                change.delete(kind, str(each["id"]))
        change.delete("order", str(order["id"]))

    def pending(self, change: Transaction, order: Document) -> None:
        """Back to Pending, items too."""
        change.change("order", str(order["id"]), status="Pending")
        for service in self.services_of(order["id"]):
            change.change("service", str(service["id"]), status="Pending")
