"""Tells operators what holds: once when it begins to, once when it is over, whichever process looks.

How things stand is one row of the ledger, and what is told is written to the outbox with it, in one transaction: a
process that dies in between has told nothing, and the next one knows what was told.

Moments are seconds since 1970.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.engine import Connection

from portal.ledger import installation, outbox
from portal.ops.alerts import conditions
from portal.ops.alerts.conditions import Condition
from portal.ops.alerts.rules import RULES, Rule
from portal.services import Services
from portal.settings import Settings

log = logging.getLogger("portal.ops.alerts")

KEY: Final = "alerts"
#: Seconds between two looks of all processes together.
EVERY: Final = 2.0
#: Samples kept of a window.
_SAMPLES: Final = 60
_BY_ID: Final = {rule.id: rule for rule in RULES}


def evaluate(services: Services) -> bool:
    """Look once, unless somebody has just looked; returns whether it did. Raises PortalError when it can't.

    A condition is told when it has lasted for ALERT_AFTER_SECONDS (those that don't pass by themselves: at once), and
    its end when it hasn't come back for as long.
    """
    settings, now = services.settings, services.now()
    if not (settings.security_alert_webhook or settings.alert_emails):
        return False
    with services.ledger.read() as connection:
        state = installation.get(connection, KEY)
    if state is not None and 0.0 <= now - state["at"] < EVERY:
        return False
    with services.ledger.write() as connection:
        state = installation.get_for_update(connection, KEY)
        if state is None:
            # Nothing to lock yet: whoever comes next finds it.
            state = {"at": 0.0, "samples": [], "known": {}}
        elif 0.0 <= now - state["at"] < EVERY:
            return False
        else:
            _look(connection, settings, state, now=now)
            state["at"] = now
        installation.put(connection, KEY, state, now=now)
    return True


def _look(connection: Connection, settings: Settings, state: dict[str, Any], *, now: float) -> None:
    window = float(settings.alert_window_seconds)
    samples = [(at, good, bad) for at, good, bad in state["samples"]]
    current = conditions.sample(connection, now=now)
    if not samples or now - samples[-1][0] >= window / _SAMPLES or now < samples[-1][0]:
        samples = [*(each for each in samples if each[0] < now), current]
    samples = conditions.in_window(samples, window, now=now)
    state["samples"] = samples
    holding = {each.key: each for each in conditions.holding(connection, settings, [*samples, current], now=now)}
    known: dict[str, dict[str, Any]] = state["known"]
    for key, condition in holding.items():
        entry = known.setdefault(key, {"since": now, "told": False, "gone": None})
        entry["gone"] = None
        patience = settings.alert_after_seconds if condition.rule.patient else 0.0
        if not entry["told"] and now - entry["since"] >= patience:
            entry["told"] = True
            _tell(connection, settings, condition, since=entry["since"], over=False, now=now)
    for key in sorted(set(known) - set(holding)):
        entry = known[key]
        if entry["gone"] is None:
            entry["gone"] = now
        if not entry["told"]:
            del known[key]
        elif now - entry["gone"] >= settings.alert_after_seconds:
            del known[key]
            rule_id, _, about = key.partition(":")
            if rule_id in _BY_ID:
                gone = Condition(_BY_ID[rule_id], about, "It is over.")
                _tell(connection, settings, gone, since=entry["since"], over=True, now=now)


def _tell(
    connection: Connection, settings: Settings, condition: Condition, *, since: float, over: bool, now: float
) -> None:
    """Write what is told to everybody, each in a message of its own: one that is refused holds no other back."""
    rule, state = condition.rule, "resolved" if over else "firing"
    log.warning(
        "Alert is over" if over else "Alert",
        extra={"alert": condition.key, "title": rule.title, "detail": condition.detail},
    )
    about = f" ({condition.about})" if condition.about else ""
    title = f"{'All clear: ' if over else ''}{rule.title}{about}"
    once = f"alert:{condition.key}:{since:.3f}:{state}"
    if settings.security_alert_webhook:
        body = {
            "text": f"{':white_check_mark:' if over else ':rotating_light:'} {title}. {condition.detail}",
            "kind": "alert",
            "alert": rule.id,
            "about": condition.about,
            "state": state,
            "title": rule.title,
            "detail": condition.detail,
            "portal": settings.portal_base_url,
            "since": datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds"),
            "at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            "cure": rule.cure,
            "runbook": rule.runbook,
        }
        payload: dict[str, Any] = {"url_setting": "security_alert_webhook", "body": body}
        outbox.put(connection, "alert", rule.id, payload, now=now, once=once)
    for number, address in enumerate(settings.alert_emails):
        payload = {
            "email": address,
            "subject": title,
            "text": _text(settings, rule, condition, since=since, over=over),
            "message_id": f"alert.{rule.id}.{condition.about or 'all'}.{since:.3f}.{state}",
        }
        outbox.put(connection, "alert", rule.id, payload, now=now, once=f"{once}:{number}")


def _text(settings: Settings, rule: Rule, condition: Condition, *, since: float, over: bool) -> str:
    began = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [condition.detail, f"It began at {began}.", "", f"Portal: {settings.portal_base_url}"]
    if not over:
        lines += ["", rule.cure, "", f"More: {rule.runbook}"]
    return "\n".join(lines) + "\n"
