"""`flask ledger …`: the whole ledger into a file and back."""

from __future__ import annotations

import getpass
import time
from pathlib import Path

import click

from portal.ledger import backup as backups
from portal.ops.group import Group, services

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


def _moment(seconds: float) -> str:
    """Seconds since 1970 as people read them."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
