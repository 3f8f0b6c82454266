"""Whether an order may be fulfilled, for which WHMCS client, and how that one pays: asked, never changed.

The validation step asks, and `flask check-order`.
"""

from __future__ import annotations

from portal.domain.model import ErrorCode, FulfillmentFailed, SalesforceOrder
from portal.domain.ports import SalesforcePort, WhmcsPort
from portal.settings import Settings


def refuse_status(settings: Settings, order: SalesforceOrder) -> None:
    """Raises FulfillmentFailed for an Order.Status that is never fulfilled (SF_UNFULFILLABLE_STATUSES)."""
    if order.status in settings.sf_unfulfillable_statuses:
        raise FulfillmentFailed(
            ErrorCode.ORDER_NOT_FULFILLABLE,
            f"The order's status in Salesforce is {order.status}: an order with that status isn't fulfilled",
        )


def known_client(
    settings: Settings, salesforce: SalesforcePort, whmcs: WhmcsPort, order: SalesforceOrder
) -> str | None:
    """The WHMCS client: the account's own, else the one of its e-mail address; None where one may be made.

    Raises FulfillmentFailed where there is none and none may be made, and UpstreamError.
    """
    if order.whmcs_client_id:
        return order.whmcs_client_id
    if not order.email:
        raise FulfillmentFailed(
            ErrorCode.CLIENT_NOT_MAPPED,
            "The account has no WHMCS_Client_ID__c and no contact with an e-mail address to find the client by",
        )
    if salesforce.accounts_with_email(order.email) > 1:
        raise FulfillmentFailed(
            ErrorCode.CLIENT_NOT_MAPPED,
            "The account has no WHMCS_Client_ID__c, and its contact's e-mail address belongs to several accounts",
        )
    client = whmcs.client(email=order.email)
    if client is not None:
        return client.id
    if settings.whmcs_create_clients:
        return None
    raise FulfillmentFailed(
        ErrorCode.CLIENT_NOT_MAPPED,
        "The account has no WHMCS_Client_ID__c, and WHMCS has no client with its contact's e-mail address",
    )


def gateway_of(settings: Settings, whmcs: WhmcsPort, client_id: str) -> str | None:
    """The gateway to order with; None when the client can't pay.

    Raises FulfillmentFailed when there is no such client, and UpstreamError.
    """
    methods = whmcs.pay_methods(client_id)
    if methods and settings.whmcs_payment_method:
        return settings.whmcs_payment_method
    client = whmcs.client(client_id=client_id)
    if client is None:
        raise FulfillmentFailed(ErrorCode.CLIENT_NOT_MAPPED, f"WHMCS has no client {client_id}")
    gateway = client.default_gateway or settings.whmcs_payment_method or ""
    if methods and (gateway or methods[0].gateway):
        return gateway or methods[0].gateway
    return gateway if gateway and gateway in settings.whmcs_invoice_gateways else None
