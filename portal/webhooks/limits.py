"""How often one address may call the receivers: flask-limiter on Redis, shared by all processes.

An authentic request is counted by portal.webhooks.admission, together with its nonce; flask-limiter judges who is
refused, and everybody while that can't be done, in this process' memory where Redis is away.

Signed requests are counted once their signature has proved right, and forgeries apart from them: whoever sends
forgeries through the same proxy or office address can't use up what an honest sender may send.
"""

from __future__ import annotations

import logging
import time
from typing import Final, cast

import redis
from flask import Flask, Response, g
from flask_limiter import Limiter
from limits import RateLimitItem, parse_many
from limits.storage import RedisStorage

from portal.settings import Settings
from portal.web.context import client_key

log = logging.getLogger("portal.webhooks")

_PREFIX: Final = "portal-receivers"
_FORGERIES: Final = "forgeries"


class Limits:
    """The receivers' limits in one application."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.limiter = Limiter(
            client_key,
            storage_uri="redis://",
            storage_options={"connection_pool": client.connection_pool},  # type: ignore[dict-item]
            strategy="fixed-window",
            key_prefix=_PREFIX,
            in_memory_fallback_enabled=True,
            swallow_errors=True,
        )
        per_address, together = settings.webhook_rate_limit, settings.webhook_global_limit
        self._counted = [(limit, "") for limit in parse_many(per_address)]  # "": each asker for itself
        self._counted += [(limit, _everybody()) for limit in parse_many(together)]
        self._judged = self.limiter.limit(per_address, deduct_when=signature_was_right)(
            self.limiter.limit(together, key_func=_everybody, deduct_when=signature_was_right)(_nothing)
        )
        self._forgeries: list[RateLimitItem] = parse_many(settings.webhook_forgery_limit)

    def init_app(self, app: Flask) -> None:
        """Let the limiter see the end of every request of `app`."""
        self.limiter.init_app(app)
        # It would look for limits before each page, too, and there are none but those that `check` asks for.
        app.before_request_funcs[None].remove(self.limiter._check_request_limit)

    def check(self) -> None:
        """Refuse the present request where its address, or all together, are over a limit; counted if it is authentic.

        Raises flask_limiter.RateLimitExceeded.
        """
        self._judged()

    def amounts(self) -> list[tuple[int, int]]:
        """Of each limit, how many requests it lets in, and in how many seconds."""
        return [(limit.amount, limit.get_expiry()) for limit, _who in self._counted]

    def counters(self, endpoint: str, asker: str) -> list[str]:
        """Redis' key of each limit's counter for a request to an endpoint, as `check` has it.

        asker: whose it is (portal.web.context.client_key).
        """
        storage = cast(RedisStorage, self.limiter.storage)
        return [storage.prefixed_key(limit.key_for(_PREFIX, who or asker, endpoint)) for limit, who in self._counted]

    def seconds_to_wait(self) -> int:
        """Whole seconds (1 or more) until the limit that refused the present request counts anew."""
        limit = self.limiter.current_limit
        try:
            return 1 if limit is None else max(1, round(limit.reset_at - time.time()))
        except Exception:  # the storage went away in between
            return 1

    def too_many_forgeries(self) -> int | None:
        """Count one forgery of the asking address; seconds to wait once it has sent too many. Never raises."""
        strategy = self.limiter.limiter
        try:
            for limit in self._forgeries:
                if not strategy.hit(limit, _FORGERIES, client_key()):
                    reset = strategy.get_window_stats(limit, _FORGERIES, client_key()).reset_time
                    return max(1, round(reset - time.time()))
        except Exception as error:  # limits wraps nothing: whatever the storage raises, a forgery is a 401
            log.warning("Forgeries can't be counted", extra={"error": type(error).__name__})
        return None


def _nothing() -> None:
    """What flask-limiter puts its checks before, to be called where they are wanted."""


def _everybody() -> str:
    return "all"


def signature_was_right(_answer: Response) -> bool:
    """Only what proved authentic counts."""
    return bool(g.get("authentic", False))
