"""nginx and Caddy with the examples of deploy/, changed in nothing but ports, paths and certificates."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.certificates import certificate, private_pem
from tests.deploy.tools import ROOT, free_port, run, said, tool

#: The examples' web servers, in their order.
UPSTREAMS = ("127.0.0.1:8001", "127.0.0.1:8002")

NGINX_SITES = ("site.conf", "site-with-prefix.conf", "site-behind-load-balancer.conf")
CADDYFILES = ("Caddyfile", "Caddyfile.prefix")


def _certificate(folder: Path) -> None:
    """fullchain.pem and privkey.pem of nobody in particular."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "fullchain.pem").write_bytes(certificate(key, "portal.example.com"))
    (folder / "privkey.pem").write_bytes(private_pem(key))


class Proxy:
    """A reverse proxy over a folder; use as a context manager to run it. `port`: where it takes HTTPS."""

    def __init__(self, folder: Path, upstreams: Sequence[str], root: Path) -> None:
        self.folder = folder
        self.upstreams = tuple(upstreams)
        self.root = root
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)

    def faults(self) -> list[str]:
        """What the proxy itself says about its configuration, without running it."""
        raise NotImplementedError

    def _argv(self) -> list[str]:
        raise NotImplementedError

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    def __enter__(self) -> Self:
        with (self.folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._argv(), env=self._environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"the proxy didn't start:\n{self.logs()}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait(10)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def wait_for_health_checks(self) -> None:
        """Until a proxy that finds out by itself which web servers are away has done so."""

    def logs(self) -> str:
        """Everything that was logged."""
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted(self.folder.rglob("*.log")))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        host: str = "portal.example.com",
        source: str = "127.0.0.1",
        before_tls: bytes = b"",
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One HTTPS request: status, headers by lower-case name, body. `source`: the address it comes from."""
        with closing(socket.create_connection(("127.0.0.1", self.port), 30, (source, 0))) as plain:
            plain.sendall(before_tls)
            with closing(_unchecked_tls().wrap_socket(plain, server_hostname=host)) as secure:
                connection = http.client.HTTPConnection(host, 443)
                connection.sock = secure
                connection.request(method, path, body, dict(headers or {}))
                answer = connection.getresponse()
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


class Nginx(Proxy):
    """nginx with one of the sites. `plain_port`: where it takes HTTP, if the site does."""

    def __init__(
        self, folder: Path, site: str = "site.conf", upstreams: Sequence[str] = UPSTREAMS, root: Path = ROOT
    ) -> None:
        super().__init__(folder, upstreams, root)
        self._nginx = tool("nginx", "Debian's nginx")
        self.plain_port = free_port()
        examples = root / "deploy" / "nginx"
        for name in ("conf.d", "snippets", "log", "tmp"):
            (folder / name).mkdir(exist_ok=True)
        _certificate(folder)
        if site == "plesk.conf":
            # Stands for what Plesk writes around it, its own `location /` included.
            text = (
                "server {\n    listen 443 ssl;\n    server_name portal.example.com;\n"
                "    ssl_certificate /etc/letsencrypt/live/x/fullchain.pem;\n"
                "    ssl_certificate_key /etc/letsencrypt/live/x/privkey.pem;\n"
                "    location / {\n        return 418;\n    }\n" + (examples / site).read_text("utf-8") + "}\n"
            ).replace("127.0.0.1:8000", self.upstreams[0])
        else:
            text = (examples / site).read_text(encoding="utf-8")
            self._put("conf.d/order-portal.conf", (examples / "order-portal-http.conf").read_text(encoding="utf-8"))
            self._put("snippets/order-portal.conf", (examples / "order-portal-server.conf").read_text(encoding="utf-8"))
        self._put("site.conf", text)
        user = "user root;\n" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"daemon off;\nworker_processes 1;\n{user}pid {folder}/nginx.pid;\nerror_log {folder}/log/error.log;\n"
            "events { worker_connections 256; }\nhttp {\n"
            "    access_log off;\n"
            + "".join(
                f"    {kind}_temp_path {folder}/tmp/{kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + f"    include {folder}/conf.d/*.conf;\n    include {folder}/site.conf;\n}}\n",
            encoding="utf-8",
        )

    def _put(self, name: str, text: str) -> None:
        text = re.sub(r"/etc/letsencrypt/live/[^/]+", str(self.folder), text)
        text = text.replace("/etc/nginx/", f"{self.folder}/").replace("/var/log/nginx/", f"{self.folder}/log/")
        for example, real in zip(UPSTREAMS, self.upstreams, strict=True):
            text = text.replace(f"server {example} ", f"server {real} ")
        text = re.sub(r"listen (\[::\]:)?443\b", rf"listen \g<1>{self.port}", text)
        text = re.sub(r"listen (\[::\]:)?80;", rf"listen \g<1>{self.plain_port};", text)
        if not _has_ipv6():
            text = re.sub(r"^ *listen \[::\].*\n", "", text, flags=re.MULTILINE)
        (self.folder / name).write_text(text, encoding="utf-8")

    def faults(self) -> list[str]:
        """`nginx -t`; a warning counts."""
        tested = run([self._nginx, "-t", "-q", "-c", self.folder / "nginx.conf"])
        return said(tested) or ([tested.stdout.strip()] if tested.stdout.strip() else [])

    def _argv(self) -> list[str]:
        return [self._nginx, "-c", str(self.folder / "nginx.conf")]


class Caddy(Proxy):
    """Caddy with one of the Caddyfiles, its certificate from an authority of its own instead of a public one."""

    def __init__(
        self, folder: Path, name: str = "Caddyfile", upstreams: Sequence[str] = UPSTREAMS, root: Path = ROOT
    ) -> None:
        super().__init__(folder, upstreams, root)
        self._caddy = tool("caddy", "Debian's caddy")
        self._file = root / "deploy" / "caddy" / name
        self.host = "www.example.com" if name.endswith(".prefix") else "portal.example.com"

    def faults(self) -> list[str]:
        """`caddy validate` of the file as it is."""
        argv = [self._caddy, "validate", "--adapter", "caddyfile", "--config", str(self._file)]
        return said(run(argv, env=self._environ()))

    def wait_for_health_checks(self) -> None:
        """Until Caddy has noticed that the first web server isn't there."""
        deadline = time.monotonic() + 30
        while f'"host":"{self.upstreams[0]}"' not in self.logs():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def _listens(self) -> bool:
        """It takes connections before it has made its certificate, and refuses them until then."""
        if not super()._listens():
            return False
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), 1)) as plain:
                _unchecked_tls().wrap_socket(plain, server_hostname=self.host).close()
        except OSError:
            return False
        return True

    def _environ(self) -> dict[str, str]:
        return {
            **super()._environ(),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }

    def _argv(self) -> list[str]:
        mine = (
            "\tadmin off\n\tskip_install_trust\n\tlocal_certs\n\tdefault_bind 127.0.0.1\n"
            "\tauto_https disable_redirects\n"
        )
        text = self._file.read_text(encoding="utf-8").replace("\n{\n", "\n{\n" + mine, 1)
        text = re.sub(r"\{\$PORTAL_HOST:[^}]*\}", f"{self.host}:{self.port}", text)
        text = re.sub(r"\{\$PORTAL_UPSTREAMS:[^}]*\}", " ".join(self.upstreams), text)
        (self.folder / "Caddyfile").write_text(text, encoding="utf-8")
        return [self._caddy, "run", "--adapter", "caddyfile", "--config", str(self.folder / "Caddyfile")]


def _unchecked_tls() -> ssl.SSLContext:
    """For a certificate nobody knows."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _has_ipv6() -> bool:
    try:
        with closing(socket.socket(socket.AF_INET6)) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
