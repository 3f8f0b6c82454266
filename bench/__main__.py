"""`make bench`: the portal beside its peers, in one run. Ends with one line of JSON; status 0 when every row is held.

docs/performance.md says what is measured, and what came out.
"""

from __future__ import annotations

import argparse
import sys
import time

from bench import harness, report
from bench.foreign import adopt_orphans
from bench.rows import groups


def main() -> int:
    """Measure, print. Returns the exit status."""
    known = groups()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=[group.name for group in known], help="this group of rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--foreign", type=float, default=0.25, help="cores that other programs may use meanwhile")
    arguments = parser.parse_args()
    adopt_orphans()
    plan = harness.Plan(arguments.rounds, arguments.seconds, arguments.foreign)
    begun = time.monotonic()
    rows: list[harness.Row] = []
    for group in known:
        if not arguments.only or group.name in arguments.only:
            rows += harness.run(group, plan, lambda line: print(line, file=sys.stderr, flush=True))
    print(report.table(rows))
    print(f"\n{time.monotonic() - begun:.0f} seconds")
    print(report.document(rows), flush=True)
    return 0 if rows and all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
