"""Withdrawals from the contracts of orders that are past their review: noted, receipted and passed on, each once.

Functions take a Connection of `Ledger.write()`; moments are seconds since 1970.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.engine import Connection

from portal.ledger.orders import get, put_mail
from portal.ledger.schema import orders


def ask_withdrawal(
    connection: Connection, reference: str, *, merchant: str, email: str, name: str = "", now: float
) -> bool:
    """Its customer withdraws from the contract of an order that is past its review; False for one who did before.

    Once, in one transaction: the moment, the receipt to `email`, and the mail to the merchant, who goes on from there.
    name: as the customer gave it, "" where they didn't.
    """
    changed = connection.execute(
        orders.update()
        .where(orders.c.reference == reference, orders.c.withdrawal_asked_at.is_(None))
        .values(withdrawal_asked_at=now, updated_at=now)
    ).rowcount
    order = get(connection, reference) if changed else None
    if order is None:
        return False
    receipt = replace(order, email=order.email or email)
    put_mail(connection, receipt, "withdrawal_received", now=now, withdrawn_at=now, name=name)
    put_mail(
        connection,
        replace(order, email=merchant),
        "withdrawal_asked",
        now=now,
        withdrawn_at=now,
        customer=receipt.email,
        name=name,
        sf_order_id=order.sf_order_id,
    )
    return True
