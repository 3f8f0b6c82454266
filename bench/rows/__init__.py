"""The rows of `make bench`: one module for each group of rows that are measured together.

To add one: a module with a subclass of bench.harness.Group, and its name in `groups()`.
"""

from __future__ import annotations

from bench.harness import Group


def groups() -> list[Group]:
    """All of them, in the order in which they are measured."""
    from bench.rows.accepts import Accepts
    from bench.rows.accepts_postgresql import AcceptsPostgresql
    from bench.rows.at_rest import AtRest
    from bench.rows.crowds import Crowds
    from bench.rows.durable import Durable
    from bench.rows.million import Million
    from bench.rows.one_at_a_time import OneAtATime
    from bench.rows.one_order import OneOrder
    from bench.rows.orders import FastCalls, SlowCalls
    from bench.rows.polls import Polls

    return [
        Accepts(),
        AcceptsPostgresql(),
        Durable(),
        OneAtATime(),
        Polls(),
        SlowCalls(),
        FastCalls(),
        OneOrder(),
        Crowds(),
        AtRest(),
        Million(),
    ]
