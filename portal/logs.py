"""Logs as JSON lines on stderr: the documents' own sentences as `message`, their details as members beside it."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, then what was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self._where(record)
        return json.dumps(line, default=str, ensure_ascii=False)

    def _where(self, record: logging.LogRecord) -> str:
        """The exception's type and where it was raised; never its text, which may quote a request."""
        assert record.exc_info
        kind, _error, trace = record.exc_info
        frames = []
        while trace is not None:
            frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
            trace = trace.tb_next
        return f"{kind.__name__ if kind else 'unknown'} at {' > '.join(frames[-6:])}"


def set_up_logging(level: int = logging.INFO) -> None:
    """Send everything to stderr as JSON lines; libraries only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("portal").setLevel(level)
    logging.getLogger("jobs").setLevel(level)
