"""`flask check-order`: what would become of one order, up to the very AddOrder, without changing anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click
from flask import current_app
from flask.cli import with_appcontext

from portal.clients.whmcs.add_order import add_order_params
from portal.domain.ids import external_reference, salesforce_id_18
from portal.domain.mapping import map_items, refuse_faults
from portal.domain.model import ErrorCode, FulfillmentFailed, OrderLine, SalesforceOrder
from portal.errors import PortalError
from portal.fulfillment.customer import gateway_of, known_client, refuse_status
from portal.fulfillment.executor import reference_fields
from portal.ledger import fulfillments
from portal.services import Services
from portal.web.context import portal_of

NEW_CLIENT = "(the new client)"


@click.command("check-order")
@click.argument("order_id")
@click.option("--json", "json_", is_flag=True, help="One JSON document instead of lines.")
@with_appcontext
def check_order(order_id: str, json_: bool) -> None:
    """Say what would become of ORDER_ID, with the exact AddOrder. Changes nothing.

    Ends with 1 when the order would fail or can't be checked.
    """
    try:
        services = portal_of(current_app).services
        services.require_migrated()
        report = dry_run(services, salesforce_id_18(order_id))
    except (PortalError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if json_:
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        _print(report)
    sys.exit(0 if report["good"] else 1)


def dry_run(services: Services, sf_order_id: str) -> dict[str, Any]:
    """Each step's outcome: {"orderId", "good", "steps": [{"step", "good", "message"}], "addOrder": parameters or None,
    "notes": […]}. It stops at the step that fails. Raises UpstreamError and LedgerUnavailable.
    """
    report: dict[str, Any] = {"orderId": sf_order_id, "good": True, "steps": [], "addOrder": None, "notes": []}

    def step(name: str, do: Callable[[], tuple[Any, str]]) -> Any:
        value, message = do()
        report["steps"].append({"step": name, "good": True, "message": message})
        return value

    name = "validation"
    try:
        order: SalesforceOrder = step(name, lambda: _order(services, sf_order_id))
        client_id, gateway = step(name, lambda: _customer(services, order))
        name = "order_details"
        step(name, lambda: _items(order))
        name = "mapping"
        lines: list[OrderLine] = step(name, lambda: _lines(services, order))
        report["addOrder"] = _parameters(services, sf_order_id, client_id, gateway, lines)
    except FulfillmentFailed as failed:
        report["steps"].append({"step": name, "good": False, "message": f"{failed.code}: {failed}"})
        report["good"] = False
        return report
    report["notes"] = _notes(services, order)
    return report


def _order(services: Services, sf_order_id: str) -> tuple[SalesforceOrder, str]:
    order = services.salesforce.fetch_order(sf_order_id)
    if order is None:
        raise FulfillmentFailed(ErrorCode.ORDER_NOT_FOUND, "Salesforce knows no order with this id")
    refuse_status(services.settings, order)
    return order, f"order {order.order_number}, status {order.status}"


def _customer(services: Services, order: SalesforceOrder) -> tuple[tuple[str, str], str]:
    """The client and the gateway. A client that doesn't exist yet has no way to pay either."""
    client_id = known_client(services.settings, services.salesforce, services.whmcs, order)
    if client_id is None:
        return (NEW_CLIENT, ""), "AddClient would make a WHMCS client, who then needs a payment method"
    gateway = gateway_of(services.settings, services.whmcs, client_id)
    if gateway is None:
        raise FulfillmentFailed(ErrorCode.PAYMENT_METHOD_MISSING, "The customer has no payment method in WHMCS")
    return (client_id, gateway), f"WHMCS client {client_id}, gateway {gateway}"


def _items(order: SalesforceOrder) -> tuple[None, str]:
    if not order.items:
        raise FulfillmentFailed(ErrorCode.ORDER_HAS_NO_ITEMS, "The order has no items in Salesforce")
    return None, f"{len(order.items)} items"


def _lines(services: Services, order: SalesforceOrder) -> tuple[list[OrderLine], str]:
    """The lines as the mapping step makes them, each of a product that WHMCS has and sells like this."""
    mapped = map_items(order.items, services.settings.whmcs_price_source)
    refuse_faults(mapped)
    known = {product.pid: product for product in services.whmcs.products([line.pid for line in mapped.lines])}
    faults = [
        f"WHMCS has no product {line.pid}"
        if line.pid not in known
        else f"WHMCS' product {line.pid} isn't offered {line.billing_cycle}"
        for line in mapped.lines
        if line.pid not in known or line.billing_cycle not in known[line.pid].cycles
    ]
    if faults:
        raise FulfillmentFailed(ErrorCode.PRODUCT_MAPPING_MISSING, "; ".join(faults))
    summary = ", ".join(f"{line.quantity} × product {line.pid} {line.billing_cycle}" for line in mapped.lines)
    return list(mapped.lines), summary


def _parameters(
    services: Services, sf_order_id: str, client_id: str, gateway: str, lines: list[OrderLine]
) -> dict[str, str]:
    name = services.settings.whmcs_marker_custom_field
    products = services.whmcs.products(sorted({line.pid for line in lines})) if name else []
    return add_order_params(
        client_id,
        gateway,
        lines,
        notes=external_reference(sf_order_id),
        custom_fields=reference_fields(name, sf_order_id, products) if name else {},
    )


def _notes(services: Services, order: SalesforceOrder) -> list[str]:
    """Why this AddOrder might not be sent after all."""
    with services.ledger.read() as connection:
        row = fulfillments.get(connection, order.id)
    notes = []
    if row is not None:
        notes.append(f"The ledger has it already: {row.state}, WHMCS order {row.elected_whmcs_id or 'none'}")
    if order.whmcs_order_id:
        notes.append(f"Salesforce names WHMCS order {order.whmcs_order_id}: that one is looked at, not ordered again")
    return notes


def _print(report: dict[str, Any]) -> None:
    for each in report["steps"]:
        click.echo(f"{'✓' if each['good'] else '×'} {each['step']}: {each['message']}")
    for note in report["notes"]:
        click.echo(f"‼ {note}")
    if report["addOrder"] is not None:
        click.echo("\nAddOrder would be sent with:")
        for name, value in report["addOrder"].items():
            click.echo(f"    {name}={value}")
