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

#: KEYS: the nonce, then each limit's counter. ARGV: what is kept under the nonce ("": there is none) and for how many
#: milliseconds, then each limit's amount and seconds. Gives {seconds to wait, 0} over a limit, else {0, 1} or, for a
#: nonce that is taken, {0, 0}. A client that sent it twice, because the first answer was lost, finds its own claim.
_SCRIPT: Final = """
for i = 2, #KEYS do
  if tonumber(redis.call('GET', KEYS[i]) or '0') >= tonumber(ARGV[2 * i - 1]) then
    return {math.max(1, redis.call('TTL', KEYS[i])), 0}
  end
end
for i = 2, #KEYS do
  if redis.call('INCR', KEYS[i]) == 1 then
    redis.call('EXPIRE', KEYS[i], ARGV[2 * i])
  end
end
if ARGV[1] == '' or redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {0, 1}
end
return {0, redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0}
"""


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

    def admit(self, identity: str | None) -> Admitted:
        """Count the present request and claim its nonce (a nonce_id; None: it has none).

        Who is over a limit is neither counted nor claimed for. Raises redis.RedisError and OSError: nothing is known
        then, and `Limits.check` and `Nonces.claim` are to be asked.
        """
        known = identity is not None and self._nonces.in_memory(identity)
        keys = [redis_key(identity or "")]
        arguments: list[str | int] = [secrets.token_hex(8) if identity and not known else ""]
        arguments.append(int(self._nonces.seconds * 1000))
        for key, amount, seconds in self._limits.counters():
            keys.append(key)
            arguments += [amount, seconds]
        found: Sequence[int] = self._script(keys=keys, args=arguments)
        return Admitted(found[0], bool(found[1]) and not known)
