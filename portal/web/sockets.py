"""What stands in for a connection's socket where gunicorn reads from it or answers on it."""

from __future__ import annotations

import errno
import socket

from gunicorn.http.unreader import SocketUnreader


class Kept(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's source of bytes, with those that have come already and no others: reading never waits."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        super().__init__(sock)
        self.sock = None  # nothing is read from it any more, so nobody need set how long that may take
        self.buf.write(data)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """No bytes: there are none but those that have come."""
        return b""


class Gathered:
    """Stands in for a connection's socket in a batch: keeps what is sent, so that head and body go out together."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.sent = b""
        self.ended = False  # gunicorn wants the connection ended

    def setblocking(self, _flag: bool) -> None:
        """Nothing is read or sent here."""

    def sendall(self, data: bytes) -> None:
        """Keep the bytes."""
        self.sent += data

    def send(self, data: bytes) -> int:
        """Keep the bytes."""
        self.sent += data
        return len(data)

    def shutdown(self, _how: int) -> None:
        """The loop ends connections, and drains them: gunicorn needn't. Raises OSError, for it to go no further."""
        self.ended = True
        raise OSError(errno.ENOTCONN, "the loop ends it")

    def close(self) -> None:
        """The loop ends connections."""
        self.ended = True

    def flush(self) -> bytes:
        """Send what was kept, without waiting; gives what is left, because the client is slow to read."""
        try:
            return self.sent[self._sock.send(self.sent) :]
        except BlockingIOError:
            return self.sent


class Caught:
    """Stands in for a socket, to find out what gunicorn would have answered."""

    def __init__(self) -> None:
        self.sent = b""

    def gettimeout(self) -> float:
        """As a socket that never waits."""
        return 0.0

    def sendall(self, data: bytes) -> None:
        """Keep the bytes."""
        self.sent += data
