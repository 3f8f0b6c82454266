"""Logs: one line an event, JSON in production and readable in a terminal, whichever library speaks.

The documents' own sentences are the `message`; what they are about stands beside it as members: `sfOrderId`, `attempt`,
`step`, `requestId`, `idempotencyKey`, which are bound once for a request or a run, and whatever was passed as `extra`.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars
from structlog.typing import EventDict, Processor

_ENCODER: Final = json.JSONEncoder(default=str, ensure_ascii=False)
_SEPARATORS: Final = {each: f"\\u{each:04x}" for each in (0x85, 0x2028, 0x2029)}

#: What an exception's place in the code shows at most, innermost last.
_FRAMES: Final = 6

begin = clear_contextvars  #: Nothing is bound any more: a thread takes up another request.
bind = bind_contextvars  #: Members of every line of this request or run from now on; one given anew replaces the old.
bound_now = get_contextvars  #: What is bound.


@contextmanager
def bound(**members: Any) -> Iterator[None]:
    """Members of every line within, and of those bound within; afterwards it is as it was before. None is left out."""
    before = get_contextvars()
    bind_contextvars(**{name: value for name, value in members.items() if value is not None})
    try:
        yield
    finally:
        clear_contextvars()
        bind_contextvars(**before)


def formatter(stream: TextIO) -> logging.Formatter:
    """How every line looks on this stream: JSON, and for people where it is a terminal."""
    last: Processor
    if stream.isatty():
        last = structlog.dev.ConsoleRenderer(event_key="message", timestamp_key="time")
    else:
        last = structlog.processors.JSONRenderer(_json)
    return structlog.stdlib.ProcessorFormatter(
        processors=[_members, last],
        foreign_pre_chain=[
            structlog.processors.EventRenamer("message"),  # for `event` is a member of some lines
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ExtraAdder(),
        ],
    )


def _members(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Time, level, logger and message first; what structlog needs for itself goes."""
    record: logging.LogRecord = event.pop("_record")
    event.pop("_from_structlog", None)
    exception = event.pop("exc_info", None)
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": event.pop("message"),
    }
    event.pop("stack_info", None)
    line |= event
    if exception:
        line["exception"] = _where(*exception)
    return line


def _json(line: dict[str, Any], **_options: Any) -> str:
    """One line, also for readers to whom Unicode's own separators end one."""
    return _ENCODER.encode(line).translate(_SEPARATORS)


def _where(kind: type[BaseException] | None, _error: object, trace: TracebackType | None) -> str:
    """The exception's type and where it was raised; never its text, which may quote a request."""
    frames = []
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{kind.__name__ if kind else 'unknown'} at {' > '.join(frames[-_FRAMES:])}"


def set_up_logging(level: int = logging.INFO) -> None:
    """Send everything to stderr in one format; libraries only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(sys.stderr))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("portal").setLevel(level)
    logging.getLogger("jobs").setLevel(level)
    logging.captureWarnings(True)
    # What no line says isn't found out for each (Python's logging HOWTO, "Optimization"); but a format may say thread
    # and process as numbers, as gunicorn's own for syslog does, and then fails where there are none.
    logging._srcfile = None
    logging.logMultiprocessing = False


def log_what_nobody_catches() -> None:
    """From now on an exception that ends a thread or the process is a line of the log, without its text."""
    log = logging.getLogger("portal")

    def of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("An exception ended the process", exc_info=(kind, error, trace))

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            error = args.exc_value or args.exc_type()
            extra = {"in": args.thread.name if args.thread else None}
            ended = (args.exc_type, error, args.exc_traceback)
            log.critical("An exception ended a thread", exc_info=ended, extra=extra)

    sys.excepthook = of_process
    threading.excepthook = of_thread
