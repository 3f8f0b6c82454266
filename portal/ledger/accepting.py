"""A signed delivery becomes a fulfillment: nonce, Idempotency-Key and order in one transaction, all or nothing.

Whatever proves that a request is authentic (the webhook receiver, some day another way in) ends here: this function
doesn't know HTTP. Functions take a Connection of `portal.ledger.engine.Ledger`; moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from portal.domain.model import JsonObject
from portal.errors import PortalError
from portal.ledger import deliveries, fulfillments
from portal.ledger.fulfillments import Fulfillment


class KeyReused(PortalError):
    """The Idempotency-Key was sent for another order before. Nothing of this delivery may be kept."""


class NonceUsed(PortalError):
    """A delivery with this nonce is in the ledger already. Nothing of this one may be kept."""


@dataclass(frozen=True)
class Delivery:
    """One authentic request to fulfil an order."""

    sf_order_id: str  # 18 characters
    idempotency_key: str  # one per click, kept across its retries
    nonce_id: str  # portal.webhooks.nonces.nonce_id
    nonce_seconds: float  # for which the nonce must be remembered
    requested_at: float  # the signed moment
    requested_by: str | None = None
    origin: JsonObject | None = None  # of the request, for logs and traces
    resync_at: float | None = None  # when to tell Salesforce the order's state once more; None: needn't be


@dataclass(frozen=True)
class Accepted:
    """What one delivery became in the ledger."""

    key: deliveries.Key
    row: Fulfillment
    resync: int | None  # the outbox message that tells Salesforce the order's state once more


def accept(connection: Connection, delivery: Delivery, *, now: float) -> Accepted:
    """Take a delivery: claim its key and nonce, and make sure the order has a fulfillment.

    A key that is known changes nothing about the fulfillment; a new one on a Failed order starts a new attempt.
    Raises KeyReused or NonceUsed: the transaction must then be rolled back, a refused request burns neither.
    """
    key = deliveries.claim_key(connection, delivery.idempotency_key, delivery.sf_order_id, now=now)
    if key.sf_order_id != delivery.sf_order_id:
        raise KeyReused("this Idempotency-Key was sent for another order")
    new_nonce = deliveries.record(
        connection,
        delivery.nonce_id,
        now=now,
        keep=delivery.nonce_seconds,
        sf_order_id=delivery.sf_order_id,
        idempotency_key=delivery.idempotency_key,
        requested_by=delivery.requested_by,
    )
    if not new_nonce:
        raise NonceUsed("this nonce was used before")
    row = fulfillments.request_fulfillment(
        connection,
        delivery.sf_order_id,
        now=now,
        requested_at=delivery.requested_at,
        requested_by=delivery.requested_by,
        origin=delivery.origin,
        new_click=key.new,
    )
    if key.new:
        deliveries.set_attempt(connection, delivery.idempotency_key, row.attempt)
    resync = None
    if delivery.resync_at is not None:
        resync = fulfillments.plan_resync(connection, delivery.sf_order_id, now=now, due_at=delivery.resync_at)
    return Accepted(key, row, resync)


def find_accepted(connection: Connection, delivery: Delivery, *, now: float) -> Accepted | None:
    """What the ledger has of a delivery whose commit's outcome is unknown; None: nothing, it was not accepted."""
    key = deliveries.key_of(connection, delivery.idempotency_key, now=now)
    row = fulfillments.get(connection, delivery.sf_order_id)
    if key is None or row is None or not deliveries.recorded(connection, delivery.nonce_id):
        return None
    return Accepted(key, row, resync=None)
