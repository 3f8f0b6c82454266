"""What the server's event loop takes for a whole request: no more of HTTP than that, nothing kept waiting in doubt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.web.incoming import MAX_BODY, MAX_HEAD, Incoming

HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\n"


def chunks(*sizes: int, trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (size, b"\r" * size) for size in sizes) + b"0\r\n" + trailer + b"\r\n"


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = [
    b"GET / HTTP/1.0\r\n\r\n",
    HEAD + b"\r\n",
    b"\r\n" + HEAD + b"\r\n",
    HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"content-length: 11\r\n\r\nhello\r\n\r\nxx",
    CHUNKED + chunks(),
    CHUNKED + chunks(5, 300, 1),
    CHUNKED + chunks(5, trailer=b"X: y\r\nZ: \r\n"),
    CHUNKED.replace(b"chunked", b"Chunked") + b"3;a=b\r\nabc\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", WHOLE)
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_bytes: bytes) -> None:
    incoming = Incoming()
    for at in range(len(request_bytes)):
        assert not incoming.complete(), at
        incoming.data += request_bytes[at : at + 1]
    assert incoming.complete()
    assert incoming.whole


@given(st.sampled_from(WHOLE), st.lists(st.integers(1, 40), min_size=1, max_size=30), st.binary(max_size=50))
def test_in_whatever_pieces_it_comes_and_whatever_follows(request_bytes: bytes, sizes: list[int], next_: bytes) -> None:
    incoming, at = Incoming(), 0
    while at < len(request_bytes):
        size = sizes[at % len(sizes)]
        incoming.data += request_bytes[at : at + size]
        at += size
    incoming.data += next_
    assert incoming.complete()
    assert incoming.whole
    assert incoming.data == request_bytes + next_


@pytest.mark.parametrize(
    "doubtful",
    [
        HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        HEAD + b"Content-Length: +5\r\n\r\n",
        HEAD + b"Content-Length: \r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1),
        CHUNKED + b"x\r\n",
        CHUNKED + b"3\r\nabcd\r\n",
        CHUNKED + b"%x\r\n" % (MAX_BODY + 1),
        CHUNKED + b"1" * 2000,
        b"GET / HTTP/1.1\nHost: x\n\n",
        HEAD + b"X: y\n",
        b"x" * (MAX_HEAD + 1),
    ],
)
def test_what_is_doubtful_or_too_much_is_handed_on_at_once_and_never_as_whole(doubtful: bytes) -> None:
    incoming = Incoming(doubtful)
    assert incoming.complete()
    assert not incoming.whole


@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes) -> None:
    for start in (b"", HEAD, CHUNKED):
        Incoming(start + data).complete()
