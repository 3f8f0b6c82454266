"""How often a customer may ask for a thing: counted in Redis for all processes, in this one's memory without it."""

from __future__ import annotations

from typing import Final

import redis
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter

from portal.web.context import part
from portal.web.signing import digest

_NAMESPACE: Final = "asked"
#: Counters kept in memory at most; beyond them it starts over. Better a limit forgotten than a memory filled.
_MOST_IN_MEMORY: Final = 10_000


class AskLimits:
    """The counters of one application. A window begins with the first ask, and ends by itself."""

    def __init__(self, connection: redis.Redis) -> None:
        """Shares the connections of `connection`; connects to nothing yet."""
        # limits takes the address's scheme only, as the pool is given.
        storage = RedisStorage("redis://", connection_pool=connection.connection_pool, key_prefix="portal")
        self._shared = FixedWindowRateLimiter(storage)
        self._memory = MemoryStorage()
        self._own = FixedWindowRateLimiter(self._memory)

    def too_often(self, what: str, who: str, *, most: int, seconds: int) -> bool:
        """Count one more; True when `who` has now asked for `what` more than `most` times within `seconds`.

        Only a digest of `who` is kept. Without Redis each process counts on its own, from nought.
        """
        window = RateLimitItemPerSecond(most, seconds, _NAMESPACE)
        name = digest(what, who)[:32]
        try:
            return not self._shared.hit(window, what, name)
        except redis.RedisError:
            if len(self._memory.storage) >= _MOST_IN_MEMORY:
                self._memory.reset()
            return not self._own.hit(window, what, name)


def too_often(what: str, who: str, *, most: int, seconds: int) -> bool:
    """`AskLimits.too_often` of the running application."""
    return part(AskLimits).too_often(what, who, most=most, seconds=seconds)
