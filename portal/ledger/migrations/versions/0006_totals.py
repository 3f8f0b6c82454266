"""What metrics and alerts read without scanning: counters in several rows each, how many orders are in each state, how
many messages are unsent, since when one is refused, and the oldest of a state. And which click an attempt came of: its
lines in the logs and its traces are found by that."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("fulfillments", sa.Column("origin", sa.JSON(), nullable=True))
    op.add_column("outbox", sa.Column("refused_at", sa.Double(), nullable=True))
    there = sa.text("refused_at IS NOT NULL")
    op.create_index("ix_outbox_refused", "outbox", ["kind", "refused_at"], sqlite_where=there, postgresql_where=there)
    op.create_index("ix_fulfillments_state_requested", "fulfillments", ["state", "requested_at"])
    _counters("counters_by_shard", shard=True)
    op.execute(sa.text("INSERT INTO counters_by_shard SELECT name, label, 0, value FROM counters"))
    for name, label, table, where in (
        ("portal_fulfillments", "state", "fulfillments", ""),
        ("portal_messages_unsent", "kind", "outbox", "WHERE state = 'pending'"),
    ):
        op.execute(
            sa.text(
                f"INSERT INTO counters_by_shard SELECT '{name}', {label}, 0, count(*) FROM {table} {where} "
                f"GROUP BY {label}"
            )
        )
    op.drop_table("counters")
    op.rename_table("counters_by_shard", "counters")


def downgrade() -> None:
    _counters("counters_in_one", shard=False)
    op.execute(
        sa.text(
            "INSERT INTO counters_in_one SELECT name, label, sum(value) FROM counters "
            "WHERE name NOT LIKE 'portal%' GROUP BY name, label"
        )
    )
    op.drop_table("counters")
    op.rename_table("counters_in_one", "counters")
    op.drop_index("ix_fulfillments_state_requested", table_name="fulfillments")
    op.drop_index("ix_outbox_refused", table_name="outbox")
    op.drop_column("outbox", "refused_at")
    op.drop_column("fulfillments", "origin")


def _counters(table: str, *, shard: bool) -> None:
    """The table as it is to be; its primary key can't be changed in place on SQLite."""
    columns: list[sa.Column[Any]] = [
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("label", sa.String(length=80), nullable=False),
    ]
    if shard:
        columns.append(sa.Column("shard", sa.Integer(), nullable=False, autoincrement=False))
    keys = [column.name for column in columns]
    op.create_table(
        table,
        *columns,
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(*keys, name=f"pk_{table}"),
    )
