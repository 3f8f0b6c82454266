"""The columns under the field's words: jobs, heartbeats, worker ids, attempts, what is in doubt and until when."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = {
    "fulfillments": {
        "ticket": "job_id",
        "ticketed_at": "enqueued_at",
        "vouched": "history_complete",
        "second_chance": "duplicate_possible",
        "adds": "add_attempts",
        "add_until": "add_in_doubt_until",
        "accepts": "accept_attempts",
        "accept_until": "accept_in_doubt_until",
        "told": "salesforce_status",
    },
    "workers": {"incarnation": "worker_id", "beat": "heartbeats"},
}
INDEXES = {"ix_fulfillments_ticketed": ("ix_fulfillments_enqueued", "fulfillments", ["state", "enqueued_at"])}
#: Table, column, what it held, what it holds now.
VALUES = (
    ("outbox", "kind", "assertion", "resync"),
    ("workers", "kind", "deliver", "relay"),
    ("installation", "key", "marks_readable", "references_readable"),
    ("installation", "key", "marks_in_field_readable", "references_in_field_readable"),
    ("installation", "key", "orders_learnt", "orders_synced"),
)


def upgrade() -> None:
    for table, names in COLUMNS.items():
        for old, new in names.items():
            op.execute(sa.text(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}"))
    for old, (new, table, columns) in INDEXES.items():
        op.drop_index(old, table_name=table)
        op.create_index(new, table, columns, unique=False)
    for table, column, old, new in VALUES:
        op.execute(sa.text(f"UPDATE {table} SET {column} = '{new}' WHERE {column} = '{old}'"))
    _rename_in_plans("markedInField", "referenceInField")


def downgrade() -> None:
    _rename_in_plans("referenceInField", "markedInField")
    for table, column, old, new in VALUES:
        op.execute(sa.text(f"UPDATE {table} SET {column} = '{old}' WHERE {column} = '{new}'"))
    for new, table, _ in INDEXES.values():
        op.drop_index(new, table_name=table)
    for table, names in COLUMNS.items():
        for old, new in names.items():
            op.execute(sa.text(f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}"))
    op.create_index("ix_fulfillments_ticketed", "fulfillments", ["state", "ticketed_at"], unique=False)


def _rename_in_plans(old: str, new: str) -> None:
    """What a fulfillment is to make is kept as JSON."""
    plan, back = ("plan::text", "::json") if op.get_bind().dialect.name == "postgresql" else ("plan", "")
    renamed = f"replace({plan}, '\"{old}\"', '\"{new}\"'){back}"
    op.execute(
        sa.text(f"UPDATE fulfillments SET plan = {renamed} WHERE {plan} LIKE '%\"{old}\"%'".replace("::", r"\:\:"))
    )
