"""What the domain asks of its neighbours; `portal.clients` implements it, tests may stand in for it.

Every method raises UpstreamError when the call didn't succeed, and takes a total deadline from the client's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from portal.domain.model import (
    AddedOrder,
    OrderLine,
    PayMethod,
    SalesforceOrder,
    Updates,
    UpstreamError,
    WhmcsClient,
    WhmcsOrder,
    WhmcsProduct,
    WhmcsService,
)


class SalesforcePort(Protocol):
    """What a fulfillment needs of Salesforce."""

    def fetch_order(self, sf_order_id: str) -> SalesforceOrder | None:
        """The order with account and items, in one query; None when Salesforce doesn't know it."""

    def fetch_orders(self, sf_order_ids: Sequence[str]) -> list[SalesforceOrder]:
        """As many of these orders as one query tells all about; those that need another one are left out."""

    def update_order(self, sf_order_id: str, fields: Mapping[str, Any]) -> None:
        """Set fields of one Order (None clears a field)."""

    def update_orders(self, updates: Updates) -> list[UpstreamError | None]:
        """Set fields of up to 200 different Orders in one call; for each, None or what was wrong with it."""

    def set_whmcs_client(self, account_id: str, client_id: str) -> None:
        """Write Account.WHMCS_Client_ID__c."""

    def accounts_with_email(self, email: str) -> int:
        """How many accounts have a contact of this address: a client is found by e-mail only when one has."""

    def requested_orders(self, limit: int) -> list[str]:
        """Ids of orders whose Provisioning_Status__c is `Requested`, oldest change first."""


class WhmcsPort(Protocol):
    """What a fulfillment needs of WHMCS."""

    def pay_methods(self, client_id: str) -> list[PayMethod]:
        """GetPayMethods; none is an empty list."""

    def client(self, *, client_id: str | None = None, email: str | None = None) -> WhmcsClient | None:
        """GetClientsDetails by one of the two; None for `Client Not Found`."""

    def add_client(self, details: Mapping[str, str]) -> str:
        """AddClient; returns the new client's id."""

    def products(self, pids: Sequence[str]) -> list[WhmcsProduct]:
        """GetProducts of these ids; an unknown one is left out."""

    def add_order(
        self,
        client_id: str,
        payment_method: str,
        lines: Sequence[OrderLine],
        *,
        notes: str,
        custom_fields: Mapping[str, Mapping[str, str]],
        before_send: Callable[[], None] | None = None,
    ) -> AddedOrder:
        """AddOrder with noemail. `custom_fields`: pid → {field id → value}. Never retried by the client itself.

        `before_send` is asked when the connection stands, right before the first byte; what it raises stops the call.
        """

    def order(self, order_id: str) -> WhmcsOrder | None:
        """GetOrders id=; None when there is none."""

    def orders_of(self, client_id: str) -> list[WhmcsOrder]:
        """All orders of a client, every page, repeated until the listing stood still while it was read.

        Raises a transient UpstreamError (code `listing_unstable`) when it wouldn't stand still.
        """

    def accept_order(self, order_id: str, *, before_send: Callable[[], None] | None = None) -> None:
        """AcceptOrder; `before_send` as for `add_order`."""

    def cancel_order(self, order_id: str) -> None:
        """CancelOrder."""

    def services(self, client_id: str, service_id: str | None = None) -> list[WhmcsService]:
        """GetClientsProducts of a client, every page; or the one service."""

    def invoice_status(self, invoice_id: str) -> str | None:
        """GetInvoice's status; None where there is no such invoice."""

    def module_create(self, service_id: str) -> None:
        """ModuleCreate: set a service up."""
