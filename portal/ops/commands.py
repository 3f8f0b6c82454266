"""The `flask` commands of installers and operators: migrate, pause, and decide what only a person can decide."""

from __future__ import annotations

import getpass

import click
from flask import Flask

from portal.domain.ids import salesforce_id_18
from portal.domain.model import State
from portal.domain.seen import LIVE_SERVICE
from portal.errors import PortalError
from portal.ledger import decisions, events, fulfillments, installation, runs
from portal.ledger.migrate import upgrade
from portal.ops.account_commands import account_group
from portal.ops.check_order import check_order
from portal.ops.doctor.command import doctor
from portal.ops.group import Group as _Group
from portal.ops.group import refuse as _refuse
from portal.ops.group import services as _services
from portal.ops.init_env import init_env
from portal.ops.ledger_commands import ledger_group

db = _Group("db", help="The ledger's database.")
fulfillment_commands = _Group("fulfillments", help="Look at, pause and decide fulfillments.")
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


@fulfillment_commands.command("show")
@click.argument("order_id")
def show(order_id: str) -> None:
    """Tell one order's whole story."""
    services = _services()
    sf_order_id = _order_id(order_id)
    with services.ledger.read() as connection:
        row = fulfillments.get(connection, sf_order_id)
        rows = runs.steps_of(connection, sf_order_id)
        happened = events.of_subject(connection, sf_order_id)
    if row is None:
        _refuse(ValueError(f"nobody asked to fulfil {sf_order_id} yet"))
    click.echo(f"{row.sf_order_id}: {row.state}, attempt {row.attempt}, WHMCS order {row.elected_whmcs_id or 'none'}")
    if row.error_code:
        click.echo(f"  {row.error_code}: {row.error_message}")
    if row.waiting_for:
        click.echo(f"  waits: {row.waiting_for}")
    for step in rows:
        click.echo(f"  attempt {step.attempt} {step.name}: {step.state} {step.detail or ''}")
    for event in happened:
        click.echo(f"  event {event.kind} by {event.actor or 'the portal'} {event.detail or ''}")


@fulfillment_commands.command("pause")
@click.option("--why", required=True, help="Kept in the ledger.")
def pause(why: str) -> None:
    """Keep accepting orders, but write nothing to WHMCS until `resume`."""
    services = _services()
    with services.ledger.write() as connection:
        installation.pause(connection, actor=getpass.getuser(), why=why, now=services.now())
    click.echo("Paused: orders are accepted and wait.")


@fulfillment_commands.command("resume")
@click.option("--why", default="", help="Kept in the ledger.")
def resume(why: str) -> None:
    """Go on after `pause`."""
    services = _services()
    with services.ledger.write() as connection:
        installation.resume(connection, actor=getpass.getuser(), why=why, now=services.now())
    click.echo("Running again.")


@fulfillment_commands.command("retry")
@click.argument("order_id")
def retry(order_id: str) -> None:
    """Start a Failed order again where it stopped, or try a waiting one now."""
    services = _services()
    with services.ledger.write() as connection:
        again = decisions.resume(
            connection, _order_id(order_id), now=services.now(), actor=getpass.getuser(), why="retry by command"
        )
    if not again:
        _refuse(ValueError("only an order that Failed can be retried"))
    click.echo("Queued.")


@fulfillment_commands.command("adopt")
@click.argument("order_id")
@click.argument("whmcs_order_id")
def adopt(order_id: str, whmcs_order_id: str) -> None:
    """Say which WHMCS order this Salesforce order is; the fulfillment goes on with it."""
    services = _services()
    if not whmcs_order_id.isascii() or not whmcs_order_id.isdigit():
        _refuse(ValueError("a WHMCS order id is a number"))
    try:
        with services.ledger.write() as connection:
            decisions.adopt(
                connection, _order_id(order_id), whmcs_order_id, now=services.now(), actor=getpass.getuser()
            )
    except (PortalError, ValueError) as error:
        _refuse(error)
    click.echo(f"Adopted WHMCS order {whmcs_order_id}; queued.")


@fulfillment_commands.command("create")
@click.argument("order_id")
@click.option("--i-looked-in-whmcs", "looked", is_flag=True, required=True, help="You saw that WHMCS has no order.")
def create(order_id: str, looked: bool) -> None:
    """Order a new AddOrder for an order in doubt. Look in WHMCS first: this is how a customer gets billed twice."""
    services = _services()
    try:
        with services.ledger.write() as connection:
            decisions.create_afresh(connection, _order_id(order_id), now=services.now(), actor=getpass.getuser())
    except (PortalError, ValueError) as error:
        _refuse(error)
    click.echo("Queued for a new AddOrder.")


@fulfillment_commands.command("module-create")
@click.argument("order_id")
@click.argument("service_id")
def module_create(order_id: str, service_id: str) -> None:
    """Have WHMCS set up one service of an order again (ModuleCreate), then go on."""
    services = _services()
    sf_order_id = _order_id(order_id)
    with services.ledger.read() as connection:
        row = fulfillments.get(connection, sf_order_id)
    if row is None or row.state not in (State.NEEDS_DECISION, State.FAILED) or not row.elected_whmcs_id:
        _refuse(ValueError("only for an order with a WHMCS order that Failed or needs a decision"))
    found = services.whmcs.services(row.client_id or "")
    mine = {each.id: each for each in found if each.order_id == row.elected_whmcs_id}
    service = mine.get(service_id)
    if service is None:
        _refuse(ValueError(f"service {service_id} isn't one of this order's: {', '.join(mine) or 'it has none'}"))
    if service.status not in LIVE_SERVICE:  # a second one would set up, and perhaps wipe, what the customer uses
        services.whmcs.module_create(service_id)
    with services.ledger.write() as connection:
        decisions.adopt(connection, sf_order_id, row.elected_whmcs_id, now=services.now(), actor=getpass.getuser())
    click.echo("The service is active; the order is checked again.")


def _order_id(text: str) -> str:
    try:
        return salesforce_id_18(text)
    except ValueError as error:
        _refuse(error)


@installation_group.command("accept")
def accept() -> None:
    """Accept that this ledger now belongs to the configured Salesforce org and WHMCS."""
    services = _services()
    services.accept_installation()
    with services.ledger.write() as connection:
        events.record(connection, "installation_accepted", now=services.now(), actor=getpass.getuser())
    click.echo("Accepted.")
