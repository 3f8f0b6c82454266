"""State and journal of one sandbox in one SQLite file, so that both outlive a restart.

Documents live in memory and are written through inside one SQLite transaction per change; a killed process loses no
committed document. The journal holds one row per call and is flushed by a background thread, or together with the
effect it describes, so the file never shows an effect without its call.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

Document = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS docs (
  seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (kind, id));
CREATE TABLE IF NOT EXISTS journal (
  id INTEGER PRIMARY KEY, action TEXT NOT NULL, body TEXT NOT NULL);
"""

UPSERT = "INSERT INTO docs (kind, id, body) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body"
JOURNAL = "INSERT OR REPLACE INTO journal (id, action, body) VALUES (?, ?, ?)"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Transaction:
    """Changes that become durable together, or not at all; `mark`/`rollback_to` undo a part of them."""

    def __init__(self, store: Store):
        self._store = store
        self._undo: list[tuple[str, str, Document | None]] = []
        self._touched: dict[tuple[str, str], None] = {}
        self.patient = True  # whether the caller may be sent to wait for a row and come back

    def get(self, kind: str, key: str) -> Document | None:
        """The document as this transaction sees it (do not change it in place: `put` a new one)."""
        return self._store.tables.get(kind, {}).get(key)

    def put(self, kind: str, key: str, document: Document) -> None:
        """Creates or replaces a document."""
        self._undo.append((kind, key, self.get(kind, key)))
        self._touched[kind, key] = None
        self._store.set_in_memory(kind, key, document)

    def change(self, kind: str, key: str, **fields: Any) -> Document:
        """Replaces some fields of a document that exists."""
        document = {**self._store.tables[kind][key], **fields}
        self.put(kind, key, document)
        return document

    def delete(self, kind: str, key: str) -> None:
        """Removes a document for good."""
        self._undo.append((kind, key, self.get(kind, key)))
        self._touched[kind, key] = None
        self._store.set_in_memory(kind, key, None)

    def next(self, counter: str, start: int = 1) -> int:
        """The next number of a counter, `start` the first time."""
        document = self.get("_counter", counter)
        value = start if document is None else document["value"] + 1
        self.put("_counter", counter, {"value": value})
        return value

    def mark(self) -> int:
        """A place to roll back to."""
        return len(self._undo)

    def rollback_to(self, mark: int) -> None:
        """Undoes everything since `mark`."""
        while len(self._undo) > mark:
            kind, key, before = self._undo.pop()
            self._store.set_in_memory(kind, key, before)

    @property
    def changed(self) -> bool:
        """True when something would be written."""
        return bool(self._undo)

    def statements(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The SQL that makes it durable."""
        for kind, key in self._touched:
            document = self.get(kind, key)
            if document is None:
                yield "DELETE FROM docs WHERE kind = ? AND id = ?", (kind, key)
            else:
                yield UPSERT, (kind, key, _dump(document))


class Store:
    """Documents by kind and id; every change goes through `transaction()`."""

    def __init__(self, path: Path, indexes: dict[str, tuple[str, ...]] | None = None):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.lock = threading.RLock()
        self.tables: dict[str, dict[str, Document]] = {}
        self._indexes: dict[tuple[str, str], dict[str, dict[str, None]]] = {
            (kind, field): {} for kind, fields in (indexes or {}).items() for field in fields
        }
        self._index_fields = {kind: tuple(fields) for kind, fields in (indexes or {}).items()}
        self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("PRAGMA cache_size = -1024")
        self.db.executescript(SCHEMA)
        for kind, key, body in self.db.execute("SELECT kind, id, body FROM docs ORDER BY seq"):
            self.set_in_memory(kind, key, json.loads(body))

    @staticmethod
    def index_key(value: Any) -> str:
        """Indexes compare as Salesforce does: text without regard to case."""
        return str(value).casefold()

    def set_in_memory(self, kind: str, key: str, document: Document | None) -> None:
        """Puts a document into the tables and indexes; only for transactions and loading."""
        table = self.tables.setdefault(kind, {})
        before = table.get(key)
        for field in self._index_fields.get(kind, ()):
            index = self._indexes[kind, field]
            old = None if before is None else before.get(field)
            new = None if document is None else document.get(field)
            if old is not None and old != new:
                index.get(self.index_key(old), {}).pop(key, None)
            if new is not None:
                index.setdefault(self.index_key(new), {})[key] = None
        if document is None:
            table.pop(key, None)
        else:
            table[key] = document

    def get(self, kind: str, key: str) -> Document | None:
        """The document, or None; not to be changed in place."""
        return self.tables.get(kind, {}).get(key)

    def all(self, kind: str) -> list[Document]:
        """Every document of a kind, oldest first."""
        with self.lock:
            return list(self.tables.get(kind, {}).values())

    def indexed(self, kind: str, field: str) -> bool:
        """True when `find` can be used for that field."""
        return (kind, field) in self._indexes

    def find(self, kind: str, field: str, value: Any) -> list[Document]:
        """Documents whose indexed field has that value, in the order in which they got it."""
        with self.lock:
            table = self.tables.get(kind, {})
            return [table[key] for key in self._indexes[kind, field].get(self.index_key(value), ())]

    @contextlib.contextmanager
    def transaction(self, entry: Document | None = None) -> Iterator[Transaction]:
        """Commits at the end, undoes everything when the block raises.

        `entry` is the journal entry of the call that makes the change: it gets its `effect` time and is written in
        the same SQLite transaction.
        """
        with self.lock:
            change = Transaction(self)
            try:
                yield change
            except BaseException:
                change.rollback_to(0)
                raise
            if not change.changed:
                return
            if entry is not None:
                entry["effect"] = time.time()
                entry["state"] = "effect"
            self.db.execute("BEGIN IMMEDIATE")
            try:
                for statement, parameters in change.statements():
                    self.db.execute(statement, parameters)
                if entry is not None:
                    self.db.execute(JOURNAL, (entry["id"], entry["action"], _dump(entry)))
                self.db.execute("COMMIT")
            except BaseException:
                self.db.execute("ROLLBACK")
                change.rollback_to(0)
                raise

    def close(self) -> None:
        """Closes the file."""
        with self.lock:
            self.db.close()


class Journal:
    """One entry per call: who asked what, what became of it, and when each phase was reached.

    Entry: `id`, `direction` (`in` a call from outside, `out` our callout or webhook, `apex` a change the org makes by
    itself), `method`, `path`, `action`, `params` (redacted), `order`, `mark` (the Salesforce id behind a WHMCS call,
    where it can be told), `client`, `fault` (None or its id, kind, label), `state` (`received`, `held`, `effect`,
    `answered`, `dropped`, `gone`), the epoch seconds `received`, `effect`, `answered`, `gone` (None while not
    reached), `held` (None, `before` or `after` the effect), `status`, `outcome`, `inside` (seconds the call spent in
    the sandbox, injected waits included).
    """

    def __init__(self, store: Store):
        self._store = store
        self._lock = threading.Lock()
        self.changed = threading.Condition(self._lock)
        self._dirty: dict[int, Document] = {}
        self._open: dict[int, Document] = {}
        last = store.db.execute("SELECT max(id) FROM journal").fetchone()[0]
        self._last = last or 0
        self._stopping = threading.Event()
        self._reader = sqlite3.connect(store.path, check_same_thread=False, isolation_level=None, timeout=30)
        self._reader_lock = threading.Lock()
        self._flusher = threading.Thread(target=self._flush_forever, name="journal", daemon=True)
        self._flusher.start()

    def begin(self, **fields: Any) -> Document:
        """Opens an entry; the caller keeps it and hands it to `touch` and `finish`."""
        with self.changed:
            self._last += 1
            entry: Document = {
                "id": self._last,
                "direction": "in",
                "method": "",
                "path": "",
                "action": "",
                "params": None,
                "order": None,
                "mark": None,
                "client": None,
                "fault": None,
                "state": "received",
                "received": time.time(),
                "effect": None,
                "answered": None,
                "gone": None,
                "held": None,
                "status": None,
                "outcome": None,
                "inside": None,
                **fields,
            }
            self._open[entry["id"]] = entry
            self._dirty[entry["id"]] = entry
            self.changed.notify_all()
        return entry

    def touch(self, entry: Document, **fields: Any) -> None:
        """Changes an open entry."""
        with self.changed:
            entry.update(fields)
            self._dirty[entry["id"]] = entry
            self.changed.notify_all()

    def finish(self, entry: Document, **fields: Any) -> None:
        """Changes an entry and closes it."""
        with self.changed:
            entry.update(fields)
            self._open.pop(entry["id"], None)
            self._dirty[entry["id"]] = entry
            self.changed.notify_all()

    def flush(self) -> None:
        """Writes what is not in the file yet; returns once all of it is there, whoever writes it."""
        # The store's lock first: a row read here must not overwrite the newer one an effect has written meanwhile. And
        # always: where nothing is left to write, another thread may just be committing it.
        with self._store.lock:
            with self._lock:
                if not self._dirty:
                    return
                rows = [(entry["id"], entry["action"], _dump(entry)) for entry in self._dirty.values()]
                self._dirty.clear()
            self._store.db.execute("BEGIN IMMEDIATE")
            self._store.db.executemany(JOURNAL, rows)
            self._store.db.execute("COMMIT")

    def _flush_forever(self) -> None:
        while not self._stopping.wait(0.1):
            if self._dirty:
                self.flush()

    def read(
        self,
        since: int = 0,
        action: str | None = None,
        order: str | None = None,
        client: str | None = None,
        direction: str | None = None,
        state: str | None = None,
        held: bool = False,
        faulted: bool = False,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[Document]:
        """Entries with an id above `since`, oldest first; `action` is a shell pattern, `newest` takes the last ones."""

        def fits(entry: Document) -> bool:
            subjects = (entry["order"], entry["mark"], (entry["order"] or "")[:15], (entry["mark"] or "")[:15])
            return (
                (order is None or order in subjects)
                and (client is None or entry["client"] == client)
                and (direction is None or entry["direction"] == direction)
                and (state is None or entry["state"] == state)
                and (not faulted or entry["fault"] is not None)
            )

        if held:
            # Held calls are open ones: looking there spares whoever waits for one a scan of everything before.
            with self._lock:
                return [
                    dict(entry)
                    for entry in self._open.values()
                    if entry["state"] == "held"
                    and entry["id"] > since
                    and fits(entry)
                    and (action is None or fnmatchcase(entry["action"], action))
                ][:limit]
        self.flush()
        kept: list[Document] = []
        with self._reader_lock:
            order_by = "DESC" if newest else "ASC"
            for name, body in self._reader.execute(
                f"SELECT action, body FROM journal WHERE id > ? ORDER BY id {order_by}", (since,)
            ):
                if action is not None and not fnmatchcase(name, action):
                    continue
                entry = json.loads(body)
                if fits(entry):
                    kept.append(entry)
                if len(kept) >= limit:
                    break
        return kept[::-1] if newest else kept

    def rotate(self) -> int:
        """Forgets the finished entries (open ones stay); returns the last id given out."""
        self.flush()
        with self._lock:
            still_open = list(self._open)
        with self._store.lock:
            marks = ",".join("?" * len(still_open))
            self._store.db.execute(f"DELETE FROM journal WHERE id NOT IN ({marks})", still_open)
        return self._last

    def close(self) -> None:
        """Flushes and stops."""
        self._stopping.set()
        self._flusher.join(timeout=5)
        self.flush()
        with self._reader_lock:
            self._reader.close()
