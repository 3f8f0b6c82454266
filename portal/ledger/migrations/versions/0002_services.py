"""Which order a WHMCS service belongs to, so that events about a service find it."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    services = op.create_table(
        "services",
        sa.Column("service_id", sa.String(length=32), nullable=False),
        sa.Column("sf_order_id", sa.String(length=18), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=True),
        sa.Column("seen_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("service_id", name=op.f("pk_services")),
    )
    op.create_index("ix_services_order", "services", ["sf_order_id"], unique=False)
    rows = op.get_bind().execute(sa.text("SELECT sf_order_id, service_ids FROM fulfillments")).all()
    known = {
        str(service_id): sf_order_id
        for sf_order_id, ids in rows
        for service_id in (json.loads(ids) if isinstance(ids, str) else ids) or ()
    }
    if known:
        op.bulk_insert(services, [{"service_id": key, "sf_order_id": value} for key, value in known.items()])


def downgrade() -> None:
    op.drop_index("ix_services_order", table_name="services")
    op.drop_table("services")
