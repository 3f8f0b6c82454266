"""All checks in the order they run: what is needed comes before what needs it."""

from __future__ import annotations

from portal.ops.doctor import (
    database,
    host,
    installation,
    mail,
    network,
    processes,
    products,
    redis,
    salesforce,
    settings,
    whmcs,
)
from portal.ops.doctor.model import Check

CHECKS: tuple[Check, ...] = (
    *settings.CHECKS,
    *network.CHECKS,
    *database.CHECKS,
    *redis.CHECKS,
    *salesforce.CHECKS,
    *whmcs.CHECKS,
    *products.CHECKS,
    *installation.CHECKS,
    *mail.CHECKS,
    *processes.CHECKS,
    *host.CHECKS,
)
