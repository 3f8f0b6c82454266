"""What the shop remembers: currency and WHMCS client of whoever is signed in, whose button a sign-in link was,
and who withdrew from a contract."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
compatible_from = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("currency", sa.String(length=3), nullable=True))
    op.add_column("sessions", sa.Column("client_id", sa.String(length=32), nullable=True))
    op.add_column("used_links", sa.Column("browser", sa.String(length=64), nullable=True))
    op.add_column("orders", sa.Column("withdrawal_asked_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("orders", "withdrawal_asked_at")
    op.drop_column("used_links", "browser")
    op.drop_column("sessions", "client_id")
    op.drop_column("sessions", "currency")
