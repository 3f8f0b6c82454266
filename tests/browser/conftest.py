"""Chromium for the pages' tests: Debian's, driven by Playwright, with htmx from a file instead of from its CDN."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from portal.web.security_headers import HTMX_URL
from tests.stack import Stack

HTMX = Path(__file__).with_name("htmx-2.0.11.min.js")
SCREENSHOTS = Path(__file__).parents[2] / "var" / "screenshots"

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]

Visit = Callable[..., AbstractContextManager["Tab"]]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser of this session; skipped where there is none (`apt-get install chromium`)."""
    path = os.environ.get("CHROMIUM") or next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or name it in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Tab:
    """One page with everything it asked for and complained about."""

    def __init__(self, context: BrowserContext, page: Page, portal: str) -> None:
        self.context, self.page, self.portal = context, page, portal
        self.asked: list[str] = []  # "GET /path" of every request to the portal, in order
        self.complaints: list[str] = []
        page.on("request", self._note)
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))

    def _note(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if f"{parts.scheme}://{parts.netloc}" == self.portal:
            self.asked.append(f"{request.method} {parts.path}")

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def go(self, path: str) -> Tab:
        """Load a page of the portal."""
        self.page.goto(f"{self.portal}{path}")
        return self

    def text(self) -> str:
        """What a reader sees."""
        return self.page.locator("body").inner_text()

    def waits_for(self, text: str, seconds: float = 30) -> None:
        """Until the page shows it."""
        self.page.get_by_text(text).first.wait_for(timeout=seconds * 1000)

    def shot(self, name: str) -> None:
        """Keep a screenshot of the whole page."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, animations="disabled")


@pytest.fixture
def visit(chromium: Browser, stack: Stack) -> Visit:
    """Open tabs of the browser.

    `with visit(session=…, scheme="dark", width=390) as tab:`

    cdn: "file" (htmx comes), "blocked" (its host can't be reached), "changed" (another file comes). locale: the
    browser's, whose language it asks for. Further arguments are Playwright's for a context. The tab must have no
    complaints at its end unless `complaints=True`.
    """

    @contextmanager
    def open_tab(
        *,
        session: str = "",
        scheme: Literal["light", "dark"] = "light",
        width: int = 1280,
        cdn: str = "file",
        complaints: bool = False,
        portal: str = "",
        locale: str = "en-GB",
        **more: Any,
    ) -> Iterator[Tab]:
        portal = portal or stack.urls["portal"]
        context = chromium.new_context(
            color_scheme=scheme,
            viewport={"width": width, "height": 844 if width < 700 else 800},
            locale=locale,
            timezone_id="Europe/Berlin",
            **more,
        )
        inside = tuple(stack.urls.values()) + (portal,)

        def elsewhere(route: Route) -> None:
            if route.request.url == HTMX_URL and cdn != "blocked":
                body = HTMX.read_text(encoding="utf-8") + ("\n//" if cdn == "changed" else "")
                route.fulfill(body=body, content_type="text/javascript", headers={"Access-Control-Allow-Origin": "*"})
            else:
                route.abort()

        context.route(lambda url: not url.startswith(inside), elsewhere)
        if session:
            context.add_cookies([{"name": "portal_session", "value": session, "url": portal}])
        context.set_default_timeout(30_000)
        tab = Tab(context, context.new_page(), portal)
        try:
            yield tab
            if not complaints:
                assert tab.complaints == []
        finally:
            context.close()

    return open_tab
