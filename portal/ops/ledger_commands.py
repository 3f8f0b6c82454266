"""`flask ledger …`: the whole ledger into a file and back."""

from __future__ import annotations

import getpass
import time
from pathlib import Path

import click

from portal.ledger import backup as backups
from portal.ledger import copying
from portal.ledger.engine import Ledger
from portal.ops.group import Group, refuse, services
from portal.ops.rebuild import UNKNOWABLE
from portal.ops.rebuild import rebuild as rebuild_ledger

ledger_group = Group("ledger", help="Back up, restore and move the whole ledger.")

_FILE = click.Path(path_type=Path)


@ledger_group.command("backup")
@click.argument("target", type=_FILE)
def backup(target: Path) -> None:
    """Copy the ledger to TARGET, a new file or a folder, while everything runs."""
    portal = services()
    made = backups.backup(portal.ledger, target, now=portal.now())
    click.echo(f"Backed up to {made} ({made.stat().st_size / 1024:.0f} KB), checked, readable by you alone.")
    click.echo("It holds customers' addresses: keep it encrypted, and on another host.")


@ledger_group.command("restore")
@click.argument("source", type=_FILE)
@click.option("--yes", is_flag=True, help="Don't ask.")
def restore(source: Path, yes: bool) -> None:
    """Put the backup SOURCE in the ledger's place. Every process of the portal must be stopped."""
    portal = services(migrated=False)
    if not yes:
        click.confirm(f"Replace the ledger by {source}? What happened since is forgotten", abort=True)
    done = backups.restore(
        portal.ledger,
        source,
        now=portal.now(),
        max_request_seconds=portal.settings.whmcs_max_request_seconds,
        actor=getpass.getuser(),
    )
    made = "at an unknown time" if done.made_at is None else f"at {_moment(done.made_at)}"
    click.echo(f"Restored the backup that was made {made}.")
    if done.kept is not None:
        click.echo(f"The ledger that was there is kept as {done.kept}.")
    click.echo(
        f"Next: start everything, a sweep too. {done.doubted} orders that hadn't ended are looked for in WHMCS before "
        "anything is created; orders accepted since are found in Salesforce within minutes; customers sign in again.\n"
        "Left to you: docs/runbook.md, Restoring the ledger."
    )


@ledger_group.command("rebuild")
@click.option("--pages", default=1000, show_default=True, help="At most so many pages of each side in this call.")
def rebuild(pages: int) -> None:
    """Fill a ledger that lost everything from Salesforce and WHMCS. Run it again to go on where it stopped.

    Every process of the portal must be stopped.
    """
    portal = services()
    backups.refuse_while_running(portal.ledger, now=portal.now())
    report = rebuild_ledger(portal, actor=getpass.getuser(), most_pages=pages, say=click.echo)
    for what, count in sorted(report.counts.items()):
        click.echo(f"  {count} WHMCS orders: {what}")
    if not report.done:
        click.echo("Not done yet: run `flask ledger rebuild` again.")
        return
    click.echo("Done. What can't be known, because neither side shows it:")
    for line in UNKNOWABLE:
        click.echo(f"  - {line}")
    click.echo("Next: start everything, a sweep too. Nothing is created before WHMCS was looked at.")


@ledger_group.command("copy")
@click.argument("source")
@click.argument("target")
def copy(source: str, target: str) -> None:
    """Copy the ledger SOURCE into the empty TARGET; both as DATABASE_URL has them, or @FILE that holds the address.

    Every process of the portal must be stopped. SOURCE is paused, for there must be one ledger only.
    """
    here, there = Ledger(_address(source)), Ledger(_address(target))
    try:
        backups.refuse_while_running(here, now=time.time())
        counts = copying.copy(here, there, now=time.time(), actor=getpass.getuser(), say=click.echo)
    finally:
        here.dispose()
        there.dispose()
    click.echo(
        f"Copied {sum(counts.values())} rows of {len(counts)} tables, counted on both sides. The old ledger is paused."
    )
    click.echo("Next: put the new address into DATABASE_URL, grant the portal's user its rights, start everything.")


def _address(text: str) -> str:
    """A database's address in SQLAlchemy's terms. Raises ClickException."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            refuse(ValueError(f"{text[1:]} can't be read: {error}"))
    if not text.startswith(("sqlite:///", "postgresql://")):
        refuse(ValueError("an address begins with sqlite:/// or postgresql://"))
    return text.replace("postgresql://", "postgresql+psycopg://", 1)


def _moment(seconds: float) -> str:
    """Seconds since 1970 as people read them."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
