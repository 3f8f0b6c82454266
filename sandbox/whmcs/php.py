"""PHP's ways that show through the WHMCS API: nested form names, truthiness, serialize()."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import parse_qsl

Params = dict[str, Any]

NAME = re.compile(r"([^\[]*)((?:\[[^\]]*\])*)")


class Unserializable(ValueError):
    """Bytes that unserialize() would refuse."""


def parse_form(body: bytes) -> Params:
    """A form body as PHP's $_POST: `pid[0]=1` and `pid[]=1` become {"pid": {"0": "1"}}; the last of a name wins."""
    result: Params = {}
    for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
        found = NAME.match(name)
        if found is None or not found.group(1):
            continue
        # A bracket that is never closed is part of the name, as an underscore.
        root = re.sub(r"[ .\[]", "_", found.group(1) if found.group(2) else name)
        keys = re.findall(r"\[([^\]]*)\]", found.group(2))
        here = result
        step = root
        for key in keys:
            nested = here.get(step)
            if not isinstance(nested, dict):
                nested = here[step] = {}
            here = nested
            step = key if key else str(max((int(each) for each in here if each.isdigit()), default=-1) + 1)
        here[step] = value
    return result


def truthy(value: Any) -> bool:
    """PHP's idea of true: "false" is on, "0" and "" are off."""
    return value not in (None, "", "0", 0, False, {})


def to_int(value: Any) -> int:
    """(int)$value: leading digits, else 0."""
    found = re.match(r"\s*[+-]?\d+", str(value)) if isinstance(value, (str, int)) else None
    return int(found.group()) if found else 0


def unserialize(data: bytes) -> Any:
    """serialize()'s scalars and arrays (arrays become dicts)."""
    value, end = _value(data, 0)
    if end != len(data):
        raise Unserializable("bytes after the value")
    return value


def _value(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at : at + 2]
    if kind == b"N;":
        return None, at + 2
    if kind in (b"i:", b"b:", b"d:"):
        end = data.find(b";", at)
        text = data[at + 2 : end]
        if end < 0 or not re.fullmatch(rb"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", text):
            raise Unserializable("number")
        return (float(text) if kind == b"d:" else bool(int(text)) if kind == b"b:" else int(text)), end + 1
    if kind == b"s:":
        colon = data.find(b":", at + 2)
        if not data[at + 2 : colon].isdigit():
            raise Unserializable("length")
        start, length = colon + 2, int(data[at + 2 : colon])
        if data[colon + 1 : start] != b'"' or data[start + length : start + length + 2] != b'";':
            raise Unserializable("text (lengths count UTF-8 bytes)")
        return data[start : start + length].decode("utf-8", "replace"), start + length + 2
    if kind == b"a:":
        colon = data.find(b":", at + 2)
        if not data[at + 2 : colon].isdigit() or data[colon + 1 : colon + 2] != b"{":
            raise Unserializable("array")
        result: dict[Any, Any] = {}
        position = colon + 2
        for _ in range(int(data[at + 2 : colon])):
            key, position = _value(data, position)
            if not isinstance(key, (int, str)):
                raise Unserializable("key")
            result[key], position = _value(data, position)
        if data[position : position + 1] != b"}":
            raise Unserializable("array's end")
        return result, position + 1
    raise Unserializable("type")


def custom_fields(text: Any) -> dict[int, str]:
    """base64 of a serialized [fieldId => value]; what can't be read counts for nothing, as in WHMCS."""
    try:
        found = unserialize(base64.b64decode(str(text), validate=True))
    except ValueError:
        return {}
    return {to_int(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
