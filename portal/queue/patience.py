"""How long one process waits for a Redis that doesn't answer: a stopped server keeps its connections, and says nothing.

Each round trip has a short time. One that used it up is remembered for a moment, by the whole process: until then every
other trip fails at once, and afterwards one alone finds out whether the server answers again. So a request with five
round trips waits once, not five times. A request also has a budget for all its trips together, for a server that
answers each just in time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.connection import ConnectionPool
from redis.utils import SENTINEL

#: Seconds that connecting, or one round trip, may take: less than /health's two.
TRIP_SECONDS: Final = 1.5
#: Seconds for which a server that didn't answer is taken to be silent still.
SILENT_SECONDS: Final = 2.0
#: Seconds that all round trips of one web request may take together.
REQUEST_SECONDS: Final = 3.0


class _Request(threading.local):
    left: float | None = None  # seconds of the budget left; None: no request runs in this thread


_request = _Request()


def begin_request() -> None:
    """Give this thread's request its whole budget of REQUEST_SECONDS."""
    _request.left = REQUEST_SECONDS


class Silence:
    """Whether one server is taken to be silent. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0  # on the monotonic clock; 0.0: it answers
        self._asking: int | None = None  # the one thread that finds out

    def check(self) -> None:
        """Raises redis.ConnectionError while the server is taken to be silent."""
        if not self._until:
            return
        with self._lock:
            me, now = threading.get_ident(), time.monotonic()
            if not self._until or self._asking == me:
                return
            if now < self._until:
                raise redis.ConnectionError("Redis didn't answer lately")
            self._asking, self._until = me, now + TRIP_SECONDS

    def heard(self) -> None:
        """The server answered."""
        if self._until:
            with self._lock:
                self._until, self._asking = 0.0, None

    def waited_in_vain(self) -> None:
        """The server didn't answer within TRIP_SECONDS."""
        with self._lock:
            self._until, self._asking = time.monotonic() + SILENT_SECONDS, None


class _Patience:
    """Mixed into redis-py's connections."""

    silence: Silence

    @contextmanager
    def _trip(self) -> Iterator[float]:
        """Around whatever may wait for the server; gives the seconds it may wait."""
        self.silence.check()
        left = _request.left
        if left is not None and left <= 0:
            raise redis.TimeoutError("Redis has used up this request's time for it")
        begun = time.monotonic()
        try:
            yield TRIP_SECONDS if left is None else min(TRIP_SECONDS, left)
        except redis.RedisError as error:
            if not isinstance(error, redis.ResponseError) and time.monotonic() - begun > 0.9 * TRIP_SECONDS:
                self.silence.waited_in_vain()
            raise
        finally:
            if left is not None:
                _request.left = left - (time.monotonic() - begun)
        self.silence.heard()

    def connect(self) -> None:
        if getattr(self, "_sock", None) is not None:
            super().connect()  # type: ignore[misc]  # redis-py's own: nothing to do
            return
        with self._trip():
            super().connect()  # type: ignore[misc]

    def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        self.silence.check()
        super().send_packed_command(*args, **kwargs)  # type: ignore[misc]

    def read_response(self, disable_decoding: bool = False, **kwargs: Any) -> Any:
        if kwargs.get("timeout", SENTINEL) is not SENTINEL:  # a subscriber's: silence is what it expects
            return super().read_response(disable_decoding, **kwargs)  # type: ignore[misc]
        with self._trip() as seconds:
            return super().read_response(disable_decoding, **kwargs | {"timeout": seconds})  # type: ignore[misc]


def have_patience(pool: ConnectionPool) -> None:
    """Bound what the connections of `pool` wait, all together. To be called before the first connection is made."""
    kind: Any = pool.connection_class
    pool.connection_class = type(f"Patient{kind.__name__}", (_Patience, kind), {"silence": Silence()})
