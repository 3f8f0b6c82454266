"""Whether a server answers at all, and what time it is there: a request without credentials that changes nothing."""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass

import requests

from portal.clients.http import UpstreamClient
from portal.clients.transport import Session


@dataclass(frozen=True)
class ProbeAnswer:
    """`clock_ahead`: seconds by which the server's clock is ahead of ours, by its Date header; None without one."""

    status: int
    clock_ahead: float | None


class Probe(UpstreamClient):
    """Asks any address of one of the other sides, with the transport the clients use."""

    def ask(self, url: str, seconds: float) -> ProbeAnswer:
        """GET `url` within `seconds`, redirects not followed. Raises UpstreamError where nothing answers."""
        started = time.time()

        def run(session: Session) -> requests.Response:
            return session.get(url)

        response = self.exchange("probe", seconds, run, effect=False)
        return ProbeAnswer(response.status_code, _ahead(response.headers.get("Date"), started, time.time()))


def _ahead(date: str | None, asked: float, answered: float) -> float | None:
    """How far a Date header (RFC 9110 §6.6.1: whole seconds) is ahead; 0 where it fits between question and answer."""
    try:
        there = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if asked - 1 <= there <= answered:
        return 0.0
    return there - answered if there > answered else there + 1 - asked
