"""Typed handles on the sandboxes for tests and the demo: start, kill and restart the process, or attach to a running
one, and speak its control API (sandbox/README.md lists the routes)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from sandbox.handle import Json, Process, SandboxError

__all__ = ["Json", "Mailbox", "Process", "SalesforceSandbox", "SandboxError", "WhmcsSandbox"]


class SalesforceSandbox(Process):
    """The pretend org."""

    module = "sandbox.salesforce"

    def provision(self, order_id: str, **options: Any) -> Json:
        """Presses "Provision in WHMCS" and waits for the callout's result: status, body, error, key, nonce, timestamp.

        Options: mode ("guide" or "package"), key, nonce, timestamp, secret, headers, fields, portal_url, path_id,
        timeout, attempts, write_back, lost (the click sets Requested and never leaves).
        """
        found: Json = self.call("POST", "provision", {"orderId": order_id, "options": options}, timeout=600.0)
        return found

    def provision_many(self, order_ids: list[str], **options: Any) -> list[Json]:
        """Selects orders in the list and presses the button for all; answers one result each, in the same order."""
        body = {"orderIds": order_ids, "options": options}
        found: list[Json] = self.call("POST", "provision", body, timeout=600.0)["results"]
        return found

    def provision_in_background(self, order_id: str, **options: Any) -> None:
        """Presses the button and comes back at once, like @future."""
        self.call("POST", "provision", {"orderId": order_id, "options": options, "background": True})

    def callouts(self, order_id: str | None = None) -> list[Json]:
        """The last callouts, oldest first."""
        found: list[Json] = self.call("GET", "callouts", order=order_id)["callouts"]
        return found

    def lock(self, record_id: str, seconds: float = 3600.0, approval: bool = False) -> None:
        """Holds a row as another transaction would (writers wait for it), or as an approval process does."""
        self.call("POST", "locks", {"id": record_id, "seconds": seconds, "approval": approval})

    def unlock(self, record_id: str | None = None) -> None:
        """Lets go of a row, or of all."""
        self.call("DELETE", "locks" if record_id is None else f"locks/{record_id}")

    def staff(self, order_id: str, *, items: list[Json] | None = None, remove: Any = None, **fields: Any) -> Json:
        """An order edited by an operator: its fields, its items (with an `Id` changed, else added), items removed."""
        body = {"orderId": order_id, "fields": fields, "items": items, "remove": remove}
        return dict(self.call("POST", "staff", body))

    def clone(self, order_id: str, *, items: bool = True, **fields: Any) -> str:
        """Salesforce's "Clone with Products"; answers the clone's id."""
        return str(self.call("POST", "clone", {"orderId": order_id, "items": items, "fields": fields})["id"])

    def expire_tokens(self) -> int:
        """Ends every session; the next call gets 401 INVALID_SESSION_ID."""
        return int(self.call("POST", "expire-tokens")["expired"])

    def order(self, order_id: str) -> Json:
        """Every field of an order."""
        return next(each for each in self.state("Order")["Order"] if each["Id"][:15] == order_id[:15])

    def set(self, kind: str, record_id: str, **fields: Any) -> None:
        """Changes fields of a record directly."""
        self.seed(update=[{"type": kind, "Id": record_id, **fields}])


class WhmcsSandbox(Process):
    """The pretend WHMCS."""

    module = "sandbox.whmcs"

    @property
    def api_url(self) -> str:
        """What WHMCS_API_URL is set to."""
        return f"{self.url}/includes/api.php"

    def orders_of(self, client_id: int | str) -> list[Json]:
        """A client's orders as stored, oldest first."""
        return [each for each in self.state("orders")["orders"] if str(each["userid"]) == str(client_id)]

    def fail_module(
        self, message: str = "Could not connect to the server", *, pid: int = 0, serviceid: int = 0, count: int = 0
    ) -> None:
        """Makes the server module fail for a product, a service or all; `count` times (0: until cleared)."""
        self.call("POST", "module-failures", {"message": message, "pid": pid, "serviceid": serviceid, "count": count})

    def heal_modules(self) -> None:
        """Ends all scripted module failures."""
        self.call("DELETE", "module-failures")

    def staff(
        self,
        action: str,
        *,
        order: int | str | None = None,
        service: int | str | None = None,
        status: str | None = None,
        event: bool = True,
    ) -> None:
        """What staff do by hand: `accept`, `cancel`, `delete`, `fraud`, `pending`, `status` of an order, `service` (its
        `status`); with `event=False` no hook tells of it."""
        body = {"action": action, "orderId": order, "serviceId": service, "status": status, "event": event}
        self.call("POST", "staff", body)

    def emit(self, event: str, *, wait: float = 0.0, **data: Any) -> bool:
        """Sends an event out of turn and waits for its delivery; answers whether it was delivered."""
        return bool(self.call("POST", "events", {"event": event, "data": data, "wait": wait})["delivered"])

    def outbox(self) -> list[Json]:
        """Webhook events with `delivered`, `attempts`, `status`."""
        found: list[Json] = self.call("GET", "outbox")["events"]
        return found

    def set(self, kind: str, number: int, **fields: Any) -> None:
        """Changes fields of a document (`orders`, `services`, `clients`, …) directly."""
        self.seed(update=[{"kind": kind, "id": number, **fields}])


class Mailbox(Process):
    """The mailbox; `smtp_url` is what SMTP_URL is set to."""

    module = "sandbox.mailbox"
    smtp_url = ""

    def _ready(self, line: Json) -> None:
        super()._ready(line)
        self.smtp_url = str(line["smtp"])

    def restart(self) -> None:
        """As for the others, on both ports."""
        if "--smtp-port" not in self._command:
            self._command += ["--smtp-port", str(urlsplit(self.smtp_url).port)]
        super().restart()

    def messages(
        self, to: str | None = None, subject: str | None = None, since: int = 0, wait: float = 0.0
    ) -> list[Json]:
        """Mails, oldest first: id, from, to, subject, text, html, links, headers, receivedAt."""
        found: list[Json] = self.call(
            "GET", "messages", to=to, subject=subject, since=since or None, wait=wait or None
        )["messages"]
        return found

    def wait_for_mail(self, to: str, subject: str | None = None, since: int = 0, timeout: float = 30.0) -> Json:
        """The first mail that fits; SandboxError when none comes."""
        found = self.messages(to, subject, since, wait=timeout)
        if not found:
            raise SandboxError(f"no mail to {to}")
        return found[0]

    def clear(self) -> None:
        """Removes all mails."""
        self.call("DELETE", "messages")

    def smtp_fault(self, kind: str, **spec: Any) -> None:
        """`hang`, `reject` (code, message), `drop_before`, `drop_after`, `drop_after_250`; count, to."""
        self.call("POST", "smtp-faults", {"kind": kind, **spec})

    def clear_smtp_faults(self) -> None:
        """Removes all faults of the SMTP side."""
        self.call("DELETE", "smtp-faults")
