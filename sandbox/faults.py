"""Scripted faults: which call they hit and what happens to it.

A fault is a JSON object. Matching: `action` and `path` (shell patterns), `method`, `contains` (text in the path, query
or body), `order`, `client`; `nth` (1 = the first matching call on), `count` (how often; default 1, 0 = without end),
`probability` with `seed` (decided by seed, order and how often that order met this fault, so the same run draws the
same lots whatever the timing).

Kinds: `error` (`status`, `body`, `headers`), the sandbox's own presets (see README), `html` (`status` 503 or 200),
`empty` (`status` 200), `drop` (`drop_before`, `drop_after`), `delay` (`seconds`), `hang` (`seconds`, then the
connection is closed), `pause_point` (held until released), `late_commit` (connection closed after `close_after`
seconds, effect `seconds` after the call came in), `half_built` (AddOrder: the order's row first, the rest `seconds`
later), `ignored_quantities`, `skipped_product` (AddOrder: one of each; without the product `record`, default the last),
`record_error` (one record of a batch fails: `record` matches its id or external id, `code`, `message`).
`meanwhile` (`does`: routes of the control API with their bodies, POSTed while the call is under way).
`when` is `before` (the default) or `after` the effect.
"""

from __future__ import annotations

import hashlib
import threading
from fnmatch import fnmatchcase
from typing import Any

KINDS = {
    "error",
    "html",
    "empty",
    "drop",
    "drop_before",
    "drop_after",
    "delay",
    "hang",
    "pause_point",
    "late_commit",
    "half_built",
    "record_error",
    "meanwhile",
    "ignored_quantities",
    "skipped_product",
}
FIELDS = {
    "kind",
    "action",
    "path",
    "method",
    "contains",
    "order",
    "client",
    "nth",
    "count",
    "probability",
    "seed",
    "seconds",
    "close_after",
    "status",
    "body",
    "headers",
    "when",
    "label",
    "record",
    "code",
    "message",
    "retry_after",
    "reset",
    "does",
}


class Faults:
    """The faults in force; `pick` is asked once per call."""

    def __init__(self, presets: set[str]):
        self._presets = presets
        self._lock = threading.Lock()
        self._faults: dict[int, dict[str, Any]] = {}
        self._last = 0

    def add(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Adds one; ValueError says what is wrong with it. Answers the fault with its `id`."""
        unknown = set(spec) - FIELDS
        if unknown:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
        kind = spec.get("kind")
        if kind not in KINDS and kind not in self._presets:
            raise ValueError(f"unknown kind {kind!r}; known: {', '.join(sorted(KINDS | self._presets))}")
        fault = {"nth": 1, "count": 1, "when": "before", "seed": 0, "seconds": 0.0, **spec}
        if kind in ("drop_before", "drop_after"):
            fault["kind"], fault["when"] = "drop", kind.removeprefix("drop_")
        if kind == "hang" and "seconds" not in spec:
            fault["seconds"] = 3600.0
        if kind == "pause_point" and "seconds" not in spec:
            fault["seconds"] = 600.0
        if fault["when"] not in ("before", "after"):
            raise ValueError("when must be 'before' or 'after'")
        with self._lock:
            self._last += 1
            fault.update(id=self._last, matched=0, applied=0)
            fault["_met"] = {}
            self._faults[self._last] = fault
            return self._public(fault)

    def remove(self, fault_id: int | None = None) -> int:
        """Removes one fault or all; answers how many."""
        with self._lock:
            gone = list(self._faults) if fault_id is None else [key for key in self._faults if key == fault_id]
            for key in gone:
                del self._faults[key]
            return len(gone)

    def all(self) -> list[dict[str, Any]]:
        """All faults with their `matched` and `applied` counts."""
        with self._lock:
            return [self._public(fault) for fault in self._faults.values()]

    @staticmethod
    def _public(fault: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in fault.items() if not key.startswith("_")}

    def pick(self, entry: dict[str, Any], text: str) -> dict[str, Any] | None:
        """The first fault that hits the call of this journal entry; `text` is what `contains` looks into."""
        if not self._faults:
            return None
        with self._lock:
            hit: dict[str, Any] | None = None
            for fault in self._faults.values():
                if not self._matches(fault, entry, text):
                    continue
                fault["matched"] += 1
                if (
                    hit is not None
                    or fault["matched"] < fault["nth"]
                    or (fault["count"] and fault["applied"] >= fault["count"])
                ):
                    continue
                probability = fault.get("probability")
                if probability is not None:
                    subject = f"{entry['action']}:{entry['mark'] or entry['order'] or entry['client'] or ''}"
                    met = fault["_met"][subject] = fault["_met"].get(subject, 0) + 1
                    lot = hashlib.sha256(f"{fault['seed']}:{fault['kind']}:{subject}:{met}".encode()).digest()
                    if int.from_bytes(lot[:7], "big") / 2**56 >= probability:
                        continue
                fault["applied"] += 1
                hit = fault
            return None if hit is None else self._public(hit)

    @staticmethod
    def _matches(fault: dict[str, Any], entry: dict[str, Any], text: str) -> bool:
        if "action" in fault and not fnmatchcase(entry["action"].lower(), str(fault["action"]).lower()):
            return False
        if "path" in fault and not fnmatchcase(entry["path"], fault["path"]):
            return False
        if "method" in fault and entry["method"] != fault["method"]:
            return False
        if "client" in fault and entry["client"] != str(fault["client"]):
            return False
        if "order" in fault:
            wanted = str(fault["order"])
            wanted = wanted[:15] if len(wanted) == 18 else wanted
            found = [entry["order"] or "", entry["mark"] or ""]
            if (
                wanted not in found
                and wanted not in [each[:15] for each in found]
                and not (len(wanted) == 15 and wanted in text)
            ):
                return False
        return "contains" not in fault or fault["contains"] in text
