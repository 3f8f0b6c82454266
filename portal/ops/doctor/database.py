"""Whether the ledger's database is there, at this version's tables, and can be written."""

from __future__ import annotations

from portal.ledger import diagnosis
from portal.ledger.clock import TELL_SECONDS, LedgerClock
from portal.ledger.migrate import require_migrated
from portal.ops.doctor.model import Check, Context, Finding, error, good, warning
from portal.ops.doctor.settings import SOUND


def _reachable(context: Context) -> Finding:
    missing = diagnosis.missing_file(context.ledger)
    if missing is not None:
        return error(f"there is no ledger at {missing}")
    kind, _ = diagnosis.kind_and_revision(context.ledger)
    if context.settings.production and context.ledger.sqlite:
        return warning(f"{kind}: good for one host only, and not meant for production")
    return good(kind)


def _migrated(context: Context) -> Finding:
    require_migrated(context.ledger)
    return good()


def _clock(context: Context) -> Finding:
    ahead = LedgerClock(context.ledger).measure()
    told = f"this machine's clock is {abs(ahead):.1f} s {'behind' if ahead > 0 else 'ahead of'} the database's"
    if abs(ahead) > TELL_SECONDS:
        return warning(f"{told}; the database's time is what counts")
    return good(told if abs(ahead) > 0.1 else "")


def _writable(context: Context) -> Finding:
    reason = diagnosis.why_read_only(context.ledger)
    if reason is not None:
        return error(reason)
    if context.write_test:
        diagnosis.try_write(context.ledger, now=context.now())
        return good("a row was written and taken back")
    return good()


CHECKS = (
    Check(
        id="database.reachable",
        description="the ledger's database answers",
        run=_reachable,
        cure="Start the database, or mend DATABASE_URL; a new ledger is made by `flask db upgrade`",
        needs=SOUND,
        seconds=15,
        retry=True,
    ),
    Check(
        id="database.clock",
        description="this machine's clock agrees with the database's",
        run=_clock,
        cure="Set the clocks of both by NTP (`timedatectl set-ntp true`)",
        needs=("database.reachable",),
    ),
    Check(
        id="database.migrations",
        description="the ledger's tables are those of this version",
        run=_migrated,
        cure="Run `flask db upgrade` with this version's files",
        needs=("database.reachable",),
        retry=True,
    ),
    Check(
        id="database.writable",
        description="the ledger can be written",
        run=_writable,
        cure="Point DATABASE_URL at the primary, as a user that may write the ledger",
        needs=("database.migrations",),
        seconds=40,
    ),
)
