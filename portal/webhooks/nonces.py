"""Refuses a nonce that was seen before, at once and over all processes, before the ledger is asked.

Redis is the fast refusal, the ledger's unique column the lasting one, and the one that decides: a claim whose answer
came too late was never told to anybody. A nonce stays here as long as a timestamp sent
with it could still pass. Without Redis production refuses everything (503); development remembers in this process.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from typing import Final

import redis

from portal.errors import NonceStoreUnavailable

log = logging.getLogger("portal.webhooks")

MARGIN_SECONDS: Final = 60.0


def nonce_id(receiver: str, nonce: str) -> str:
    """`sf:<digest>` or `whmcs:<digest>`: the receivers' nonces don't meet, and no sender's text becomes a key."""
    return f"{receiver}:{hashlib.sha256(nonce.encode()).hexdigest()}"


class Nonces:
    """Claims nonces for `lifetime(tolerance)` seconds; the rules are in docs/webhooks.md.

    tolerance: WEBHOOK_TIMESTAMP_TOLERANCE in seconds; memory_fallback: go on without Redis (development only).
    """

    def __init__(self, client: redis.Redis, *, tolerance: float, memory_fallback: bool) -> None:
        self._redis = client
        self.seconds = lifetime(tolerance)  # for which a nonce is kept
        self._memory_fallback = memory_fallback
        self._memory: dict[str, float] = {}
        self._lock = threading.Lock()

    def claim(self, identity: str) -> bool:
        """Take a nonce (a nonce_id); False when it is taken. Raises NonceStoreUnavailable."""
        if self.in_memory(identity):
            return False
        mine = secrets.token_hex(8)
        try:
            if self._redis.set(redis_key(identity), mine, nx=True, px=int(self.seconds * 1000)):
                return True
            # The client may have sent SET twice, because the first answer was lost: then the claim found is ours.
            found = self._redis.get(redis_key(identity))
            return found in (mine, mine.encode())
        except (redis.RedisError, OSError) as error:
            if not self._memory_fallback:
                raise NonceStoreUnavailable(f"the nonce store can't be used: {type(error).__name__}") from error
            log.warning("Redis is away: nonces are kept in memory (development only)")
            return self._claim_in_memory(identity)

    def give_back(self, identity: str) -> None:
        """Undo a claim whose request wasn't accepted after all. Failing to is harmless: the sender signs anew."""
        with self._lock:
            self._memory.pop(identity, None)
        try:
            self._redis.delete(redis_key(identity))
        except (redis.RedisError, OSError):
            log.warning("A nonce couldn't be given back: Redis is away")

    def in_memory(self, identity: str) -> bool:
        """Whether it was claimed while Redis was away."""
        with self._lock:
            return self._memory.get(identity, 0.0) > time.monotonic()

    def _claim_in_memory(self, identity: str) -> bool:
        now = time.monotonic()
        with self._lock:
            for old in [known for known, until in self._memory.items() if until <= now]:
                del self._memory[old]
            if identity in self._memory:
                return False
            self._memory[identity] = now + self.seconds
            return True


def lifetime(tolerance: float) -> float:
    """Seconds a nonce must be remembered: a timestamp may be `tolerance` ahead now and as much behind at last."""
    return 2 * tolerance + MARGIN_SECONDS


def redis_key(identity: str) -> str:
    """What Redis keeps a nonce_id under."""
    return f"portal:nonce:{identity}"
