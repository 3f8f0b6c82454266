"""The obvious way to take a delivery: check the signature, insert one row, commit, enqueue the job, answer 202.

Flask, SQLAlchemy and RQ as their tutorials show them, one table, and the same durability: SQLite in WAL mode with
synchronous=FULL, or PostgreSQL's defaults. No limits, no nonce in Redis, no resync, no fences.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time

import sqlalchemy as sa
from flask import Flask, Response, abort, request
from redis import Redis
from rq import Queue
from sqlalchemy import event

app = Flask(__name__)
secret = os.environ["SECRET"].encode()
engine = sa.create_engine(os.environ["DATABASE_URL"], pool_size=16)
queue = Queue("orders", connection=Redis.from_url(os.environ["REDIS_URL"]))
metadata = sa.MetaData()
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("nonce", sa.Text, nullable=False, unique=True),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
)

if engine.dialect.name == "sqlite":

    @event.listens_for(engine, "connect")
    def _durable(connection: object, _record: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]


@app.get("/")
def up() -> str:
    """For whoever waits for the start."""
    return "up"


@app.post("/orders/<order_id>/fulfill")
def fulfill(order_id: str) -> tuple[Response, int]:
    """Take one delivery."""
    body = request.get_data()
    right = hmac.new(secret, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(right, request.headers.get("X-SF-Signature", "")):
        abort(401)
    told = request.get_json()
    if told["orderId"] != order_id:
        abort(400)
    row = {
        "key": request.headers["Idempotency-Key"],
        "nonce": told["nonce"],
        "order_id": order_id,
        "received_at": time.time(),
    }
    try:
        with engine.begin() as connection:
            connection.execute(sa.insert(deliveries), row)
    except sa.exc.IntegrityError:
        abort(409)
    queue.enqueue("jobs.fulfill.fulfill_order", order_id)
    return Response('{"status":"Activating"}', content_type="application/json"), 202


metadata.create_all(engine)
engine.dispose()  # gunicorn forks: no connection may go along
served = app.wsgi_app
