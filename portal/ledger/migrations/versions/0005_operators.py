"""What the operators' pages need: their sessions, indexes to find orders by, who clicked, acts on many orders."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_orders_email", "orders", ["email", "created_at"]),
    ("ix_orders_order_number", "orders", ["order_number"]),
    ("ix_fulfillments_created", "fulfillments", ["created_at", "sf_order_id"]),
    ("ix_fulfillments_state_created", "fulfillments", ["state", "created_at", "sf_order_id"]),
    ("ix_fulfillments_client_created", "fulfillments", ["client_id", "created_at"]),
)
BATCH = 1000


def upgrade() -> None:
    op.create_table(
        "order_domains",
        sa.Column("domain", sa.String(length=255), nullable=False),
        sa.Column("reference", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("domain", "reference", name=op.f("pk_order_domains")),
    )
    op.create_index("ix_order_domains_reference", "order_domains", ["reference"], unique=False)
    op.create_table(
        "operator_sessions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator_sessions")),
    )
    op.create_index("ix_operator_sessions_expires_at", "operator_sessions", ["expires_at"], unique=False)
    op.create_table(
        "bulk_acts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("act", sa.String(length=30), nullable=False),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("why", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bulk_acts")),
    )
    op.create_index("ix_bulk_acts_state", "bulk_acts", ["state", "id"], unique=False)
    op.create_table(
        "bulk_orders",
        sa.Column("bulk_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("sf_order_id", sa.String(length=18), nullable=False),
        sa.Column("outcome", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("bulk_id", "position", name=op.f("pk_bulk_orders")),
    )
    op.add_column("fulfillments", sa.Column("handled_at", sa.Double(), nullable=True))
    op.add_column("deliveries", sa.Column("requested_by", sa.String(length=120), nullable=True))
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns, unique=False)
    some = sa.text("error_code IS NOT NULL")
    op.create_index(
        "ix_fulfillments_error_created",
        "fulfillments",
        ["error_code", "created_at", "sf_order_id"],
        unique=False,
        sqlite_where=some,
        postgresql_where=some,
    )
    _index_domains()


def downgrade() -> None:
    op.drop_index("ix_fulfillments_error_created", table_name="fulfillments")
    for name, table, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
    op.drop_column("deliveries", "requested_by")
    op.drop_column("fulfillments", "handled_at")
    op.drop_table("bulk_orders")
    op.drop_index("ix_bulk_acts_state", table_name="bulk_acts")
    op.drop_table("bulk_acts")
    op.drop_index("ix_operator_sessions_expires_at", table_name="operator_sessions")
    op.drop_table("operator_sessions")
    op.drop_index("ix_order_domains_reference", table_name="order_domains")
    op.drop_table("order_domains")


def _index_domains() -> None:
    """The domains of the orders there are, a few orders at a time."""
    connection = op.get_bind()
    domains = sa.table("order_domains", sa.column("domain"), sa.column("reference"))
    last = ""
    while True:
        rows = connection.execute(
            sa.text("SELECT reference, items FROM orders WHERE reference > :last ORDER BY reference LIMIT :some"),
            {"last": last, "some": BATCH},
        ).all()
        if not rows:
            return
        pairs = {(name, reference) for reference, items in rows for name in _names(items)}
        if pairs:
            op.bulk_insert(domains, [{"domain": name, "reference": reference} for name, reference in sorted(pairs)])
        last = rows[-1][0]


def _names(items: Any) -> set[str]:
    rows = json.loads(items) if isinstance(items, str) else items or []
    return {(row.get("domain") or row.get("hostname") or "").lower()[:255] for row in rows} - {""}
