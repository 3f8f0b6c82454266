"""`flask fulfillments …`: find an order, read its story, and act on it, without a browser; the acts are those of /ops.

An order is named by whatever a person has of it: a Salesforce id (15 or 18 characters) or order number, the portal's
reference, a WHMCS order, service or client id, an Idempotency-Key, the customer's address or a domain.
"""

from __future__ import annotations

import contextlib
import getpass
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from sqlalchemy.engine import Connection

from portal.domain.ids import salesforce_id_18
from portal.domain.model import ErrorCode, State, Step
from portal.errors import PortalError
from portal.ledger import audits, decisions, events, fulfillments, installation, order_record, orders, runs, search
from portal.ledger.statistics import HANDLED
from portal.ops import acts
from portal.ops.console import story
from portal.ops.console.words import seconds, utc
from portal.ops.group import Group, refuse, services

fulfillment_commands = Group("fulfillments", help="Find, look at, pause, retry and decide fulfillments.")

_JSON = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON document.")


def _order_id(text: str) -> str:
    """The Salesforce id of the order that a person means. Ends the command where it is none, or more than one."""
    with contextlib.suppress(ValueError):
        return salesforce_id_18(text)
    with services().ledger.read() as connection:
        found = search.find(connection, text) if text.isprintable() else []
    if not found:
        refuse(ValueError("not a Salesforce id, and nothing else that the ledger knows an order by"))
    if len(found) > 1 or len(found[0].name) != 18:
        some = ", ".join(each.name for each in found[:10])
        refuse(ValueError(f"{text} isn't one order in Salesforce, but {len(found)}: {some}"))
    return found[0].name


@fulfillment_commands.command("list")
@click.option(
    "--state", type=click.Choice([*(each.value for each in State), HANDLED]), help="Only those that stand so."
)
@click.option("--code", type=click.Choice([each.value for each in ErrorCode]), help="Only those with this error code.")
@click.option("--older-than", type=click.IntRange(0), metavar="SECONDS", help="Only those asked for longer ago.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@_JSON
def list_(state: str | None, code: str | None, older_than: int | None, limit: int, as_json: bool) -> None:
    """The newest fulfillments, with when each was asked for (UTC), its state, and why."""
    here = services()
    until = None if older_than is None else here.now() - older_than
    wanted = search.filter_of(state, code=code, until=until)
    with here.ledger.read() as connection:
        found = search.page(connection, wanted, limit=limit)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=1))
        return
    for each in found:
        why = each.error_message or each.waiting_for or ""
        handled = "" if each.handled_at is None else ", handled"
        click.echo(
            f"{utc(each.created_at)}  {each.sf_order_id}  {each.state}{handled}"
            f"  {each.error_code or each.waiting_code or '-'}  {why}".rstrip()
        )


@fulfillment_commands.command("find")
@click.argument("text")
@_JSON
def find(text: str, as_json: bool) -> None:
    """Every order of which TEXT is an id, number, key, address or domain. Exit status 1 when there is none."""
    with services().ledger.read() as connection:
        found = search.find(connection, text) if text.isprintable() else []
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=1))
    else:
        for each in found:
            handled = ", handled" if each.handled else ""
            click.echo(
                f"{utc(each.created_at)}  {each.name}  {each.status}{handled}  {each.code or '-'}  (its {each.what})"
            )
    if not found:
        refuse(ValueError("the ledger knows no order by that"))


@fulfillment_commands.command("show")
@click.argument("order_id")
@_JSON
def show(order_id: str, as_json: bool) -> None:
    """Tell one order's whole story; times are UTC."""
    here = services()
    sf_order_id = _order_id(order_id)
    with here.ledger.read() as connection:
        row = fulfillments.get(connection, sf_order_id)
        if row is None:
            refuse(ValueError(f"nobody asked to fulfil {sf_order_id} yet"))
        record = _record(connection, sf_order_id)
        paused = bool(installation.paused(connection))
    if as_json:
        click.echo(json.dumps({"fulfillment": {**asdict(row), "plan": None}, **record}, indent=1))
        return
    now = here.now()
    click.echo(f"{row.sf_order_id}: {row.state}, attempt {row.attempt}, WHMCS order {row.elected_whmcs_id or 'none'}")
    click.echo(f"  asked for {utc(row.requested_at)} by {row.requested_by or 'somebody'}")
    if row.error_code:
        click.echo(f"  {row.error_code}: {row.error_message}")
    if row.waiting_for:
        click.echo(f"  waits: {row.waiting_for}")
    click.echo(f"  next: {story.happens_next(row, paused=paused, now=now)}")
    for sentence in story.election(row, now=now):
        click.echo(f"  {sentence}")
    for click_ in record["deliveries"]:
        click.echo(f"  {utc(click_['received_at'])} delivery {click_['key']} by {click_['requested_by'] or 'somebody'}")
    for step in record["steps"]:
        took = "" if step["ended_at"] is None else f" ({seconds(step['ended_at'] - step['started_at'])})"
        click.echo(
            f"  {utc(step['started_at'])} attempt {step['attempt']} {step['name']}: {step['state']}{took} "
            f"{step['detail'] or ''}".rstrip()
        )
    for message in record["writeBacks"] + record["mails"]:
        sent = f" {utc(message['sent_at'])}" if message["sent_at"] else ""
        click.echo(
            f"  {utc(message['created_at'])} {message['what']} {message['id']}: {message['state']}{sent} "
            f"{message['error'] or ''}".rstrip()
        )
    for event in record["events"]:
        actor = event["actor"] or "the portal"
        click.echo(f"  {utc(event['at'])} event {event['kind']} by {actor} {event['detail'] or ''}".rstrip())


def _record(connection: Connection, sf_order_id: str) -> dict[str, Any]:
    """What the ledger has beside the fulfillment's own row, ready for JSON."""
    known = orders.by_sf_order_id(connection, sf_order_id)
    subjects = [sf_order_id, *([known.reference] if known else [])]
    return {
        "deliveries": [asdict(each) for each in order_record.clicks(connection, sf_order_id)],
        "steps": [asdict(each) for each in runs.steps_of(connection, sf_order_id)],
        "writeBacks": [_message(each) for each in order_record.messages(connection, "salesforce", subjects)],
        "mails": [_message(each) for each in order_record.messages(connection, "mail", subjects)],
        "events": [asdict(each) for subject in subjects for each in events.of_subject(connection, subject)],
        "services": audits.services_of(connection, sf_order_id),
    }


def _message(row: order_record.MessageRow) -> dict[str, Any]:
    """A message without its payload, which may hold the customer's address."""
    told = (row.payload.get("told") or {}).get("Provisioning_Status__c")
    what = f"mail {row.payload.get('template', '')}" if row.kind == "mail" else f"write-back {told or ''}"
    return {**asdict(row), "payload": None, "what": what.rstrip()}


@fulfillment_commands.command("pause")
@click.option("--why", required=True, help="Kept in the ledger.")
def pause(why: str) -> None:
    """Keep accepting orders, but write nothing to WHMCS until `resume`."""
    acts.pause(services(), actor=getpass.getuser(), why=why)
    click.echo("Paused: orders are accepted and wait.")


@fulfillment_commands.command("resume")
@click.option("--why", default="resumed by command", help="Kept in the ledger.")
def resume(why: str) -> None:
    """Go on after `pause`."""
    acts.resume(services(), actor=getpass.getuser(), why=why)
    click.echo("Running again.")


@fulfillment_commands.command("retry")
@click.argument("order_id")
@click.option("--from", "step", type=click.Choice([each.value for each in Step]), help="Begin with this step.")
@click.option("--why", default="retry by command", help="Kept in the ledger.")
def retry(order_id: str, step: str | None, why: str) -> None:
    """Start a Failed order again where it stopped, or try a waiting one now."""
    here, sf_order_id, actor = services(), _order_id(order_id), getpass.getuser()
    if step is not None:
        click.echo(acts.perform(here, "retry", sf_order_id, actor=actor, why=why, fields={"step": step}))
        return
    with here.ledger.write() as connection:
        again = decisions.resume(connection, sf_order_id, now=here.now(), actor=actor, why=why)
    if not again:
        refuse(ValueError("only an order that Failed can be retried"))
    click.echo("Queued.")


@fulfillment_commands.command("decide")
@click.argument("order_id")
@click.option("--adopt", metavar="WHMCS_ORDER_ID", help="This WHMCS order is it.")
@click.option("--create", is_flag=True, help="Order a new AddOrder; needs --i-looked-in-whmcs.")
@click.option("--i-looked-in-whmcs", "looked", is_flag=True, help="You saw that WHMCS has no order.")
@click.option("--handled", is_flag=True, help="You have seen to it elsewhere: nothing more is to be decided.")
@click.option("--why", required=True, help="Kept in the ledger.")
def decide(order_id: str, adopt: str | None, create: bool, looked: bool, handled: bool, why: str) -> None:
    """Decide about an order that Failed or needs a decision: --adopt, --create or --handled."""
    if sum((adopt is not None, create, handled)) != 1:
        refuse(ValueError("say one of --adopt, --create and --handled"))
    name = "adopt" if adopt is not None else "create" if create else "handled"
    fields = {"whmcs_order_id": adopt or "", "looked": "1" if looked else ""}
    click.echo(_perform(name, order_id, why, fields))


@fulfillment_commands.command("again")
@click.argument("order_id")
@click.option("--mail", type=click.IntRange(1), metavar="ID", help="Instead: send this mail once more.")
@click.option("--why", required=True, help="Kept in the ledger.")
def again(order_id: str, mail: int | None, why: str) -> None:
    """Tell Salesforce once more how an order stands, or send one of its mails again."""
    name, fields = ("write_back", {}) if mail is None else ("mail", {"message": str(mail)})
    click.echo(_perform(name, order_id, why, fields))


def _perform(name: str, order_id: str, why: str, fields: Mapping[str, str]) -> str:
    return acts.perform(services(), name, _order_id(order_id), actor=getpass.getuser(), why=why, fields=fields)


@fulfillment_commands.command("adopt")
@click.argument("order_id")
@click.argument("whmcs_order_id")
@click.option("--why", default="adopted by command", help="Kept in the ledger.")
def adopt(order_id: str, whmcs_order_id: str, why: str) -> None:
    """Say which WHMCS order this Salesforce order is; the fulfillment goes on with it."""
    here = services()
    if not whmcs_order_id.isascii() or not whmcs_order_id.isdigit():
        refuse(ValueError("a WHMCS order id is a number"))
    sf_order_id = _order_id(order_id)
    try:
        with here.ledger.write() as connection:
            decisions.adopt(connection, sf_order_id, whmcs_order_id, now=here.now(), actor=getpass.getuser(), why=why)
    except (PortalError, ValueError) as error:
        refuse(error)
    click.echo(f"Adopted WHMCS order {whmcs_order_id}; queued.")


@fulfillment_commands.command("create")
@click.argument("order_id")
@click.option("--i-looked-in-whmcs", "looked", is_flag=True, required=True, help="You saw that WHMCS has no order.")
@click.option("--why", default="ordered by command", help="Kept in the ledger.")
def create(order_id: str, looked: bool, why: str) -> None:
    """Order a new AddOrder for an order in doubt. Look in WHMCS first: this is how a customer gets billed twice."""
    here, sf_order_id = services(), _order_id(order_id)
    try:
        with here.ledger.write() as connection:
            decisions.create_afresh(connection, sf_order_id, now=here.now(), actor=getpass.getuser(), why=why)
    except (PortalError, ValueError) as error:
        refuse(error)
    click.echo("Queued for a new AddOrder.")


@fulfillment_commands.command("module-create")
@click.argument("order_id")
@click.argument("service_id")
@click.option("--why", default="module-create by command", help="Kept in the ledger.")
def module_create(order_id: str, service_id: str, why: str) -> None:
    """Have WHMCS set up one service of an order again (ModuleCreate), then go on."""
    sf_order_id = _order_id(order_id)
    with services().ledger.read() as connection:
        if fulfillments.get(connection, sf_order_id) is None:
            refuse(ValueError("only for an order with a WHMCS order that Failed or needs a decision"))
    click.echo(_perform("service", sf_order_id, why, {"service_id": service_id}))
