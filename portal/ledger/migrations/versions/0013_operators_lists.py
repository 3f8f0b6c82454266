"""Orders that Salesforce doesn't have, yet or for good, are found among all the others that it has; a state's list is
counted from its index alone although handled orders aren't in it."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

#: Indexes are nothing to the version before.
compatible_from = "0011"

LIST = ["state", "created_at", "sf_order_id"]


def upgrade() -> None:
    some = sa.text("\"placing\" <> 'placed'")
    op.create_index(
        "ix_orders_not_placed",
        "orders",
        ["placing", "created_at", "reference"],
        sqlite_where=some,
        postgresql_where=some,
    )
    op.drop_index("ix_fulfillments_state_created", table_name="fulfillments")
    op.create_index("ix_fulfillments_state_created", "fulfillments", [*LIST, "handled_at"])


def downgrade() -> None:
    op.drop_index("ix_fulfillments_state_created", table_name="fulfillments")
    op.create_index("ix_fulfillments_state_created", "fulfillments", LIST)
    op.drop_index("ix_orders_not_placed", table_name="orders")
