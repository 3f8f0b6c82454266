"""Orders that a person has marked as handled are counted and listed apart from those that wait for a decision."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

#: An index more is nothing to the version before.
compatible_from = "0011"


def upgrade() -> None:
    some = sa.text("handled_at IS NOT NULL")
    op.create_index(
        "ix_fulfillments_handled",
        "fulfillments",
        ["created_at", "sf_order_id", "state"],
        sqlite_where=some,
        postgresql_where=some,
    )


def downgrade() -> None:
    op.drop_index("ix_fulfillments_handled", table_name="fulfillments")
