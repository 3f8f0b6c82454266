"""Whether the ledger belongs to the configured WHMCS and Salesforce org, and vouches for what happened before."""

from __future__ import annotations

from portal.ledger import installation
from portal.ops.doctor.model import Check, Context, Finding, error, good, warning

_CURE = "Is DATABASE_URL the right one? If the change is meant: `flask installation accept`"


def _same(context: Context, key: str, mine: str | None, what: str) -> Finding:
    with context.ledger.read() as connection:
        theirs = installation.get(connection, key)
    if theirs is None or mine is None:
        return good("not known yet")
    if theirs != mine:
        return error(f"the ledger belongs to another {what} ({theirs}) than the one configured ({mine})")
    return good()


def _whmcs(context: Context) -> Finding:
    return _same(context, "whmcs_address", context.settings.whmcs_api_url, "WHMCS")


def _salesforce(context: Context) -> Finding:
    return _same(context, "salesforce_org", context.found["org"], "Salesforce org")


def _history(context: Context) -> Finding:
    with context.ledger.read() as connection:
        if installation.history_complete(connection):
            return good()
    return warning("the ledger was restored from a backup lately: orders it doesn't know are looked at twice")


CHECKS = (
    Check(
        id="installation.whmcs",
        description="the ledger belongs to this WHMCS",
        run=_whmcs,
        cure=_CURE,
        needs=("database.migrations", "whmcs.credentials"),
    ),
    Check(
        id="installation.salesforce",
        description="the ledger belongs to this Salesforce org",
        run=_salesforce,
        cure=_CURE,
        needs=("database.migrations", "salesforce.sign-in"),
    ),
    Check(
        id="installation.history",
        description="the ledger knows of everything that happened before",
        run=_history,
        cure="Nothing to do: it passes by itself; orders that need a decision meanwhile are for you",
        needs=("database.migrations",),
    ),
)
