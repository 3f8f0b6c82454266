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
if redis.call('ZSCORE', KEYS[1], ARGV[1]) or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
  redis.call('EXPIRE', KEYS[1], 3600)
  return 1
end
return 0
"""


#: Seconds after which a slot that is taken again is renewed: each call made with it ends before it lapses.
RENEW_AFTER = 5.0


class _Mine(threading.local):
    """The slot that this thread holds."""

    depth = 0
    token: str | None = None
    taken_at = 0.0  # on the monotonic clock


class InFlightLimit:
    """At most `limit` holders at a time. A thread that holds a slot may take it again at no cost."""

    def __init__(self, redis: Redis, name: str, limit: int, *, lapse: float, patience: float = 30.0) -> None:
        """`lapse`: seconds after which a slot that wasn't given back is free: RENEW_AFTER more than a call may take.

        `patience`: seconds to wait for one.
        """
        self._redis = redis
        self._key = f"portal:places:{name}"  # older than the word slot: versions that run side by side share it
        self._limit = limit
        self._lapse = lapse
        self._patience = patience
        self._take = redis.register_script(_TAKE)
        self._mine = _Mine()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one slot. Raises a transient UpstreamError when none came free in time."""
        mine = self._mine
        if mine.depth == 0 or time.monotonic() - mine.taken_at > RENEW_AFTER:
            mine.token = self._wait_for_slot((mine.depth and mine.token) or uuid.uuid4().hex)
            mine.taken_at = time.monotonic()
        mine.depth += 1
        try:
            yield
        finally:
            mine.depth -= 1
            if mine.depth == 0 and mine.token is not None:
                with suppress(RedisError):  # it lapses by itself
                    self._redis.zrem(self._key, mine.token)

    def _wait_for_slot(self, token: str) -> str | None:
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
