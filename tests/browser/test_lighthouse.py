"""What others measure pages by: Lighthouse finds nothing on catalogue and order page, html-validate on no page at all.

Both come from npm, pinned in npm/package-lock.json. The CDN is played on this machine, from the file beside this one.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask

from portal.customers.visitor import ACCOUNT_COOKIE
from portal.web.security_headers import HTMX_URL
from tests.browser.conftest import HTMX
from tests.browser.test_every_page import switched_on
from tests.certificates import tls_server
from tests.customers import SITUATIONS, make_order, make_session
from tests.customers_in_process import base_url, browser, call
from tests.npm_packages import install
from tests.stack import Stack

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
CATEGORIES = ("accessibility", "best-practices", "seo")


@pytest.fixture(scope="module")
def packages() -> Path:
    return install(HERE / "npm", HERE.parents[1] / "var" / "test-browser")


@pytest.fixture(scope="module")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("Node isn't installed")
    return path


@pytest.fixture(scope="module")
def cdn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port at which this machine plays the CDN."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = HTMX.read_bytes() if self.path == urlsplit(HTMX_URL).path else b""
            self.send_response(200 if body else 404)
            for name, value in (
                ("Content-Type", "text/javascript"),
                ("Content-Length", str(len(body))),
                ("Access-Control-Allow-Origin", "*"),
                ("Cache-Control", "public, max-age=31536000"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context, _ = tls_server(tmp_path_factory.mktemp("cdn"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def lighthouse(node: str, packages: Path, url: str, cookie: str, cdn: int, tmp_path: Path) -> dict[str, Any]:
    """Lighthouse's report of a page."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--ignore-certificate-errors",
        f"--host-resolver-rules='MAP {urlsplit(HTMX_URL).hostname}:443 127.0.0.1:{cdn}'",
    ]
    report = tmp_path / "report.json"
    headers = tmp_path / "headers.json"
    headers.write_text(json.dumps({"Cookie": f"{ACCOUNT_COOKIE}={cookie}"} if cookie else {}), encoding="utf-8")
    done = subprocess.run(
        [
            node,
            str(packages / "lighthouse" / "cli" / "index.js"),
            url,
            f"--only-categories={','.join(CATEGORIES)}",
            "--output=json",
            f"--output-path={report}",
            "--quiet",
            f"--extra-headers={headers}",
            f"--chrome-flags={' '.join(flags)}",
        ],
        env={**os.environ, "CHROME_PATH": chromium, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert report.exists(), done.stderr[-2000:]
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("page", ["catalogue", "order"])
def test_lighthouse_gives_a_hundred(
    node: str, packages: Path, cdn: int, app: Flask, stack: Stack, tmp_path: Path, page: str
) -> None:
    path = "/" if page == "catalogue" else f"/orders/{make_order(app, stack, SITUATIONS['activating']).reference}"
    cookie = "" if page == "catalogue" else make_session(app, stack)
    report = lighthouse(node, packages, stack.urls["portal"] + path, cookie, cdn, tmp_path)
    assert urlsplit(report["finalDisplayedUrl"]).path == path, "it measured another page"
    failed = {
        name: audit["displayValue"] if audit.get("displayValue") else audit.get("details", {}).get("items")
        for name, audit in report["audits"].items()
        if audit["score"] is not None and audit["score"] < 1 and audit["scoreDisplayMode"] != "informative"
    }
    scores = {name: report["categories"][name]["score"] for name in CATEGORIES}
    assert scores == dict.fromkeys(CATEGORIES, 1), failed


def test_lighthouse_would_find_something(node: str, packages: Path, cdn: int, stack: Stack, tmp_path: Path) -> None:
    """The control: the pretend WHMCS' page has no description for search engines."""
    report = lighthouse(node, packages, stack.urls["whmcs"], "", cdn, tmp_path)
    assert report["categories"]["seo"]["score"] < 1


# --- html-validate -----------------------------------------------------------------------------------------------


def pages_of(app: Flask, stack: Stack) -> dict[str, str]:
    """Every page whose HTML differs from others' in kind, by name."""
    nobody, ada = browser(app), browser(app, **{ACCOUNT_COOKIE: make_session(app, stack)})
    found = {
        "catalogue": call(nobody, "GET", "/").text,
        "basket-empty": call(nobody, "GET", "/basket").text,
        "sign-in": call(nobody, "GET", "/sign-in").text,
        "not-found": call(nobody, "GET", "/nothing").text,
        "orders": call(ada, "GET", "/orders").text,
        "account": call(ada, "GET", "/account").text,
    }
    entries = {"entry": stack.ids["entry:starter"], "domain": "one.example, zwei.example"}
    for fields in (entries, {"entry": stack.ids["entry:support"], "quantity": "0"}):
        token = call(ada, "GET", "/").text.split('name="csrf_token" value="')[1].split('"')[0]
        answer = ada.post("/basket/add", base_url=base_url(app), data={**fields, "csrf_token": token})
        found[f"added-{answer.status_code}"] = answer.text
    found |= {"basket": call(ada, "GET", "/basket").text, "review": call(ada, "GET", "/checkout").text}
    for name, situation in SITUATIONS.items():
        reference = make_order(app, stack, situation).reference
        found[f"order-{name}"] = call(ada, "GET", f"/orders/{reference}").text
        for rest in ("placed", "withdraw"):
            if name == "pending-review":
                found[f"order-{rest}"] = call(ada, "GET", f"/orders/{reference}/{rest}").text
    return found


def test_html_validate_finds_nothing(node: str, packages: Path, app: Flask, stack: Stack, tmp_path: Path) -> None:
    pages = pages_of(app, stack)
    del pages["added-303"]  # a redirect's own few words are Werkzeug's
    with switched_on(stack) as (site, _, paths):
        ada = browser(site.app, **{ACCOUNT_COOKIE: site.session})
        pages |= {f"switched-on-{name}": call(ada, "GET", path).text for name, path in paths.items()}
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
    found = validate(node, packages, tmp_path)
    assert found == {}
    (tmp_path / "control.html").write_text("<!doctype html><p><div></p>", encoding="utf-8")
    assert "control.html" in validate(node, packages, tmp_path), "it would find something"


def validate(node: str, packages: Path, folder: Path) -> dict[str, list[str]]:
    """What html-validate says of a folder's pages, by file."""
    done = subprocess.run(
        [
            node,
            str(packages / "html-validate" / "bin" / "html-validate.mjs"),
            f"--config={HERE / 'npm' / 'htmlvalidate.json'}",
            "--formatter=json",
            *map(str, sorted(folder.glob("*.html"))),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.startswith("["), done.stderr[-2000:]
    return {
        Path(each["filePath"]).name: [
            f"{message['line']}: {message['ruleId']}: {message['message']}" for message in each["messages"]
        ]
        for each in json.loads(done.stdout)
        if each["messages"]
    }
