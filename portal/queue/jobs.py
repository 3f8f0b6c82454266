"""The queue: RQ jobs that say no more than which order may be run now. The ledger decides whether it is.

A job's id is fresh each time: reusing one blocks recovery while a dead run's hash says started. Losing a job
loses nothing (the sweep sends another), and a second one does nothing (the claim in the ledger fails).
"""

from __future__ import annotations

import uuid
import zlib
from functools import cached_property
from typing import Any, Final

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


#: What RQ itself writes, for many jobs. KEYS: the set of all queues, the queue, then each job's hash. ARGV: how
#: to push; how many names and values all jobs have in common, and these; then of each job its id and its `data`.
_SCRIPT: Final = """
local shared, first = {}, 3 + ARGV[2]
for i = 3, first - 1 do
  shared[#shared + 1] = ARGV[i]
end
redis.call('SADD', KEYS[1], KEYS[2])
for job = 3, #KEYS do
  local own = first + 2 * (job - 3)
  redis.call('HSET', KEYS[job], 'data', ARGV[own + 1], unpack(shared))
  redis.call(ARGV[1], KEYS[2], ARGV[own])
end
"""


#: What is each job's own.
_OWN: Final = ("created_at", "enqueued_at", "data")


class JobQueue:
    """Sends jobs, and knows which are still queued."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue = Queue(FULFILLMENTS, connection=redis, serializer=JSONSerializer)
        self._script = redis.register_script(_SCRIPT)

    def send(self, sf_order_id: str, *, front: bool = False) -> str:
        """Put a job for an order on the queue; returns its id. Raises redis.RedisError."""
        return self.send_many([sf_order_id], front=front)[0]

    def send_many(self, sf_order_ids: list[str], *, front: bool = False) -> list[str]:
        """Put a job for each of these orders on the queue, in one round trip; returns their ids.

        Raises redis.RedisError: then none was sent, or all were.
        """
        jobs = [f"{sf_order_id}-{uuid.uuid4().hex}" for sf_order_id in sf_order_ids]
        now = utcformat(utcnow())
        shared = [*self._fields, "created_at", now, "enqueued_at", now]
        arguments = ["LPUSH" if front else "RPUSH", len(shared), *shared]
        for job, sf_order_id in zip(jobs, sf_order_ids, strict=True):
            arguments += [job, _data(sf_order_id)]
        self._script(keys=[Queue.redis_queues_keys, self._queue.key, *map(Job.key_for, jobs)], args=arguments)
        return jobs

    @cached_property
    def _fields(self) -> list[Any]:
        """Names and values that RQ keeps of each job: made by RQ once, because that takes longer than all the rest."""
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
        return [part for name, value in fields.items() if name not in _OWN for part in (name, value)]

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
