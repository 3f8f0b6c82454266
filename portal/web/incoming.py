"""Tells when the bytes of an HTTP request are all there, before the request gets a thread (portal.web.server)."""

from __future__ import annotations

import re
from typing import Final

MAX_HEAD: Final = 32 * 1024
#: Nothing the portal takes is larger; what is gets its refusal without being read to its end.
MAX_BODY: Final = 64 * 1024

_BARE_LF = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"[0-9]{1,12}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[^\r\n]*)?")


class Incoming:
    """The bytes of one request (and perhaps of the next) as they come in.

    Knows of HTTP's framing only what tells when a request is whole. Where that is in doubt, or too much, it says
    `complete` with `whole` False: gunicorn then refuses what is there, and the connection ends.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.whole = False
        self.head_too_large = False
        self.wants_continue = False
        self._searched = 0
        self._body_at = -1
        self._length = 0
        self._chunk_at = -1  # where the next chunk's size line starts

    def complete(self) -> bool:
        """Whether to hand it on: asked after every arrival of bytes."""
        if self._body_at < 0:
            at = self.data.find(b"\r\n\r\n", max(0, self._searched - 3))
            if at < 0:
                doubtful = _BARE_LF.search(self.data, max(0, self._searched - 1)) is not None
                self._searched = len(self.data)
                self.head_too_large = len(self.data) > MAX_HEAD
                return doubtful or self.head_too_large
            self._body_at = at + 4
            if not self._read_head(bytes(self.data[:at])):
                return True
        if self._chunk_at < 0:
            self.whole = len(self.data) >= self._body_at + self._length
            return self.whole
        return self._follow_chunks()

    def _read_head(self, head: bytes) -> bool:
        """Learn where the body ends; False when that is in doubt or too far."""
        lengths, codings = [], []
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip(b" \t").lower()
            if name == b"content-length":
                lengths.append(value)
            elif name == b"transfer-encoding":
                codings.append(value)
            elif name == b"expect":
                self.wants_continue = value == b"100-continue"
        if codings:
            self._chunk_at = self._body_at
            return codings == [b"chunked"] and not lengths
        if lengths:
            if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
                return False
            self._length = int(lengths[0])
        return self._length <= MAX_BODY

    def _follow_chunks(self) -> bool:
        while True:
            if len(self.data) - self._body_at > 2 * MAX_BODY:
                return True
            line_end = self.data.find(b"\r\n", self._chunk_at)
            if line_end < 0:
                return len(self.data) - self._chunk_at > 1024
            size = _CHUNK_SIZE.fullmatch(bytes(self.data[self._chunk_at : line_end]))
            if size is None:
                return True
            length = int(size.group(1), 16)
            if length == 0:
                trailers_end = self.data.find(b"\r\n\r\n", line_end)
                self.whole = trailers_end >= 0
                return self.whole
            after = line_end + 2 + length
            if length > MAX_BODY:
                return True
            if len(self.data) < after + 2:
                return False
            if self.data[after : after + 2] != b"\r\n":
                return True
            self._chunk_at = after + 2
