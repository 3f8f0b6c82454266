"""What a ledger must remember to be true in the end: what Salesforce may show of us, hints heard during runs, whose
elected order is whose (unique), and why a message was refused."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = {
    "fulfillments": (
        sa.Column("waiting_code", sa.String(length=40), nullable=True),
        sa.Column("confirmed", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("hints", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("salesforce_written_at", sa.Double(), nullable=True),
    ),
    "workers": (sa.Column("beaten_at", sa.Double(), nullable=True),),
    "outbox": (sa.Column("error_code", sa.String(length=80), nullable=True),),
}
TAKEN = (
    "This WHMCS order is another Salesforce order's in the ledger, too: clear WHMCS_Order_ID__c and provision again, "
    "or adopt the order that belongs here"
)


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    op.create_index("ix_fulfillments_waiting_code", "fulfillments", ["waiting_code"], unique=False)
    op.create_table(
        "payment_hints",
        sa.Column("client_id", sa.String(length=32), nullable=False),
        sa.Column("heard_at", sa.Double(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_payment_hints")),
    )
    op.create_index("ix_payment_hints_heard_at", "payment_hints", ["heard_at"], unique=False)
    # Whatever Salesforce shows of an order that this ledger ran, this ledger may have written.
    op.execute(sa.text("UPDATE fulfillments SET salesforce_written_at = updated_at"))
    # A write-back tells how the order stands when it is sent: what was remembered of it isn't needed any more.
    op.execute(sa.text("UPDATE outbox SET kind = 'salesforce' WHERE kind = 'resync'"))
    op.execute(sa.text("UPDATE outbox SET state = 'pending', tries = 0 WHERE kind = 'salesforce' AND state = 'dead'"))
    _make_elected_unique()


def downgrade() -> None:
    op.drop_index("uq_fulfillments_elected", table_name="fulfillments")
    op.create_index("ix_fulfillments_elected", "fulfillments", ["elected_whmcs_id"], unique=False)
    op.drop_index("ix_payment_hints_heard_at", table_name="payment_hints")
    op.drop_table("payment_hints")
    op.drop_index("ix_fulfillments_waiting_code", table_name="fulfillments")
    for table, columns in COLUMNS.items():
        for column in columns:
            op.drop_column(table, column.name)


def _make_elected_unique() -> None:
    """ "012" is "12", and a WHMCS order belongs to one Salesforce order: the first; another's needs a decision."""
    connection = op.get_bind()
    op.drop_index("ix_fulfillments_elected", table_name="fulfillments")
    rows = connection.execute(
        sa.text(
            "SELECT sf_order_id, elected_whmcs_id FROM fulfillments WHERE elected_whmcs_id IS NOT NULL "
            "ORDER BY created_at, sf_order_id"
        )
    ).all()
    taken: set[str] = set()
    for sf_order_id, elected in rows:
        number = elected.lstrip("0") or elected
        if number in taken:
            connection.execute(
                sa.text(
                    "UPDATE fulfillments SET elected_whmcs_id = NULL, state = 'needs_decision', owner = NULL, "
                    "fence = fence + 1, error_code = 'OUTCOME_UNCERTAIN', error_message = :why WHERE sf_order_id = :id"
                ),
                {"id": sf_order_id, "why": TAKEN},
            )
        elif number != elected:
            connection.execute(
                sa.text("UPDATE fulfillments SET elected_whmcs_id = :number WHERE sf_order_id = :id"),
                {"id": sf_order_id, "number": number},
            )
        taken.add(number)
    op.create_index("uq_fulfillments_elected", "fulfillments", ["elected_whmcs_id"], unique=True)
