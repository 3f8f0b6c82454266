"""`flask account …`: what is held on one customer, and how it is deleted."""

from __future__ import annotations

import getpass
import json

import click

from portal.domain.ids import salesforce_id_18
from portal.ledger import accounts, events
from portal.ops.group import Group, refuse, services

account_group = Group("account", help="Export or forget what is held on one account.")


@account_group.command("export")
@click.argument("account_id")
@click.option("--why", default="", help="Kept in the ledger; no personal data.")
def export(account_id: str, why: str) -> None:
    """Print all that the ledger holds on ACCOUNT_ID (a Salesforce account), as JSON."""
    portal, account = services(), _account_id(account_id)
    with portal.ledger.write() as connection:
        told = accounts.export(connection, account, now=portal.now())
        actor = getpass.getuser()
        events.record(
            connection, "account_exported", now=portal.now(), subject=account, actor=actor, detail={"why": why}
        )
    click.echo(json.dumps(told, ensure_ascii=False, indent=2))


@account_group.command("forget")
@click.argument("account_id")
@click.option(
    "--why", prompt="Why (kept in the ledger; no personal data)", help="Kept in the ledger; no personal data."
)
@click.option("--yes", is_flag=True, help="Don't ask.")
def forget(account_id: str, why: str, yes: bool) -> None:
    """Delete ACCOUNT_ID's personal data from the ledger. It can't be undone."""
    portal, account = services(), _account_id(account_id)
    if not yes:
        click.confirm(f"Delete the personal data of {account}?", abort=True)
    with portal.ledger.write() as connection:
        counts = accounts.forget(connection, account, now=portal.now(), actor=getpass.getuser(), why=why)
    click.echo(
        f"Forgotten: addresses and domains of {counts['orders']} orders, {counts['steps']} steps, "
        f"{counts['messages']} messages, {counts['sessions']} sessions."
    )
    click.echo(
        "Kept: the orders' ids, states, moments, products and amounts, and the audit trail, this request in it. "
        "Salesforce, WHMCS, the mail server's log, the portal's logs and backups hold data of their own."
    )


def _account_id(text: str) -> str:
    try:
        return salesforce_id_18(text)
    except ValueError as error:
        refuse(error)
