"""The demo's catalogue and customers (sandbox/seeds.py) for those who hold the sandboxes by `sandbox.control`."""

from __future__ import annotations

from sandbox import seeds
from sandbox.control import SalesforceSandbox, WhmcsSandbox


def seed_demo(org: SalesforceSandbox, whmcs: WhmcsSandbox) -> dict[str, str]:
    """Fills both sides where they are empty; seeding again changes nothing. Answers Salesforce's ids by name, among
    them `pricebook` (PORTAL_PRICEBOOK_ID), `account:ada`, `contact:ada`, `entry:starter`."""
    return seeds.seed(org.url, whmcs.url)
