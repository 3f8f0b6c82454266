"""The ledger's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("label", sa.String(length=80), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", name=op.f("pk_counters")),
    )
    op.create_table(
        "deliveries",
        sa.Column("nonce", sa.String(length=160), nullable=False),
        sa.Column("sf_order_id", sa.String(length=18), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_expires_at", "deliveries", ["expires_at"], unique=False)
    op.create_index("ix_deliveries_order", "deliveries", ["sf_order_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=True),
        sa.Column("actor", sa.String(length=120), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_kind", "events", ["kind", "at"], unique=False)
    op.create_index("ix_events_subject", "events", ["subject", "id"], unique=False)
    op.create_table(
        "fulfillments",
        sa.Column("sf_order_id", sa.String(length=18), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", sa.Double(), nullable=True),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("waiting_for", sa.String(length=255), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("ticket", sa.String(length=80), nullable=True),
        sa.Column("ticketed_at", sa.Double(), nullable=True),
        sa.Column("elected_whmcs_id", sa.String(length=32), nullable=True),
        sa.Column("adopt_whmcs_id", sa.String(length=32), nullable=True),
        sa.Column("answered_whmcs_id", sa.String(length=32), nullable=True),
        sa.Column("vouched", sa.Boolean(), nullable=False),
        sa.Column("second_chance", sa.Boolean(), nullable=False),
        sa.Column("adds", sa.Integer(), nullable=False),
        sa.Column("add_open", sa.Boolean(), nullable=False),
        sa.Column("add_until", sa.Double(), nullable=True),
        sa.Column("accepts", sa.Integer(), nullable=False),
        sa.Column("accept_open", sa.Boolean(), nullable=False),
        sa.Column("accept_until", sa.Double(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("audit_due_at", sa.Double(), nullable=True),
        sa.Column("audits", sa.Integer(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=True),
        sa.Column("client_id", sa.String(length=32), nullable=True),
        sa.Column("service_ids", sa.JSON(), nullable=False),
        sa.Column("error_code", sa.String(length=40), nullable=True),
        sa.Column("error_message", sa.String(length=255), nullable=True),
        sa.Column("told", sa.String(length=20), nullable=True),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("requested_by", sa.String(length=120), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("sf_order_id", name=op.f("pk_fulfillments")),
    )
    op.create_index("ix_fulfillments_audit_due_at", "fulfillments", ["audit_due_at"], unique=False)
    op.create_index("ix_fulfillments_client_state", "fulfillments", ["client_id", "state"], unique=False)
    op.create_index("ix_fulfillments_elected", "fulfillments", ["elected_whmcs_id"], unique=False)
    op.create_index("ix_fulfillments_owner", "fulfillments", ["owner"], unique=False)
    op.create_index("ix_fulfillments_state_due", "fulfillments", ["state", "due_at"], unique=False)
    op.create_index("ix_fulfillments_ticketed", "fulfillments", ["state", "ticketed_at"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("sf_order_id", sa.String(length=18), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("answer_status", sa.Integer(), nullable=True),
        sa.Column("answer_body", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"], unique=False)
    op.create_index("ix_idempotency_keys_order", "idempotency_keys", ["sf_order_id"], unique=False)
    op.create_table(
        "installation",
        sa.Column("key", sa.String(length=60), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_installation")),
    )
    op.create_table(
        "orders",
        sa.Column("reference", sa.String(length=40), nullable=False),
        sa.Column("sf_order_id", sa.String(length=18), nullable=True),
        sa.Column("order_number", sa.String(length=40), nullable=True),
        sa.Column("account_id", sa.String(length=18), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("checkout_key", sa.String(length=64), nullable=True),
        sa.Column("placing", sa.String(length=10), nullable=False),
        sa.Column("place_due_at", sa.Double(), nullable=True),
        sa.Column("place_tries", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("sf_status", sa.String(length=80), nullable=True),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("total", sa.String(length=30), nullable=True),
        sa.Column("error_code", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_orders")),
        sa.UniqueConstraint("checkout_key", name=op.f("uq_orders_checkout_key")),
        sa.UniqueConstraint("sf_order_id", name=op.f("uq_orders_sf_order_id")),
    )
    op.create_index("ix_orders_account", "orders", ["account_id", "created_at", "reference"], unique=False)
    op.create_index("ix_orders_account_status", "orders", ["account_id", "status", "created_at"], unique=False)
    op.create_index("ix_orders_place_due_at", "orders", ["place_due_at"], unique=False)
    op.create_index("ix_orders_status_updated", "orders", ["status", "updated_at"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("once", sa.String(length=160), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("claimed_by", sa.String(length=64), nullable=True),
        sa.Column("claimed_until", sa.Double(), nullable=True),
        sa.Column("error", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("once", name=op.f("uq_outbox_once")),
    )
    op.create_index("ix_outbox_claimed_by", "outbox", ["claimed_by"], unique=False)
    op.create_index("ix_outbox_due", "outbox", ["kind", "state", "due_at"], unique=False)
    op.create_index("ix_outbox_subject", "outbox", ["kind", "subject", "state", "id"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("contact_id", sa.String(length=18), nullable=True),
        sa.Column("account_id", sa.String(length=18), nullable=False),
        sa.Column("order_reference", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_email", "sessions", ["email"], unique=False)
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"], unique=False)
    op.create_table(
        "steps",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("sf_order_id", sa.String(length=18), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=30), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_steps")),
    )
    op.create_index("ix_steps_order", "steps", ["sf_order_id", "attempt", "id"], unique=False)
    op.create_table(
        "upstreams",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=True),
        sa.Column("probe_at", sa.Double(), nullable=True),
        sa.Column("last_ok_at", sa.Double(), nullable=True),
        sa.Column("last_error_at", sa.Double(), nullable=True),
        sa.Column("last_error", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_upstreams")),
    )
    op.create_table(
        "used_links",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_used_links")),
    )
    op.create_index("ix_used_links_expires_at", "used_links", ["expires_at"], unique=False)
    op.create_table(
        "workers",
        sa.Column("incarnation", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("host", sa.String(length=120), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
        sa.Column("dead", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("incarnation", name=op.f("pk_workers")),
    )
    op.create_index("ix_workers_dead", "workers", ["dead", "kind"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_workers_dead", table_name="workers")
    op.drop_table("workers")
    op.drop_index("ix_used_links_expires_at", table_name="used_links")
    op.drop_table("used_links")
    op.drop_table("upstreams")
    op.drop_index("ix_steps_order", table_name="steps")
    op.drop_table("steps")
    op.drop_index("ix_sessions_expires_at", table_name="sessions")
    op.drop_index("ix_sessions_email", table_name="sessions")
    op.drop_table("sessions")
    op.drop_index("ix_outbox_subject", table_name="outbox")
    op.drop_index("ix_outbox_due", table_name="outbox")
    op.drop_index("ix_outbox_claimed_by", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("ix_orders_status_updated", table_name="orders")
    op.drop_index("ix_orders_place_due_at", table_name="orders")
    op.drop_index("ix_orders_account_status", table_name="orders")
    op.drop_index("ix_orders_account", table_name="orders")
    op.drop_table("orders")
    op.drop_table("installation")
    op.drop_index("ix_idempotency_keys_order", table_name="idempotency_keys")
    op.drop_index("ix_idempotency_keys_expires_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_fulfillments_ticketed", table_name="fulfillments")
    op.drop_index("ix_fulfillments_state_due", table_name="fulfillments")
    op.drop_index("ix_fulfillments_owner", table_name="fulfillments")
    op.drop_index("ix_fulfillments_elected", table_name="fulfillments")
    op.drop_index("ix_fulfillments_client_state", table_name="fulfillments")
    op.drop_index("ix_fulfillments_audit_due_at", table_name="fulfillments")
    op.drop_table("fulfillments")
    op.drop_index("ix_events_subject", table_name="events")
    op.drop_index("ix_events_kind", table_name="events")
    op.drop_table("events")
    op.drop_index("ix_deliveries_order", table_name="deliveries")
    op.drop_index("ix_deliveries_expires_at", table_name="deliveries")
    op.drop_table("deliveries")
    op.drop_table("counters")
