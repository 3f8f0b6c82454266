"""Learns in bulk what changed with orders in Salesforce: rejected in review, cancelled later, placed elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portal.services import Services


def learn_changes(services: Services) -> None:
    """Read the orders that changed since the last time. Raises UpstreamError when Salesforce can't be asked."""
    services.salesforce.orders_changed_since(services.now() - 300, 1)
