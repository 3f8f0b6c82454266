"""The portal over many hosts: two web servers behind nginx, two hosts of workers and sweeps, PostgreSQL, Valkey with a
replica and three Sentinels; and the other sides, on nginx' host.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from sandbox.processes import ROOT
from tests.cluster.hosts import NETWORK, Hosts
from tests.crash.harness import CrashStack, children_of
from tests.deploy.tools import free_port, tool
from tests.postgres import Postgres
from tests.sentinel import SentinelHouse
from tests.stack import PRODUCTION

HOSTS = ("edge", "web", "web2", "worker", "worker2", "data", "data2")
PLACES = {
    "web": "web",
    "web2": "web2",
    "worker": "worker",
    "worker2": "worker2",
    "sweep": "worker",
    "sweep2": "worker2",
}
PORTAL_HOSTS = ("web", "web2", "worker", "worker2")
WEB_PORT = 8001

SETTINGS = {
    **PRODUCTION,
    "PORTAL_BASE_URL": "https://portal.example.com",
    "FULFILLMENT_SLOTS": "3",
    "FULFILLMENT_WAIT_SECONDS": "5",
    "WHMCS_MAX_REQUEST_SECONDS": "3",
    "WEB_CONCURRENCY": "1",
    "WHMCS_AUDIT_SCHEDULE": "86400",
}


class Database:
    """The real PostgreSQL on a host of its own. `Postgres` has made its files."""

    def __init__(self, server: Postgres, hosts: Hosts, name: str) -> None:
        self.address = hosts.addresses[name]
        self._on = hosts.on(name)
        self._bin = Path(str(server.server.bin_path))
        self._data = Path(str(server.server.pgdata))
        self._user = str(server.server.system_user or "")
        self.url = f"postgresql://postgres@{self.address}:5432/{urlsplit(server.database()).path.strip('/')}"
        with (self._data / "pg_hba.conf").open("a", encoding="utf-8") as rules:
            rules.write(f"host all all {NETWORK}.0/24 trust\n")
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user(self._bin / "pg_ctl", "-D", self._data, "-m", "fast", "-w", "stop")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [self._bin / "postgres", "-D", self._data, "-h", self.address, "-p", "5432", "-k", self._data]
        with (self._data.parent / f"{self._data.name}.log").open("ab") as log:
            argv = [
                *self._on,
                "setpriv",
                "--reuid",
                self._user,
                "--regid",
                self._user,
                "--init-groups",
                *map(str, words),
            ]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL doesn't start"
                time.sleep(0.1)

    def stop(self) -> None:
        """End it: connections are cut, nothing that was committed is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def freeze(self, seconds: float) -> None:
        """Stop all its processes for so long: connections stay, and nobody answers."""
        assert self._process is not None
        everybody = [self._process.pid, *children_of(self._process.pid)]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in everybody:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number is signal.SIGSTOP:
                time.sleep(seconds)

    def use_up(self, seconds: float) -> None:
        """Take every connection it has left, and drop all others so that they must be made anew."""
        taken: list[Any] = []
        try:
            with closing(psycopg.connect(self.url, autocommit=True)) as connection:
                mine = connection.info.backend_pid
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> %s", (mine,))
            with suppress(psycopg.OperationalError):
                while len(taken) < 200:
                    taken.append(psycopg.connect(self.url, connect_timeout=2))
            time.sleep(seconds)
        finally:
            for each in taken:
                each.close()

    def _as_user(self, *words: str | Path) -> None:
        argv = ["setpriv", "--reuid", self._user, "--regid", self._user, "--init-groups", *map(str, words)]
        subprocess.run(argv, check=True, capture_output=True, cwd="/")


class ClusterStack(CrashStack):
    """Every process on its host; nginx in front, with the files of deploy/nginx."""

    def __init__(self, folder: Path, hosts: Hosts, database: Database, redis: SentinelHouse) -> None:
        self.hosts = hosts
        settings = {**SETTINGS, "REDIS_URL": redis.url, "TRUSTED_PROXIES": hosts.addresses["edge"]}
        super().__init__(folder, workers=2, sweeps=2, settings=settings, database_url=database.url)
        self.host = hosts.addresses["edge"]
        self.ports["portal"] = free_port()
        self._nginx: subprocess.Popen[bytes] | None = None
        self._forwarders: list[subprocess.Popen[bytes]] = []

    def start(self, patience: float = 120.0) -> None:
        """Bring everything up, nginx first; gives up after `patience` seconds."""
        self._start_nginx()
        super().start(patience)

    def stop(self, grace: float = 20.0) -> None:
        """End everything."""
        super().stop(grace)
        for forwarder in self._forwarders:
            forwarder.kill()
            forwarder.wait()
        self._forwarders = []
        if self._nginx is not None:
            self._nginx.terminate()
            self._nginx.wait(20)
            self._nginx = None

    def answers(self, name: str) -> bool:
        """Whether one web server accepts orders."""
        url = f"http://{self.hosts.addresses[name]}:{WEB_PORT}/health"
        asked = subprocess.run(["curl", "-sf", "-m", "3", "-o", os.devnull, url], check=False)
        return asked.returncode == 0

    def _sandbox_argv(self, name: str, ports: Any) -> list[str]:
        if not self._forwarders:
            self._forward({each: port for each, port in ports.items() if each != "portal"})
        return [*self.hosts.on("edge"), *super()._sandbox_argv(name, ports)]

    def _product_environ(self) -> dict[str, str]:
        # On each host's loopback, from where it is forwarded to the other sides' host.
        here = {name: value.replace(self.host, "127.0.0.1") for name, value in super()._product_environ().items()}
        return {**here, "TRUSTED_PROXIES": self.host, "REDIS_URL": self.settings["REDIS_URL"]}

    def _forward(self, ports: Mapping[str, int]) -> None:
        """Everybody's loopback leads to the other sides, which listen on the loopback of theirs."""
        edge = self.host
        pairs = {name: [f"127.0.0.1:{port}={edge}:{port}" for port in ports.values()] for name in PORTAL_HOSTS}
        pairs["edge"] = [f"{edge}:{port}=127.0.0.1:{port}" for port in ports.values()]
        for name, words in pairs.items():
            argv = [*self.hosts.on(name), sys.executable, "-m", "tests.cluster.forward", *words]
            self._forwarders.append(subprocess.Popen(argv, cwd=ROOT))

    def _product_argv(self, port: int) -> dict[str, list[str]]:
        argv = super()._product_argv(port)
        web = argv.pop("web")[:-1]
        for name in ("web", "web2"):
            argv[name] = [*web, f"{self.hosts.addresses[name]}:{WEB_PORT}"]
        return {name: [*self.hosts.on(PLACES[name]), *words] for name, words in argv.items()}

    def _start_nginx(self) -> None:
        folder = self.var / "nginx"
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        (folder / "log").mkdir(exist_ok=True)
        examples = ROOT / "deploy" / "nginx"
        upstream = (examples / "order-portal-http.conf").read_text("utf-8")
        upstream = upstream.replace("127.0.0.1:8001", f"{self.hosts.addresses['web']}:{WEB_PORT}")
        upstream = upstream.replace("127.0.0.1:8002", f"{self.hosts.addresses['web2']}:{WEB_PORT}")
        server = (examples / "order-portal-server.conf").read_text("utf-8")
        server = server.replace("/var/log/nginx/", f"{folder}/log/")
        server = re.sub(r"(error_log \S+) crit;", r"\1 info;", server)  # who reset whom, for whoever looks for it
        paths = "".join(
            f"{kind}_temp_path {folder}/tmp/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off;\nworker_processes 1;\nuser root;\npid {folder}/pid;\nerror_log {folder}/log/error.log;\n"
            f"events {{ worker_connections 512; }}\nhttp {{\naccess_log off;\n{paths}{upstream}\n"
            f"server {{\nlisten {self.host}:{self.ports['portal']};\n{server}\n"
            "location / {\nproxy_pass http://order_portal;\n}\n}\n}\n",
            encoding="utf-8",
        )
        argv = [*self.hosts.on("edge"), tool("nginx", "Debian's nginx"), "-c", str(folder / "nginx.conf")]
        with (folder / "out").open("wb") as out:
            self._nginx = subprocess.Popen(argv, stdout=out, stderr=out)
