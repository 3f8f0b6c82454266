"""WHMCS_MAX_IN_FLIGHT: a number of slots shared by all workers on all hosts, kept in Redis.

A slot is a member of a sorted set whose score is when it lapses, so that a killed holder's slot comes free by itself.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis import Redis, RedisError

from portal.domain.model import UpstreamError

_TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
  redis.call('EXPIRE', KEYS[1], 3600)
  return 1
end
return 0
"""


class InFlightLimit:
    """At most `limit` holders at a time. A thread that holds a slot may take it again at no cost."""

    def __init__(self, redis: Redis, name: str, limit: int, *, lapse: float, patience: float = 30.0) -> None:
        """`lapse`: seconds after which a slot that wasn't given back is free; `patience`: seconds to wait for one."""
        self._redis = redis
        self._key = f"portal:places:{name}"  # older than the word slot: versions that run side by side share it
        self._limit = limit
        self._lapse = lapse
        self._patience = patience
        self._take = redis.register_script(_TAKE)
        self._mine = threading.local()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one slot. Raises a transient UpstreamError when none came free in time."""
        depth = getattr(self._mine, "depth", 0)
        token = self._wait_for_slot() if depth == 0 else None
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            if token is not None:
                with suppress(RedisError):  # it lapses by itself
                    self._redis.zrem(self._key, token)

    def _wait_for_slot(self) -> str | None:
        token = uuid.uuid4().hex
        until = time.monotonic() + self._patience
        while True:
            try:
                if self._take(keys=[self._key], args=[token, self._limit, self._lapse]):
                    return token
            except RedisError:
                return None  # without Redis no new jobs come either; don't hold back what is being run
            if time.monotonic() > until:
                raise UpstreamError(
                    "whmcs",
                    "every slot for a call to WHMCS stayed taken",
                    permanent=False,
                    code="circuit_open",
                    retry_after=random.uniform(1.0, 3.0),
                    reached=False,
                )
            time.sleep(random.uniform(0.005, 0.02))
