"""The calls of an undisturbed order, with the portal's own clients: what the worker's peers make.

No ledger, no intents, no leases, no look whether an order is there already that is believed.
"""

from __future__ import annotations

import os
from functools import cache

from portal.clients.salesforce.client import SalesforceClient
from portal.clients.whmcs.client import WhmcsClient
from portal.domain.ids import external_reference
from portal.domain.mapping import map_items
from portal.domain.model import AddedOrder, OrderLine, SalesforceOrder
from portal.settings import Settings

#: How many calls `provision` makes.
SALESFORCE, WHMCS = 3, 8


@cache
def _settings() -> Settings:
    return Settings.from_environ(os.environ)


@cache
def salesforce() -> SalesforceClient:
    """This process' client; its threads share the token."""
    return SalesforceClient.from_settings(_settings())


@cache
def whmcs() -> WhmcsClient:
    """This process' client."""
    return WhmcsClient.from_settings(_settings())


def fetch(order: str) -> SalesforceOrder:
    """The order."""
    found = salesforce().fetch_order(order)
    assert found is not None
    return found


def tell(order: str, status: str, whmcs_order_id: str | None = None) -> None:
    """Write a status back."""
    more = {"WHMCS_Order_ID__c": whmcs_order_id} if whmcs_order_id else {}
    salesforce().update_order(order, {"Provisioning_Status__c": status, **more})


def gateway(client: str) -> str:
    """How the client pays: two calls."""
    assert whmcs().pay_methods(client)
    found = whmcs().client(client_id=client)
    assert found is not None
    return found.default_gateway


def lines(order: SalesforceOrder) -> list[OrderLine]:
    """What AddOrder is asked for; no call."""
    return list(map_items(order.items, "whmcs").lines)


def add(order: str, client: str, pays: str, asked: list[OrderLine]) -> AddedOrder:
    """AddOrder."""
    return whmcs().add_order(client, pays, asked, notes=external_reference(order), custom_fields={})


def services(client: str, added: AddedOrder) -> int:
    """How many services the order has."""
    only = added.service_ids[0] if len(added.service_ids) == 1 else None
    return len(whmcs().services(client, only))


def provision(order: str) -> None:
    """All of them, one after the other."""
    found = fetch(order)
    client = found.whmcs_client_id
    assert client is not None
    pays = gateway(client)
    tell(order, "Activating")
    whmcs().orders_of(client)
    added = add(order, client, pays, lines(found))
    whmcs().order(added.order_id)
    services(client, added)
    whmcs().accept_order(added.order_id)
    assert services(client, added)
    tell(order, "Provisioned", added.order_id)
