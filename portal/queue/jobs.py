"""The queue: RQ jobs that say no more than which order may be run now. The ledger decides whether it is.

A job's id is fresh each time: reusing one blocks recovery while a dead run's hash says started. Losing a job
loses nothing (the sweep sends another), and a second one does nothing (the claim in the ledger fails).
"""

from __future__ import annotations

import uuid

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

#: One queue per kind of worker: RQ loses a job for good when a worker of several queues dies between pop and start.
FULFILLMENTS = "fulfillments"

#: The job is named, not imported: the portal knows nothing of the processes that run it.
JOB = "jobs.fulfill.fulfill_order"

#: Where a worker says that an order's run ended.
FINISHED_CHANNEL = "portal:finished"


class JobQueue:
    """Sends jobs, and knows which are still queued."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue = Queue(FULFILLMENTS, connection=redis, serializer=JSONSerializer)

    def send(self, sf_order_id: str, *, front: bool = False) -> str:
        """Put a job for an order on the queue; returns its id. Raises redis.RedisError."""
        job = f"{sf_order_id}-{uuid.uuid4().hex}"
        self._queue.enqueue_call(
            JOB,
            args=(sf_order_id,),
            job_id=job,
            result_ttl=0,
            failure_ttl=3600,
            timeout=-1,
            description="fulfill an order",
            at_front=front,
        )
        return job

    def queued(self, limit: int = 1000) -> list[str]:
        """Ids of the jobs nobody has taken yet. Raises redis.RedisError."""
        return [
            each.decode() if isinstance(each, bytes) else str(each)
            for each in self._redis.lrange(self._queue.key, 0, limit - 1)
        ]

    def count(self) -> int:
        """How many jobs nobody has taken yet. Raises redis.RedisError."""
        return int(self._redis.llen(self._queue.key))

    def announce_finished(self, sf_order_id: str) -> None:
        """Wake whoever waits for this order. Raises redis.RedisError."""
        self._redis.publish(FINISHED_CHANNEL, sf_order_id)
