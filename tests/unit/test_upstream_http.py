"""What the upstream clients' HTTP layer makes of texts and headers, without a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.clients.http import is_loopback
from portal.clients.redaction import MAX_MESSAGE_CHARACTERS, redact
from portal.clients.transport import retry_after_seconds

NOON = 1_795_262_400.0  # 2026-11-21T12:00:00Z


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("17", 17.0),
        (" 5 ", 5.0),
        ("999999999", 86_400.0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("1e9", None),
        ("soon", None),
        ("٣", None),
        ("Sat, 99 Nov 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=NOON) == seconds


@given(st.text(max_size=60))
def test_retry_after_takes_anything(header: str) -> None:
    seconds = retry_after_seconds(header, now=NOON)
    assert seconds is None or 0 <= seconds <= 86_400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Client ID Not Found", "Client ID Not Found"),
        ("Invalid IP 203.0.113.9", "Invalid IP 203.0.113.9"),
        ("A user already exists with jane@example.com.", "A user already exists with [e-mail]"),
        ("login failed for u, password=hunter2 at node1", "login failed for u, password=[removed] at node1"),
        ('{"password": "hunter2", "x": 1}', '{"password": [removed], "x": 1}'),
        ("the password is hunter2", "the password is [removed]"),
        ("The Password field is required.", "The Password field is required."),
        ("Authorization: Bearer abc.def.ghijkl", "Authorization: Bearer [removed]"),
        ("sent Bearer abcdefghijkl to them", "sent Bearer [removed] to them"),
        ("access_token=00Dxx!AQ next", "access_token=[removed] next"),
        ("two\r\nlines\x00 \t here", "two lines here"),
        ("contains S3CRET-canary twice: s3cret-CANARY", "contains [removed] twice: [removed]"),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    assert redact(text, ["s3cret-canary", ""]) == expected


@given(st.text(max_size=2000), st.lists(st.text(min_size=3, max_size=20), max_size=3))
def test_redacted_texts_are_short_and_on_one_line(text: str, secrets: list[str]) -> None:
    said = redact(text, secrets)
    assert len(said) <= MAX_MESSAGE_CHARACTERS
    assert said == "" or said.isprintable()


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_secret_never_survives(before: str, after: str) -> None:
    assert "canary-77ab" not in redact(f"{before}canary-77ab{after}", ["canary-77ab"])


def test_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "localhost", "::1"))
    assert not any(is_loopback(host) for host in ("127.0.0.1.evil.example", "10.0.0.1", "", "localhost.evil.example"))
