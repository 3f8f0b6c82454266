"""What Redis is asked about an authentic request, in one round trip: is there room under its limits, is its nonce new?

The counts are those of portal.webhooks.limits, under the same names: whoever is refused is judged there. That, and
portal.webhooks.nonces, is also the way while Redis can't be used.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import redis

from portal.webhooks.limits import Limits
from portal.webhooks.nonces import Nonces, redis_key

#: For many requests, one after the other. KEYS of each: the nonce, then each limit's counter. ARGV: for how many
#: milliseconds a nonce is kept, how many limits there are, and each one's amount and seconds; then what is kept under
#: each request's nonce ("": there is none). Gives for each {seconds to wait, 0} over a limit, else {0, 1} or, for a
#: nonce that is taken, {0, 0}. A client that sent it twice, because the first answer was lost, finds its own claim.
_SCRIPT: Final = """
local kept, limits = ARGV[1], tonumber(ARGV[2])
local function admit(key, token)
  for i = 1, limits do
    if tonumber(redis.call('GET', KEYS[key + i]) or '0') >= tonumber(ARGV[1 + 2 * i]) then
      return {math.max(1, redis.call('TTL', KEYS[key + i])), 0}
    end
  end
  for i = 1, limits do
    if redis.call('INCR', KEYS[key + i]) == 1 then
      redis.call('EXPIRE', KEYS[key + i], ARGV[2 + 2 * i])
    end
  end
  if token == '' or redis.call('SET', KEYS[key], token, 'NX', 'PX', kept) then
    return {0, 1}
  end
  return {0, redis.call('GET', KEYS[key]) == token and 1 or 0}
end
local found = {}
for i = 1, #KEYS / (1 + limits) do
  found[i] = admit(1 + (i - 1) * (1 + limits), ARGV[2 + 2 * limits + i])
end
return found
"""


@dataclass(frozen=True)
class Asked:
    """What Redis is to be asked about one request: the script's keys and argument."""

    keys: list[str]
    token: str
    known: bool  # the nonce was claimed while Redis was away


@dataclass(frozen=True)
class Admitted:
    """What became of a request: over a limit for so many seconds more, or its nonce claimed or taken before."""

    seconds_to_wait: int  # 0: under all limits
    new: bool


class Admission:
    """Counts authentic requests and claims their nonces in one application."""

    def __init__(self, client: redis.Redis, limits: Limits, nonces: Nonces) -> None:
        self._script = client.register_script(_SCRIPT)
        self._limits = limits
        self._nonces = nonces
        amounts = limits.amounts()
        self._shared = [int(nonces.seconds * 1000), len(amounts), *(each for limit in amounts for each in limit)]

    def asked(self, identity: str | None, endpoint: str, asker: str) -> Asked:
        """What `admit` is to count and claim for a request to an endpoint.

        identity: a nonce_id; None: it has no nonce. asker: whose it is (portal.web.context.client_key).
        """
        known = identity is not None and self._nonces.in_memory(identity)
        token = secrets.token_hex(8) if identity and not known else ""
        return Asked([redis_key(identity or ""), *self._limits.counters(endpoint, asker)], token, known)

    def admit(self, batch: Sequence[Asked]) -> list[Admitted]:
        """Count each request and claim its nonce.

        Who is over a limit is neither counted nor claimed for. Raises redis.RedisError and OSError: nothing is known
        then, and `Limits.check` and `Nonces.claim` are to be asked.
        """
        keys = [key for asked in batch for key in asked.keys]
        tokens = [asked.token for asked in batch]
        found: Sequence[tuple[int, int]] = self._script(keys=keys, args=[*self._shared, *tokens])
        return [
            Admitted(seconds, bool(new) and not asked.known) for (seconds, new), asked in zip(found, batch, strict=True)
        ]
