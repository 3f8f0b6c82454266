"""Security events of the receivers: logged one by one, counted in the ledger, and sent to operators when they get many.

A forger must not be able to make us work: events are gathered in memory and written together, at most every two
seconds, so that a flood of forgeries costs the ledger one small transaction now and then.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.engine import Connection

from portal.ledger import counters, installation, outbox
from portal.ledger.engine import Ledger
from portal.settings import Settings
from portal.webhooks.verifier import Secret

log = logging.getLogger("portal.webhooks.security_events")

COUNTER: Final = "webhook_security_events_total"
SECRET_COUNTER: Final = "webhook_secret_matched_total"
_GATHER_SECONDS: Final = 2.0

_SENDERS_KEPT: Final = 50
_SENDERS_NAMED: Final = 5
_WATCH: Final = "security_watch"


class SecurityEvents:
    """The events of one process on their way into the ledger. clock: gives seconds since 1970."""

    def __init__(self, ledger: Ledger, settings: Settings, *, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._gathered: Counter[tuple[str, str]] = Counter()
        self._senders: Counter[str] = Counter()  # addresses of the events gathered
        self._timer: threading.Timer | None = None
        self._closed = False

    def record(self, receiver: str, event: str, address: str) -> None:
        """One refused request. Logs it; never fails, never blocks."""
        log.warning("Webhook refused", extra={"event": event, "receiver": receiver, "address": address})
        with self._lock:
            if address in self._senders or len(self._senders) < _SENDERS_KEPT:
                self._senders[address] += 1
        self._gather(COUNTER, event)

    def matched(self, receiver: str, secret: Secret) -> None:
        """One right signature, and which secret made it (label `sf:previous`)."""
        self._gather(SECRET_COUNTER, f"{receiver}:{secret.value}")

    def flush(self) -> None:
        """Write what was gathered; keeps it when the ledger is away. Never raises."""
        with self._writing:  # so that close() returns only once a flush of the timer's has ended as well
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            gathered, self._gathered = self._gathered, Counter()
            senders, self._senders = self._senders, Counter()
            self._timer = None
        if not gathered:
            return
        try:
            with self._ledger.write() as connection:
                for (name, label), count in sorted(gathered.items()):
                    counters.add(connection, name, label, count)
                refused = Counter({label: count for (name, label), count in gathered.items() if name == COUNTER})
                if refused and self._settings.security_alert_webhook:
                    _watch(connection, self._settings, refused, senders, now=self._clock())
        except Exception as error:
            log.error("Security events couldn't be counted yet", extra={"error": type(error).__name__})
            with self._lock:
                self._gathered.update(gathered)
                self._senders.update(senders)
                self._soon()

    def close(self) -> None:
        """Write what was gathered, for the last time: the process is about to end."""
        self._closed = True
        self.flush()

    def _gather(self, name: str, label: str) -> None:
        with self._lock:
            self._gathered[name, label] += 1
            self._soon()

    def _soon(self) -> None:
        if not self._closed and (self._timer is None or not self._timer.is_alive()):
            self._timer = threading.Timer(_GATHER_SECONDS, self.flush)
            self._timer.daemon = True
            self._timer.start()


def _watch(
    connection: Connection, settings: Settings, refused: Counter[str], senders: Counter[str], *, now: float
) -> None:
    """Add to the present window, over all processes; a digest once it holds too many and the last one is long ago."""
    watch = installation.get_for_update(connection, _WATCH) or {}  # all processes add to it, one after the other
    if now - watch.get("since", 0.0) > settings.security_alert_window_seconds:
        watch = {"since": now, "events": {}, "senders": {}, "alerted_at": watch.get("alerted_at", 0.0)}
    counted = Counter(watch["events"]) + refused
    known = Counter(watch["senders"]) + senders
    watch |= {"events": dict(counted), "senders": dict(known.most_common(_SENDERS_KEPT))}
    total = sum(counted.values())
    due = now - watch.get("alerted_at", 0.0) >= settings.security_alert_cooldown_seconds
    if total >= settings.security_alert_events and due:
        body = _digest(settings, counted, known, since=watch["since"], now=now)
        payload = {"url_setting": "security_alert_webhook", "body": body}
        outbox.put(connection, "alert", "security", payload, now=now)
        watch = {"since": now, "events": {}, "senders": {}, "alerted_at": now}
    installation.put(connection, _WATCH, watch, now=now)


def _digest(
    settings: Settings, counted: Counter[str], senders: Counter[str], *, since: float, now: float
) -> dict[str, Any]:
    minutes = max(1, round((now - since) / 60))
    events = ", ".join(f"{count} {event}" for event, count in counted.most_common())
    text = (
        f":warning: {sum(counted.values())} webhook requests refused within {minutes} min at "
        f"{settings.portal_base_url}: {events}. "
        f"Most from {', '.join(address for address, _ in senders.most_common(_SENDERS_NAMED))}."
    )
    return {
        "text": text,
        "kind": "webhook_security_events",
        "portal": settings.portal_base_url,
        "since": datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds"),
        "until": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "events": dict(counted),
        "addresses": dict(senders.most_common(_SENDERS_NAMED)),
    }
