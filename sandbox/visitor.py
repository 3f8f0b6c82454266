"""A customer without a browser: follows links, fills in forms, keeps cookies; knows only what the pages say."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from types import TracebackType
from typing import Self
from urllib.parse import urlencode, urljoin, urlsplit


@dataclass
class Form:
    """A form of a page: where it goes, and what it would send as it stands."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Element:
    """A start tag and its attributes."""

    tag: str
    attributes: dict[str, str]


class Page(HTMLParser):
    """An answer with what can be done on it."""

    def __init__(self, url: str, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__()
        self.url, self.status, self.headers, self.body = url, status, headers, body
        self.html = body.decode("utf-8", "replace")
        self.forms: list[Form] = []
        self.elements: list[Element] = []
        self._text: list[str] = []
        self._unseen = 0
        if "html" in headers.get("content-type", ""):
            self.feed(self.html)
            self.close()

    @property
    def text(self) -> str:
        """What a reader reads, in one line."""
        return " ".join(" ".join(self._text).split())

    def form(self, *ends: str) -> Form:
        """The first form whose address ends so. Raises LookupError."""
        for form in self.forms:
            if urlsplit(form.action).path.endswith(ends):
                return form
        raise LookupError(f"{self.url} ({self.status}) has no form for {ends}: {self.text[:500]}")

    def with_attribute(self, name: str) -> Iterator[Element]:
        """Elements that have this attribute."""
        return (element for element in self.elements if name in element.attributes)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes forms, their fields, and every element."""
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append(Element(tag, attributes))
        if tag in ("script", "style", "title"):
            self._unseen += 1
        if tag == "form":
            action = urljoin(self.url, attributes.get("action", ""))
            self.forms.append(Form(action, attributes.get("method", "get").upper()))
        elif tag in ("input", "select", "textarea") and self.forms and "name" in attributes:
            ticked = attributes.get("type") not in ("checkbox", "radio") or "checked" in attributes
            if ticked and attributes.get("type") not in ("submit", "button"):
                self.forms[-1].fields[attributes["name"]] = attributes.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        """Leaves what isn't shown."""
        if tag in ("script", "style", "title"):
            self._unseen -= 1

    def handle_data(self, data: str) -> None:
        """Collects what is shown."""
        if not self._unseen:
            self._text.append(data)


class Visitor:
    """One browser's worth of cookies, over connections that are kept open; close it when done."""

    def __init__(self) -> None:
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self._cookies: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections.values():
            connection.close()

    def cookie(self, url: str, name: str) -> str:
        """What the server of an address has set."""
        return self._cookies[urlsplit(url).netloc][name]

    def get(self, url: str, headers: dict[str, str] | None = None) -> Page:
        """GET, following redirects."""
        return self._follow("GET", url, None, headers or {})

    def submit(self, form: Form, **values: str) -> Page:
        """Send a form with these values filled in, following redirects."""
        data = urlencode({**form.fields, **values})
        if form.method == "GET":
            return self.get(f"{form.action.partition('?')[0]}?{data}")
        parts = urlsplit(form.action)
        return self._follow(
            "POST",
            form.action,
            data.encode(),
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Origin": f"{parts.scheme}://{parts.netloc}",
                "Referer": form.action,
            },
        )

    def _follow(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Page:
        for _ in range(10):
            page = self._request(method, url, body, headers)
            if page.status not in (301, 302, 303, 307, 308):
                return page
            url = urljoin(url, page.headers["location"])
            if page.status in (301, 302, 303):
                method, body, headers = "GET", None, {}
        raise LookupError(f"{url} redirects without end")

    def _request(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Page:
        parts = urlsplit(url)
        cookies = self._cookies.setdefault(parts.netloc, {})
        if cookies:
            headers = {**headers, "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        for attempt in (1, 2):
            connection = self._connections.get(parts.netloc)
            fresh = connection is None
            if connection is None:
                connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=90)
                self._connections[parts.netloc] = connection
            try:
                connection.request(method, target, body, headers)
                response = connection.getresponse()
                content = response.read()
                break
            except (ConnectionError, http.client.HTTPException):
                # The server may have closed a connection that was kept open; on a new one it is an error.
                self._connections.pop(parts.netloc).close()
                if fresh or attempt == 2:
                    raise
        for name, value in response.getheaders():
            if name.lower() == "set-cookie":
                for morsel in SimpleCookie(value).values():
                    if morsel.value and morsel["max-age"] != "0":
                        cookies[morsel.key] = morsel.coded_value
                    else:
                        cookies.pop(morsel.key, None)
        return Page(url, response.status, {name.lower(): value for name, value in response.getheaders()}, content)
