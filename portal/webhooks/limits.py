"""How often one address may call the receivers: flask-limiter on Redis, shared by all processes.

Signed requests are counted once their signature has proved right, and forgeries apart from them: whoever sends
forgeries through the same proxy or office address can't use up what an honest sender may send.
"""

from __future__ import annotations

import logging
import time
from typing import Final

import redis
from flask import Blueprint, Flask, Response, g
from flask_limiter import Limiter
from limits import RateLimitItem, parse_many

from portal.settings import Settings
from portal.web.context import client_key

log = logging.getLogger("portal.webhooks")

_FORGERIES: Final = "forgeries"


class Limits:
    """The receivers' limits in one application."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.limiter = Limiter(
            client_key,
            storage_uri="redis://",
            storage_options={"connection_pool": client.connection_pool},  # type: ignore[dict-item]
            strategy="fixed-window",
            key_prefix="portal-receivers",
            in_memory_fallback_enabled=True,
            swallow_errors=True,
        )
        self._per_address = settings.webhook_rate_limit
        self._together = settings.webhook_global_limit
        self._forgeries: list[RateLimitItem] = parse_many(settings.webhook_forgery_limit)

    def init_app(self, app: Flask) -> None:
        """Let the limiter see every request of `app`; only those of guarded blueprints are counted."""
        self.limiter.init_app(app)

    def guard(self, blueprint: Blueprint) -> None:
        """Put the limits of signed requests before a blueprint's routes: per address, and for all together."""
        self.limiter.limit(self._per_address, deduct_when=signature_was_right)(blueprint)
        self.limiter.limit(self._together, key_func=lambda: "all", deduct_when=signature_was_right)(blueprint)

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


def signature_was_right(_answer: Response) -> bool:
    """Only what proved authentic counts."""
    return bool(g.get("authentic", False))
