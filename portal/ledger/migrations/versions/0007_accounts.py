"""Sessions are found by their account, which may be exported or forgotten."""

from alembic import op

revision = "0007"
down_revision = "0006"
compatible_from = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_sessions_account_id", table_name="sessions")
