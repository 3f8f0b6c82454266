"""The ledger's tables. Moments are seconds since 1970 UTC; ids of both sides are text.

Migrations under portal/ledger/migrations make them; a test holds the two against each other.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Moment = sa.Double

# What the portal placed, or learnt of from Salesforce: one row per order a customer can see.
orders = sa.Table(
    "orders",
    metadata,
    sa.Column("reference", sa.String(40), primary_key=True),  # the portal's own; Portal_Reference__c in Salesforce
    sa.Column("sf_order_id", sa.String(18), unique=True),  # null until Salesforce has answered
    sa.Column("order_number", sa.String(40)),
    sa.Column("account_id", sa.String(18), nullable=False),
    sa.Column("email", sa.String(254)),  # whom the portal writes to about it
    sa.Column("checkout_key", sa.String(64), unique=True),  # the checkout form's: sent twice, placed once
    sa.Column("placing", sa.String(10), nullable=False),  # placing | placed | refused
    sa.Column("place_due_at", Moment),  # when to try (again) to create it in Salesforce; null once settled
    sa.Column("place_tries", sa.Integer, nullable=False, default=0),
    sa.Column("status", sa.String(20), nullable=False),  # CustomerStatus
    sa.Column("sf_status", sa.String(80)),  # Order.Status as last seen: Pending Review, Activated, Rejected …
    sa.Column("items", sa.JSON, nullable=False),
    sa.Column("currency", sa.String(3)),
    sa.Column("total", sa.String(30)),  # decimal text
    sa.Column("error_code", sa.String(40)),
    sa.Column("withdrawal_asked_at", Moment),  # its customer withdrew from the contract after it had been set up
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
)
sa.Index("ix_orders_account", orders.c.account_id, orders.c.created_at, orders.c.reference)
sa.Index("ix_orders_account_status", orders.c.account_id, orders.c.status, orders.c.created_at)
sa.Index("ix_orders_place_due_at", orders.c.place_due_at)
sa.Index("ix_orders_status_updated", orders.c.status, orders.c.updated_at)
sa.Index("ix_orders_email", orders.c.email, orders.c.created_at)
sa.Index("ix_orders_order_number", orders.c.order_number)
# What Salesforce doesn't have, yet or for good. In words: a value bound later is no part of an index.
NOT_PLACED: Final = sa.text("\"placing\" <> 'placed'")
sa.Index(
    "ix_orders_not_placed",
    orders.c.placing,
    orders.c.created_at,
    orders.c.reference,
    sqlite_where=NOT_PLACED,
    postgresql_where=NOT_PLACED,
)

# The domains and hostnames of orders' items, in lower case: finds an order by one.
order_domains = sa.Table(
    "order_domains",
    metadata,
    sa.Column("domain", sa.String(255), primary_key=True),
    sa.Column("reference", sa.String(40), primary_key=True),
)
sa.Index("ix_order_domains_reference", order_domains.c.reference)

# One row per Salesforce order that was ever asked to be fulfilled.
fulfillments = sa.Table(
    "fulfillments",
    metadata,
    sa.Column("sf_order_id", sa.String(18), primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),  # State
    sa.Column("attempt", sa.Integer, nullable=False),  # one per click (Idempotency-Key) on a finished one
    sa.Column("tries", sa.Integer, nullable=False),  # transient failures of this attempt so far
    sa.Column("first_failed_at", Moment),  # the first of them: bounds the retries by the schedule's whole length
    sa.Column("due_at", Moment, nullable=False),  # not to be run before
    sa.Column("waiting_for", sa.String(255)),  # in plain words, while it waits
    sa.Column("waiting_code", sa.String(40)),  # ErrorCode of what it waits for, where that is another side's trouble
    sa.Column("owner", sa.String(64)),  # workers.worker_id
    sa.Column("fence", sa.Integer, nullable=False),  # every write of a run is conditional on it
    sa.Column("job_id", sa.String(80)),  # the RQ job last sent for it
    sa.Column("enqueued_at", Moment),
    # What the exactly-once protocol remembers (portal.domain.protocol.Facts).
    sa.Column("elected_whmcs_id", sa.String(32)),  # written once; only a person changes it
    sa.Column("adopt_whmcs_id", sa.String(32)),  # WHMCS_Order_ID__c as Salesforce had it before the first AddOrder
    sa.Column("answered_whmcs_id", sa.String(32)),  # AddOrder's last answer, until one is elected
    sa.Column("history_complete", sa.Boolean, nullable=False),  # this ledger knows of every attempt there ever was
    sa.Column("duplicate_possible", sa.Boolean, nullable=False),  # an AddOrder more than the elected may exist
    sa.Column("add_attempts", sa.Integer, nullable=False),  # AddOrder intents
    sa.Column("add_open", sa.Boolean, nullable=False),  # the last of them has no definite outcome
    sa.Column("add_in_doubt_until", Moment),  # until then an AddOrder sent earlier may still commit
    sa.Column("accept_attempts", sa.Integer, nullable=False),
    sa.Column("accept_open", sa.Boolean, nullable=False),
    sa.Column("accept_in_doubt_until", Moment),
    sa.Column("active", sa.Boolean, nullable=False),  # the elected order was seen Active
    sa.Column("confirmed", sa.Boolean, nullable=False, server_default=sa.false()),  # a person named it, as it is
    sa.Column("hints", sa.Integer, nullable=False, server_default="0"),  # told meanwhile that something changed
    sa.Column("audit_due_at", Moment),
    sa.Column("audits", sa.Integer, nullable=False),
    # What is to be made, frozen at the first AddOrder intent, and what came of it.
    sa.Column("plan", sa.JSON),
    sa.Column("client_id", sa.String(32)),
    sa.Column("service_ids", sa.JSON, nullable=False),
    sa.Column("error_code", sa.String(40)),
    sa.Column("error_message", sa.String(255)),
    sa.Column("salesforce_status", sa.String(20)),  # the status Salesforce last took from us, since the last click
    sa.Column("salesforce_written_at", Moment),  # the latest Last_Provisioning_At__c that we may have written
    sa.Column("requested_at", Moment, nullable=False),  # the signed timestamp of the click
    sa.Column("requested_by", sa.String(120)),
    sa.Column("origin", sa.JSON),  # of the present attempt: requestId and idempotencyKey of its click, traceparent
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    sa.Column("finished_at", Moment),
    sa.Column("handled_at", Moment),  # a person has seen to it: it waits for nobody's decision, and stays as it is
)
sa.Index("ix_fulfillments_state_due", fulfillments.c.state, fulfillments.c.due_at)
sa.Index("ix_fulfillments_state_requested", fulfillments.c.state, fulfillments.c.requested_at)
sa.Index("ix_fulfillments_owner", fulfillments.c.owner)
sa.Index("ix_fulfillments_audit_due_at", fulfillments.c.audit_due_at)
sa.Index("ix_fulfillments_client_state", fulfillments.c.client_id, fulfillments.c.state)
sa.Index("ix_fulfillments_enqueued", fulfillments.c.state, fulfillments.c.enqueued_at)
sa.Index("uq_fulfillments_elected", fulfillments.c.elected_whmcs_id, unique=True)  # nobody else's elected one
sa.Index("ix_fulfillments_waiting_code", fulfillments.c.waiting_code)
# The operators' lists, newest first; most orders never have an error.
sa.Index("ix_fulfillments_created", fulfillments.c.created_at, fulfillments.c.sf_order_id)
sa.Index(
    "ix_fulfillments_state_created",
    fulfillments.c.state,
    fulfillments.c.created_at,
    fulfillments.c.sf_order_id,
    fulfillments.c.handled_at,  # a state's list is without handled ones, and counted from here alone
)
sa.Index(
    "ix_fulfillments_error_created",
    fulfillments.c.error_code,
    fulfillments.c.created_at,
    fulfillments.c.sf_order_id,
    sqlite_where=fulfillments.c.error_code.is_not(None),
    postgresql_where=fulfillments.c.error_code.is_not(None),
)
sa.Index("ix_fulfillments_client_created", fulfillments.c.client_id, fulfillments.c.created_at)
sa.Index(
    "ix_fulfillments_handled",
    fulfillments.c.created_at,
    fulfillments.c.sf_order_id,
    fulfillments.c.state,
    sqlite_where=fulfillments.c.handled_at.is_not(None),
    postgresql_where=fulfillments.c.handled_at.is_not(None),
)

# The WHMCS services an order became: finds the order an event about a service belongs to.
services = sa.Table(
    "services",
    metadata,
    sa.Column("service_id", sa.String(32), primary_key=True),
    sa.Column("sf_order_id", sa.String(18), nullable=False),
    sa.Column("status", sa.String(20)),  # in WHMCS, as last looked up after an event; null before
    sa.Column("seen_at", Moment),
)
sa.Index("ix_services_order", services.c.sf_order_id)

# Each step of each attempt: its intent before, its outcome after.
steps = sa.Table(
    "steps",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("sf_order_id", sa.String(18), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("name", sa.String(30), nullable=False),  # Step
    sa.Column("state", sa.String(10), nullable=False),  # StepState
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("ended_at", Moment),
    sa.Column("detail", sa.JSON),  # redacted
)
sa.Index("ix_steps_order", steps.c.sf_order_id, steps.c.attempt, steps.c.id)

# Worker processes that may own fulfillments.
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("worker_id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(20), nullable=False),  # fulfill | relay | sweep
    sa.Column("host", sa.String(120), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False, server_default="1"),  # how many orders it runs at once
    sa.Column("heartbeats", sa.Integer, nullable=False),
    sa.Column("dead", sa.Boolean, nullable=False),
    sa.Column("beaten_at", Moment),  # by its own clock: for people and /health, never for takeovers
    sa.Column("started_at", Moment, nullable=False),
)
sa.Index("ix_workers_dead", workers.c.dead, workers.c.kind)

# One row per accepted signed delivery: its nonce, unique for good.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("nonce", sa.String(160), primary_key=True),  # receiver-prefixed digest: "sf:…" or "whmcs:…"
    sa.Column("sf_order_id", sa.String(18)),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("requested_by", sa.String(120)),  # who clicked, as Salesforce says
    sa.Column("received_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
)
sa.Index("ix_deliveries_expires_at", deliveries.c.expires_at)
sa.Index("ix_deliveries_order", deliveries.c.sf_order_id)

# One row per Idempotency-Key: the order it belongs to, and the final answer once there is one.
idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("sf_order_id", sa.String(18), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),  # the fulfillment's attempt that this key asked for
    sa.Column("answer_status", sa.Integer),
    sa.Column("answer_body", sa.JSON),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
)
sa.Index("ix_idempotency_keys_expires_at", idempotency_keys.c.expires_at)
sa.Index("ix_idempotency_keys_order", idempotency_keys.c.sf_order_id)

# What is to be told to somebody, written with the fact it tells: write-backs to Salesforce, mails, alerts.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String(20), nullable=False),  # salesforce | mail | sign_in | alert
    sa.Column("subject", sa.String(80), nullable=False),  # sf_order_id or reference; order doesn't matter
    sa.Column("once", sa.String(160), unique=True),  # a second row of the same `once` isn't written
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # pending | sent | dead
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due_at", Moment, nullable=False),
    sa.Column("claimed_by", sa.String(64)),
    sa.Column("claimed_until", Moment),
    sa.Column("error", sa.String(255)),
    sa.Column("error_code", sa.String(80)),  # the other side's own, of the last refusal
    sa.Column("refused_at", Moment),  # since when it has been refused, until it is taken or given up
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("sent_at", Moment),
)
sa.Index("ix_outbox_due", outbox.c.kind, outbox.c.state, outbox.c.due_at)
sa.Index("ix_outbox_claimed_by", outbox.c.claimed_by)
sa.Index(
    "ix_outbox_refused",
    outbox.c.kind,
    outbox.c.refused_at,
    sqlite_where=outbox.c.refused_at.is_not(None),
    postgresql_where=outbox.c.refused_at.is_not(None),
)
sa.Index("ix_outbox_subject", outbox.c.kind, outbox.c.subject, outbox.c.state, outbox.c.id)

# Clients of WHMCS that were said to have a payment method now: heard even while an order is being run.
payment_hints = sa.Table(
    "payment_hints",
    metadata,
    sa.Column("client_id", sa.String(32), primary_key=True),
    sa.Column("heard_at", Moment, nullable=False),
    sa.Column("asked_at", Moment),  # when WHMCS was last asked because of it
)
sa.Index("ix_payment_hints_heard_at", payment_hints.c.heard_at)

# Security and operators' actions; append-only.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("subject", sa.String(80)),
    sa.Column("actor", sa.String(120)),
    sa.Column("detail", sa.JSON),
)
sa.Index("ix_events_subject", events.c.subject, events.c.id)
sa.Index("ix_events_kind", events.c.kind, events.c.at)

# Which Salesforce org and WHMCS this ledger belongs to, and switches that outlive processes.
installation = sa.Table(
    "installation",
    metadata,
    sa.Column("key", sa.String(60), primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
)

# The last known state of each other side: the circuit breaker, and what /health reports.
upstreams = sa.Table(
    "upstreams",
    metadata,
    sa.Column("name", sa.String(20), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    sa.Column("opened_at", Moment),  # null: closed
    sa.Column("probe_at", Moment),  # when open: the next call that may try
    sa.Column("last_ok_at", Moment),
    sa.Column("last_error_at", Moment),
    sa.Column("last_error", sa.String(255)),
)

# Counters for what metrics would otherwise have to scan.
counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("label", sa.String(80), primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),  # of several rows: fewer wait for one
    sa.Column("value", sa.Double, nullable=False),
)

# Signed-in customers and the sign-in links already used.
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # digest of the cookie's secret
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("contact_id", sa.String(18)),
    sa.Column("account_id", sa.String(18), nullable=False),
    sa.Column("order_reference", sa.String(40)),  # set: this session sees that one order only
    sa.Column("client_id", sa.String(32)),  # the account's in WHMCS, where Salesforce knew it
    sa.Column("currency", sa.String(3)),  # the account's, where Salesforce has several
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
)
sa.Index("ix_sessions_email", sessions.c.email)
sa.Index("ix_sessions_expires_at", sessions.c.expires_at)
sa.Index("ix_sessions_account_id", sessions.c.account_id)

used_links = sa.Table(
    "used_links",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # digest of the link's token
    sa.Column("used_at", Moment, nullable=False),
    sa.Column("browser", sa.String(64)),  # digest of what its form cookie holds: whose button it was
    sa.Column("expires_at", Moment, nullable=False),
)
sa.Index("ix_used_links_expires_at", used_links.c.expires_at)

# What an account's customers are spoken to in: a locale's name, such as "de" or "en_US".
account_languages = sa.Table(
    "account_languages",
    metadata,
    sa.Column("account_id", sa.String(18), primary_key=True),
    sa.Column("language", sa.String(16), nullable=False),
    sa.Column("chosen", sa.Boolean, nullable=False),  # by a customer; else the one of the last order's browser
    sa.Column("updated_at", Moment, nullable=False),
)

# Signed-in operators; apart from customers' sessions, so that neither can ever be taken for the other.
operator_sessions = sa.Table(
    "operator_sessions",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # digest of the cookie's secret
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
)
sa.Index("ix_operator_sessions_expires_at", operator_sessions.c.expires_at)

# One act of an operator on many orders: frozen first, then begun, then carried out a few orders at a time.
bulk_acts = sa.Table(
    "bulk_acts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("act", sa.String(30), nullable=False),
    sa.Column("filter", sa.JSON, nullable=False),
    sa.Column("actor", sa.String(120), nullable=False),
    sa.Column("why", sa.String(255), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # frozen | running | cancelled | done
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("refused", sa.Integer, nullable=False),  # of those done: meanwhile not to be acted on any more
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
)
sa.Index("ix_bulk_acts_state", bulk_acts.c.state, bulk_acts.c.id)

# The orders of such an act, exactly those its filter counted.
bulk_orders = sa.Table(
    "bulk_orders",
    metadata,
    sa.Column("bulk_id", sa.Integer, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("sf_order_id", sa.String(18), nullable=False),
    sa.Column("outcome", sa.String(255)),  # null until its turn came
)
