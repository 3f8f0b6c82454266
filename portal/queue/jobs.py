"""The queue: RQ jobs that say no more than which order may be run now. The ledger decides whether it is.

A job's id is fresh each time: reusing one blocks recovery while a dead run's hash says started. Losing a job
loses nothing (the sweep sends another), and a second one does nothing (the claim in the ledger fails).
"""

from __future__ import annotations

import uuid
import zlib
from functools import cached_property
from typing import Any

from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now as utcnow
from rq.utils import utcformat

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
        return self.send_many([sf_order_id], front=front)[0]

    def send_many(self, sf_order_ids: list[str], *, front: bool = False) -> list[str]:
        """Put a job for each of these orders on the queue, in one round trip; returns their ids.

        Raises redis.RedisError: then none was sent, or all were.
        """
        jobs = [f"{sf_order_id}-{uuid.uuid4().hex}" for sf_order_id in sf_order_ids]
        now = utcformat(utcnow())
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.sadd(Queue.redis_queues_keys, self._queue.key)
        for job, sf_order_id in zip(jobs, sf_order_ids, strict=True):
            own: dict[Any, Any] = {"created_at": now, "enqueued_at": now, "data": _data(sf_order_id)}
            pipeline.hset(Job.key_for(job), mapping=self._fields | own)
        push = pipeline.lpush if front else pipeline.rpush
        push(self._queue.key, *jobs)
        pipeline.execute()
        return jobs

    @cached_property
    def _fields(self) -> dict[Any, Any]:
        """What RQ keeps of each job of ours: made by RQ once, because that takes longer than all the rest."""
        job = self._queue.create_job(
            JOB,
            args=("",),
            result_ttl=0,
            failure_ttl=3600,
            timeout=-1,
            description="fulfill an order",
            status=JobStatus.QUEUED,
        )
        job.origin = self._queue.name
        fields: dict[Any, Any] = job.to_dict()
        return fields

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


def _data(sf_order_id: str) -> bytes:
    """What a job calls and with what, as RQ keeps it: function, instance, arguments."""
    kept: bytes = JSONSerializer.dumps((JOB, None, (sf_order_id,), {}))  # type: ignore[no-untyped-call]
    return zlib.compress(kept)
