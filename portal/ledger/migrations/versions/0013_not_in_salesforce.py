"""Orders that Salesforce doesn't have, yet or for good, are found among all the others that it has."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

#: An index more is nothing to the version before.
compatible_from = "0011"


def upgrade() -> None:
    some = sa.text("\"placing\" <> 'placed'")
    op.create_index(
        "ix_orders_not_placed",
        "orders",
        ["placing", "created_at", "reference"],
        sqlite_where=some,
        postgresql_where=some,
    )


def downgrade() -> None:
    op.drop_index("ix_orders_not_placed", table_name="orders")
