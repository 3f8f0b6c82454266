"""`flask doctor`: the options, and how it ends."""

from __future__ import annotations

import os
import sys

import click

from portal.ops.doctor.checks import CHECKS
from portal.ops.doctor.model import Context
from portal.ops.doctor.printer import Printer, as_json
from portal.ops.doctor.runner import choose, run_checks


def _words(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word.strip() for text in given for word in text.split(",") if word.strip())


@click.command("doctor")
@click.option("--json", "json_", is_flag=True, help="One JSON document instead of lines.")
@click.option("--only", multiple=True, callback=_words, help="Ids or categories, and what they depend on.")
@click.option("--skip", multiple=True, callback=_words, help="Ids or categories to leave out.")
@click.option(
    "--wait", type=click.FloatRange(0, 3600), default=0, help="Try again for so many seconds what isn't up yet."
)
@click.option("--write-test", is_flag=True, help="Also write to the ledger and to Redis, and take it back.")
@click.option("--list", "list_", is_flag=True, help="List the checks and run none.")
def doctor(
    json_: bool, only: tuple[str, ...], skip: tuple[str, ...], wait: float, write_test: bool, list_: bool
) -> None:
    """Check this configuration against the database, Redis, Salesforce, WHMCS and the mail server.

    Tries again for `--wait` seconds what isn't up yet. Changes nothing, prints no secret.
    Ends with 1 when something is wrong, with 0 when it works (warnings included).
    """
    try:
        chosen = choose(CHECKS, only, skip)
    except ValueError as fault:
        raise click.UsageError(f"{fault}; `flask doctor --list` has them all") from None
    if list_:
        for check in chosen:
            click.echo(f"{check.id}: {check.description}")
        return
    printer = Printer(click.echo)
    context = Context(os.environ, write_test=write_test)
    if json_:
        report = run_checks(chosen, context, wait=wait)
        click.echo(as_json(report))
    else:
        report = run_checks(chosen, context, wait=wait, tell=printer.tell)
        printer.conclude(report)
    sys.exit(0 if report.success else 1)
