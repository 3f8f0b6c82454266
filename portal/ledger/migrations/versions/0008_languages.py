"""The language each account's customers are spoken to in."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
compatible_from = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account_languages",
        sa.Column("account_id", sa.String(length=18), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("chosen", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_languages")),
    )


def downgrade() -> None:
    op.drop_table("account_languages")
