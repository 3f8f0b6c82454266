"""`python -m bench.peers.bare`: RQ's own SimpleWorker over a queue of its own, making an order's calls.

The queue's Redis is named in BENCH_REDIS_URL; who ends an order says so on the list DONE.
"""

from __future__ import annotations

import os

from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from bench.peers import calls

DONE = "bench:done"


def connect() -> Redis:
    """The peer's Redis."""
    return Redis.from_url(os.environ["BENCH_REDIS_URL"])


def queue(redis: Redis) -> Queue:
    """The peer's queue."""
    return Queue("bare", connection=redis, serializer=JSONSerializer)


def fulfill(order: str) -> None:
    """The job."""
    calls.provision(order)
    connect_once().rpush(DONE, order)


_connection: list[Redis] = []


def connect_once() -> Redis:
    """One connection for all jobs of this process."""
    if not _connection:
        _connection.append(connect())
    return _connection[0]


def main() -> None:
    """A worker, until it is told to stop."""
    redis = connect()
    worker = SimpleWorker([queue(redis)], connection=redis, serializer=JSONSerializer)
    worker.log_job_description = False
    worker.work(logging_level="WARNING")


if __name__ == "__main__":
    main()
