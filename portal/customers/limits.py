"""How often a thing may be asked for: counted in Redis for all processes, in this one's memory while Redis is away."""

from __future__ import annotations

import threading
import time
from typing import Final

import redis

from portal.web.signing import digest

_PREFIX: Final = "portal:asked:"
_memory: dict[str, tuple[int, float]] = {}
_guard = threading.Lock()


def too_often(connection: redis.Redis, what: str, who: str, *, most: int, seconds: int) -> bool:
    """Count one more; True when `who` has now asked for `what` more than `most` times within `seconds`.

    Only a digest of `who` is kept.
    """
    window = int(time.time() // seconds)
    key = f"{_PREFIX}{what}:{window}:{digest(what, who)[:32]}"
    try:
        pipe = connection.pipeline(transaction=False)
        pipe.incr(key)
        pipe.expire(key, seconds)
        count = int(pipe.execute()[0])
    except redis.RedisError:
        count = _count_in_memory(key, seconds)
    return count > most


def _count_in_memory(key: str, seconds: int) -> int:
    now = time.monotonic()
    with _guard:
        if len(_memory) > 10_000:
            for old in [each for each, (_, until) in _memory.items() if until < now] or list(_memory)[:5_000]:
                del _memory[old]
        count = _memory.get(key, (0, 0.0))[0] + 1
        _memory[key] = (count, now + seconds)
    return count
