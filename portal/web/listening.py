"""How a web server stops listening without a reset: the kernel takes new connections for it until the socket is closed.

Whoever was let in by the kernel and not yet by us would be reset then ("recv() failed (104)" in nginx' log), with a
request sent already that no proxy may send again. So the kernel is told to let nobody in any more: it drops the first
packet (SYN) of whoever comes, who tries again a second later, finds the socket closed and goes elsewhere. Who has been
let in is taken meanwhile.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

_SO_ATTACH_FILTER: Final = 26
#: Classic BPF over a TCP segment: drop it when its SYN flag is set, else let it pass.
_DROP_SYN: Final = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF_FFFF))


def let_nobody_in(listener: Any) -> None:
    """From now on the kernel takes no new TCP connection on this listening socket, in whichever process it is open.

    Those it has taken can still be accepted. Where the system can't do that (it is no Linux), nothing happens.
    """
    if sys.platform != "linux" or listener.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = b"".join(struct.pack("HBBI", *each) for each in _DROP_SYN)
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(buffer))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
    except OSError:
        return


def stop_softly(arbiter: Any) -> None:
    """Have gunicorn's master let nobody in before it stops; to be called when it is ready.

    Not where the socket will go on being listened on: by the next master (USR2), or because it is systemd's.
    """
    stop: Callable[[bool], None] = arbiter.stop

    def softly(graceful: bool = True) -> None:
        if arbiter.reexec_pid == arbiter.master_pid == 0 and not arbiter.systemd:
            listeners: Iterable[Any] = arbiter.LISTENERS
            for each in listeners:
                let_nobody_in(each.sock)
        stop(graceful)

    arbiter.stop = softly
