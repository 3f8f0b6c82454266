"""The `flask` commands of installers and operators: all of them are put together here."""

from __future__ import annotations

import getpass

import click
from flask import Flask

from portal.ledger import events
from portal.ledger.migrate import upgrade
from portal.ops.account_commands import account_group
from portal.ops.check_order import check_order
from portal.ops.doctor.command import doctor
from portal.ops.fulfillment_commands import fulfillment_commands
from portal.ops.group import Group as _Group
from portal.ops.group import services as _services
from portal.ops.init_env import init_env
from portal.ops.ledger_commands import ledger_group

db = _Group("db", help="The ledger's database.")
installation_group = _Group("installation", help="Which Salesforce and WHMCS this ledger belongs to.")


def register_commands(app: Flask) -> None:
    """Add the commands to `flask`; they work, or say why not, in an app without settings, too."""
    for command in (
        db,
        fulfillment_commands,
        installation_group,
        ledger_group,
        account_group,
        doctor,
        init_env,
        check_order,
    ):
        app.cli.add_command(command)


@db.command("upgrade")
@click.option("--before-restart", is_flag=True, help="Only what the version that runs can go on with.")
def db_upgrade(before_restart: bool) -> None:
    """Bring the ledger's tables to this version, in one transaction."""
    before, after = upgrade(_services(migrated=False).ledger, before_restart=before_restart)
    click.echo(f"The ledger is at revision {after}." if before == after else f"Migrated the ledger to {after}.")


@installation_group.command("accept")
def accept() -> None:
    """Accept that this ledger now belongs to the configured Salesforce org and WHMCS."""
    services = _services()
    services.accept_installation()
    with services.ledger.write() as connection:
        events.record(connection, "installation_accepted", now=services.now(), actor=getpass.getuser())
    click.echo("Accepted.")
