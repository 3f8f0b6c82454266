"""JSON bodies of the REST API: parsed, and references between the parts of a composite filled in."""

from __future__ import annotations

import json
import re
from typing import Any

from sandbox.salesforce.errors import SfError
from sandbox.salesforce.schema import Record

REFERENCE = re.compile(r"@\{([A-Za-z0-9_]+)((?:\.[A-Za-z0-9_]+|\[\d+\])*)\}")


def parse(text: str) -> Any:
    """JSON, or the real org's complaint."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise SfError("JSON_PARSER_ERROR", f"Unexpected character or end of input: {error}") from None


def parse_object(text: str) -> Record:
    """A JSON object, or the real org's complaint."""
    found = parse(text)
    if not isinstance(found, dict):
        raise SfError("JSON_PARSER_ERROR", "The HTTP entity body is required, but this request has no entity body.")
    return found


def fill_in(value: Any, bodies: dict[str, Any]) -> Any:
    """`@{ref.path}` replaced in texts, lists and objects."""
    if isinstance(value, list):
        return [fill_in(each, bodies) for each in value]
    if isinstance(value, dict):
        return {key: fill_in(each, bodies) for key, each in value.items()}
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> Any:
        here = bodies.get(match.group(1))
        for name, index in re.findall(r"\.([A-Za-z0-9_]+)|\[(\d+)\]", match.group(2)):
            try:
                here = here[name] if name else here[int(index)]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                here = None
        if here is None:
            raise SfError(
                "PROCESSING_HALTED",
                f"Invalid reference specified. No value for {match.group()[2:-1]} found in {match.group(1)}",
            )
        return here

    whole = REFERENCE.fullmatch(value)
    return found(whole) if whole else REFERENCE.sub(lambda match: str(found(match)), value)
