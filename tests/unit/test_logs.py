"""One line an event, in one format, whoever speaks; what a request or a run is about stands in each of its lines."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from portal import logs

CANARY = "canary-7f3a"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _nothing_bound() -> Iterator[None]:
    logs.begin()
    yield
    logs.begin()


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    made = io.StringIO()
    yield from speaking(made)


def speaking(made: io.StringIO) -> Iterator[io.StringIO]:
    handler = logging.StreamHandler(made)
    handler.setFormatter(logs.formatter(made))
    root = logging.getLogger("test_logs")
    root.addHandler(handler)
    root.propagate = False
    root.setLevel(logging.INFO)
    yield made
    root.removeHandler(handler)


log = logging.getLogger("test_logs.here")


def test_a_line_has_its_sentence_first_and_its_members_beside_it(stream: io.StringIO) -> None:
    log.info("Webhook refused", extra={"event": "invalid_signature", "seconds": 1.5, "odd": object})
    [line] = lines_of(stream)
    assert list(line)[:4] == ["time", "level", "logger", "message"]
    assert (line["level"], line["logger"], line["message"]) == ("info", "test_logs.here", "Webhook refused")
    assert line["event"] == "invalid_signature"
    assert line["seconds"] == 1.5
    assert not [name for name in line if name.startswith("_") or name in ("args", "taskName", "positional_args")]


def test_what_is_bound_stands_in_every_line_of_its_thread(stream: io.StringIO) -> None:
    with logs.bound(sfOrderId="801", attempt=2, requestId=None):
        logs.bind(step="mapping")
        log.info("one")
        log.info("two", extra={"step": "whmcs_create"})
        with ThreadPoolExecutor(1) as pool:
            pool.submit(log.info, "of another thread").result()
        with logs.bound(sfOrderId="802"):
            log.info("within")
    log.info("after")
    one, two, other, within, after = lines_of(stream)
    assert (one["sfOrderId"], one["attempt"], one["step"]) == ("801", 2, "mapping")
    assert two["step"] == "whmcs_create"
    assert within["sfOrderId"] == "802"
    for line in (other, after):
        assert not {"sfOrderId", "attempt", "step"} & set(line)
    assert "requestId" not in one


def test_what_was_bound_before_comes_back_though_something_was_raised(stream: io.StringIO) -> None:
    logs.bind(requestId="r")
    with pytest.raises(ZeroDivisionError), logs.bound(sfOrderId="801", requestId="s"):
        raise ZeroDivisionError
    log.info("after")
    [line] = lines_of(stream)
    assert line["requestId"] == "r"
    assert "sfOrderId" not in line


def test_an_exception_is_its_type_and_place_never_its_text(stream: io.StringIO) -> None:
    try:
        raise ValueError(f"{CANARY} said the other side")
    except ValueError:
        log.exception("A chore failed")
    [line] = lines_of(stream)
    assert line["exception"].startswith("ValueError at ")
    assert "test_logs.py:" in line["exception"]
    assert CANARY not in stream.getvalue()


def test_newlines_and_control_characters_make_no_second_line(stream: io.StringIO) -> None:
    log.info('evil\n{"level":"info","message":"forged"}\x1b[31m\r', extra={"name_": "a\nb\u2028c"})
    [line] = lines_of(stream)
    assert "forged" in line["message"]
    assert stream.getvalue().count("\n") == 1


def test_a_terminal_gets_lines_for_people() -> None:
    for made in speaking(Terminal()):
        with logs.bound(sfOrderId="801"):
            log.warning("Order waits", extra={"seconds": 5})
        text = made.getvalue()  # type: ignore[attr-defined]
        assert not text.startswith("{")
        for word in ("Order waits", "801", "seconds"):
            assert word in text


PROGRAM = f"""
import logging, threading, warnings
from portal.logs import bind, log_what_nobody_catches, set_up_logging
set_up_logging()
log_what_nobody_catches()
bind(requestId="r")
logging.getLogger("portal.x").info("ours")
logging.getLogger("urllib3").info("too little")
logging.getLogger("urllib3").warning("a library's %s", "words")
warnings.warn("old")
def fail():
    raise ValueError("{CANARY}")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


def test_every_line_of_a_process_is_in_the_same_format() -> None:
    """The portal's, a library's, a warning, and exceptions that nobody caught, in a thread and at the end."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["message"] for line in lines[:2]] == ["ours", "a library's words"]
    assert lines[0]["requestId"] == lines[1]["requestId"] == "r"
    assert [line["logger"] for line in lines[2:]] == ["py.warnings", "portal", "portal"]
    assert [line["level"] for line in lines[3:]] == ["critical", "critical"]
    assert all(line["exception"].startswith("ValueError at ") for line in lines[3:])
    assert CANARY not in ended.stderr


OTHERS = """
import logging, sys
from gunicorn.glogging import Logger
from portal.logs import set_up_logging
set_up_logging()
handler = logging.StreamHandler(sys.stdout)
python = "%(levelno)d %(lineno)d %(created)f %(msecs)d %(relativeCreated)d %(thread)d %(process)d %(threadName)s"
for form in (Logger.syslog_fmt, Logger.error_fmt, python):
    handler.setFormatter(logging.Formatter(form + " end"))
    handler.handle(logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "said", (), None))
"""


def test_formats_of_others_can_still_say_what_ours_does_not() -> None:
    """gunicorn's for syslog (--log-syslog), which isn't ours to replace, and any that names numbers."""
    ended = subprocess.run([sys.executable, "-c", OTHERS], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == ""
    assert [line.endswith(" end") for line in ended.stdout.splitlines()] == [True] * 3
