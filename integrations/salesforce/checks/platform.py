"""What of Salesforce's platform a callout needs: texts, JSON, hashes (openssl's), the clock, HTTP, named credentials.

Imports nothing of the product. HMACs are openssl's, so that no library of the product's language vouches for itself.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from integrations.salesforce.checks.apex import Unsupported
from integrations.salesforce.checks.runtime import Runtime, Thrown, read_classes

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "force-app" / "main" / "default"
_JAVA_DATES = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S", "EEE": "%a", "MMM": "%b"}


def hmac_sha256(data: bytes, key: bytes) -> bytes:
    """openssl's HMAC-SHA256."""
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary"],
        input=data,
        capture_output=True,
        check=True,
        timeout=30,
    )
    return done.stdout


def text_of(value: Any) -> str:
    """What `'' + value` gives in Apex."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def method_of(owner: Any, name: str) -> Callable[..., Any]:
    """A method of a platform value. Raises Unsupported for one that isn't re-enacted."""
    lower = name.lower()
    if isinstance(owner, str) and lower in _STRING:
        return lambda *given: _STRING[lower](owner, *given)
    if isinstance(owner, bool | int) and lower in ("intvalue", "longvalue"):
        return lambda: owner
    if isinstance(owner, dict) and lower in ("get", "put", "containskey"):
        return {"get": owner.get, "put": owner.__setitem__, "containskey": owner.__contains__}[lower]
    if isinstance(owner, list) and lower in ("add", "size"):
        return {"add": owner.append, "size": owner.__len__}[lower]
    if not isinstance(owner, str | int | dict | list) and hasattr(owner, lower):
        return getattr(owner, lower)  # type: ignore[no-any-return]
    if owner is not None and lower == "tostring":
        return lambda: text_of(owner)
    raise Unsupported(f"{type(owner).__name__}.{name}()")


def _utf16(text: str) -> list[int]:
    raw = text.encode("utf-16-be", "surrogatepass")
    return [raw[i] << 8 | raw[i + 1] for i in range(0, len(raw), 2)]


def _from_utf16(units: list[int]) -> str:
    return b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be", "surrogatepass")


#: Apex texts are UTF-16: lengths and positions count its units.
_STRING: dict[str, Callable[..., Any]] = {
    "length": lambda text: len(_utf16(text)),
    "charat": lambda text, at: _utf16(text)[at],
    "substring": lambda text, start, end=None: _from_utf16(_utf16(text)[start:end]),
    "left": lambda text, count: _from_utf16(_utf16(text)[:count]),
    "trim": lambda text: text.strip(),
    "tolowercase": lambda text: text.lower(),
    "touppercase": lambda text: text.upper(),
    "contains": lambda text, part: part in text,
    "startswith": lambda text, part: text.startswith(part),
    "indexof": lambda text, part: text.find(part),
    "split": lambda text, by: re.split(by, text),
    "replaceall": lambda text, pattern, by: re.sub(pattern, by, text),
    "isnumeric": lambda text: re.fullmatch("[0-9]+", text) is not None,
}


class Strings:
    """The static methods of String."""

    @staticmethod
    def isblank(text: str | None) -> bool:
        return text is None or not text.strip()

    @staticmethod
    def isnotblank(text: str | None) -> bool:
        return not Strings.isblank(text)

    @staticmethod
    def valueof(value: Any) -> str:
        return text_of(value)


class Numbers:
    """Integer and Long."""

    @staticmethod
    def valueof(text: str) -> int:
        if not re.fullmatch("-?[0-9]+", text):
            raise Thrown("typeexception", f"Invalid integer: {text}")
        return int(text)


class Maths:
    """Math."""

    min = staticmethod(min)
    max = staticmethod(max)


class Json:
    """JSON, as Jackson writes and reads it: nothing but what must be escaped is, and slashes only where asked for."""

    def __init__(self, escapes_slashes: bool = False) -> None:
        self._escapes_slashes = escapes_slashes

    def serialize(self, value: Any) -> str:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return text.replace("/", "\\/") if self._escapes_slashes else text

    @staticmethod
    def deserializeuntyped(text: str | None) -> Any:
        try:
            return json.loads(text or "")
        except ValueError as error:
            raise Thrown("jsonexception", str(error)) from None

    def creategenerator(self, pretty: bool) -> Generator:
        assert not pretty
        return Generator(self)


class Generator:
    """JSONGenerator for one flat object of texts."""

    def __init__(self, writer: Json) -> None:
        self._writer = writer
        self._pairs: dict[str, str] = {}

    def writestartobject(self) -> None:
        pass

    def writeendobject(self) -> None:
        pass

    def writestringfield(self, name: str, value: str) -> None:
        assert name not in self._pairs
        self._pairs[name] = value

    def getasstring(self) -> str:
        return self._writer.serialize(self._pairs)


@dataclass(frozen=True, order=True)
class Moment:
    """Datetime; `zone` is the running user's offset from GMT."""

    at: datetime
    zone: timedelta = field(default=timedelta(0), compare=False)

    def gettime(self) -> int:
        return int(self.at.timestamp() * 1000)

    def formatgmt(self, pattern: str) -> str:
        return _format(self.at, pattern)

    def format(self, pattern: str) -> str:
        return _format(self.at + self.zone, pattern)

    @staticmethod
    def newinstancegmt(year: int, month: int, day: int, hour: int, minute: int, second: int) -> Moment:
        return Moment(datetime(year, month, day, hour, minute, second, tzinfo=UTC))


def _format(moment: datetime, pattern: str) -> str:
    """A pattern of Java's SimpleDateFormat."""
    found = []
    for quoted, letters, other in re.findall(r"'([^']*)'|([A-Za-z]+)|([^A-Za-z']+)", pattern):
        if letters and letters not in _JAVA_DATES:
            raise Unsupported(f"date pattern {letters}")
        found.append(moment.strftime(_JAVA_DATES[letters]) if letters else quoted or other)
    return "".join(found)


class Hashes:
    """Crypto."""

    def __init__(self, nonce: str | None) -> None:
        self._nonce = nonce

    def generateaeskey(self, bits: int) -> bytes:
        return bytes.fromhex(self._nonce) if self._nonce else secrets.token_bytes(bits // 8)

    @staticmethod
    def generatemac(algorithm: str, data: bytes, key: bytes) -> bytes:
        if algorithm != "HmacSHA256":
            raise Unsupported(f"algorithm {algorithm}")
        return hmac_sha256(data, key)


class Blobs:
    """Blob."""

    @staticmethod
    def valueof(text: str) -> bytes:
        return text.encode()


class Encoding:
    """EncodingUtil."""

    @staticmethod
    def converttohex(blob: bytes) -> str:
        return blob.hex()


@dataclass
class Request:
    """HttpRequest; header names keep their spelling, and their order."""

    endpoint: str = ""
    method: str = ""
    body: str = ""
    timeout: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def setendpoint(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def setmethod(self, method: str) -> None:
        self.method = method

    def setbody(self, body: str) -> None:
        self.body = body

    def settimeout(self, milliseconds: int) -> None:
        assert 1 <= milliseconds <= 120_000
        self.timeout = milliseconds

    def setheader(self, name: str, value: str) -> None:
        self.headers[name] = value


@dataclass(frozen=True)
class Response:
    """HttpResponse."""

    status: int
    text: str
    headers: Mapping[str, str]  # lower-case names

    def getstatuscode(self) -> int:
        return self.status

    def getbody(self) -> str:
        return self.text

    def getheader(self, name: str) -> str | None:
        return self.headers.get(name.lower())


@dataclass
class Record:
    """An SObject: fields as attributes, in lower case."""

    id: str | None = None


@dataclass
class Org:
    """The org the code runs in: who runs it, when, with which secret and which setting."""

    secret: str
    user: str = "Ada Lovelace"
    zone: timedelta = timedelta(0)
    now: datetime | None = None  # a fixed clock for recorded requests
    nonce: str | None = None  # fixed likewise, hex
    mode: str | None = None  # Portal_Setting.Default.Mode__c; None: as it is shipped
    escapes_slashes: bool = False
    send: Callable[[Request], Response] | None = None
    query: Callable[[str, Mapping[str, Any]], list[Any]] | None = None
    dml: Callable[[str, Any], None] | None = None

    def runtime(self, *files: Path) -> Runtime:
        """Carries out the classes of these files in this org."""
        org = self

        class System:
            @staticmethod
            def now() -> Moment:
                return Moment(org.now or datetime.now(UTC), org.zone)

            @staticmethod
            def debug(*_: Any) -> None:
                pass

        class UserInfo:
            @staticmethod
            def getname() -> str:
                return org.user

        class Setting:
            @staticmethod
            def getinstance(name: str) -> Record:
                record = Record()
                record.mode__c = org.mode or shipped_setting(name, "Mode__c")  # type: ignore[attr-defined]
                return record

        class Secret:
            @staticmethod
            def getorgdefaults() -> Record:
                record = Record()
                record.webhook_secret__c = org.secret  # type: ignore[attr-defined]
                return record

        class Http:
            @staticmethod
            def send(request: Request) -> Response:
                if org.send is None:
                    raise Unsupported("a callout in a test that makes none")
                return org.send(request)

        def new(kind: str, arguments: list[Any]) -> Any:
            made = {"httprequest": Request, "http": Http, "map": dict, "list": list}.get(kind)
            if made is None or arguments:
                raise Unsupported(f"new {kind}")
            return made()

        natives: dict[str, Any] = {
            "system": System,
            "userinfo": UserInfo,
            "string": Strings,
            "integer": Numbers,
            "long": Numbers,
            "math": Maths,
            "json": Json(self.escapes_slashes),
            "datetime": Moment,
            "crypto": Hashes(self.nonce),
            "blob": Blobs,
            "encodingutil": Encoding,
            "portal_setting__mdt": Setting,
            "portal_secret__c": Secret,
        }
        return Runtime(read_classes(*files), natives, method_of, text_of, new, self.query, self.dml)

    def on_the_wire(self, request: Request, base: str) -> tuple[str, dict[str, str], bytes]:
        """URL, headers and body as the platform sends them: named credential and merge fields replaced."""
        credential = named_credential(request.endpoint.removeprefix("callout:").split("/")[0])
        path = request.endpoint.removeprefix(f"callout:{credential.name}")
        body = request.body.encode()
        headers = {}
        for name, value in request.headers.items():
            if value.startswith("{!") and value.endswith("}"):
                assert credential.merges_headers, "the named credential doesn't evaluate formulas in headers"
                value = self._formula(value[2:-1], body, credential.external)
            headers[name] = value
        return base.rstrip("/") + path, headers, body

    def _formula(self, formula: str, body: bytes, external: str) -> str:
        """The formula functions of named credentials, as far as they are used here."""
        tokens = re.findall(r"\$[\w.]+|'[^']*'|[A-Z_0-9]+|[(),]", formula)
        assert "".join(tokens) == re.sub(r"\s", "", formula), formula

        def value(at: int) -> tuple[Any, int]:
            word = tokens[at]
            if word.startswith("$"):
                _, credential, what = word.split(".")
                assert credential == external, f"{credential} isn't the named credential's external credential"
                return {"Body": body, "HmacSecret": self.secret}[what], at + 1
            if word.startswith("'"):
                return word[1:-1], at + 1
            assert tokens[at + 1] == "("
            arguments, at = [], at + 2
            while tokens[at] != ")":
                argument, at = value(at)
                arguments.append(argument)
                at += tokens[at] == ","
            return _FORMULA[word](*arguments), at + 1

        result, end = value(0)
        assert end == len(tokens)
        assert isinstance(result, str)
        return result


def _formula_hmac(algorithm: str, data: bytes, key: bytes) -> bytes:
    assert algorithm == "SHA-256"
    assert isinstance(data, bytes)
    assert isinstance(key, bytes)
    return hmac_sha256(data, key)


_FORMULA: dict[str, Callable[..., Any]] = {
    "HEX": lambda blob: blob.hex(),
    "BLOB": lambda text: text.encode(),
    "HMAC": _formula_hmac,
}


# --- the package's metadata ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Credential:
    """What of a named credential decides how a callout is sent."""

    name: str
    external: str
    merges_headers: bool


def xml(path: Path) -> ElementTree.Element:
    """A metadata file without its namespace."""
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    for each in root.iter():
        each.tag = each.tag.rpartition("}")[2]
    return root


def named_credential(name: str) -> Credential:
    """The package's named credential of this name."""
    root = xml(PACKAGE / "namedCredentials" / f"{name}.namedCredential-meta.xml")
    external = next(each.text for each in root.iter("externalCredential"))
    assert (PACKAGE / "externalCredentials" / f"{external}.externalCredential-meta.xml").exists()
    return Credential(name, external or "", root.findtext("allowMergeFieldsInHeader") == "true")


def shipped_setting(record: str, name: str) -> str:
    """A field of a Portal_Setting record as it is shipped."""
    root = xml(PACKAGE / "customMetadata" / f"Portal_Setting.{record}.md-meta.xml")
    return next(each.findtext("value") or "" for each in root.iter("values") if each.findtext("field") == name)


def package_class(name: str) -> Path:
    """A class of the package."""
    return PACKAGE / "classes" / f"{name}.cls"
