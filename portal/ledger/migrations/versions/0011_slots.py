"""A worker process has several slots, not one: how many jobs may be out depends on their number."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"
compatible_from = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("slots", sa.Integer(), nullable=False, server_default="1"))


def downgrade() -> None:
    op.drop_column("workers", "slots")
