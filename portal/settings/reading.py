"""How settings are declared, and read from the environment: from NAME, or a secret's from the file NAME_FILE names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, field
from pathlib import Path
from typing import Any

from portal.settings.checks import two_slips_apart


def setting(
    parse: Callable[[str], Any], default: Any = None, *, secret: bool = False, needed: str = "", doc: str
) -> Any:
    """One variable. needed: "" optional, "always", or "production". Its default stands when it is unset or empty."""
    return field(default=default, metadata={"parse": parse, "secret": secret, "needed": needed, "doc": doc})


def almost(environ: Mapping[str, str], declared: Iterable[Field[Any]], others: Iterable[str]) -> list[str]:
    """A sentence for each name that is almost a setting's: a lost letter in an allowlist's must not let everybody in.

    `others` are known names besides those declared. Each sentence begins with the name. A setting that is set, under
    its name or as a file, is what nobody else can have meant.
    """
    known = {name: not environ.get(name) for name in others}  # whether it is still to be set
    for setting in declared:
        names = names_of(setting)
        known |= dict.fromkeys(names, not any(environ.get(name) for name in names))
    unset = [name for name, missing in known.items() if missing]
    faults = []
    for name in sorted(each for each in set(environ) - set(known) if not each.startswith("OTEL_")):  # its library's own
        meant = difflib.get_close_matches(name, unset, n=1, cutoff=0.85)
        meant = meant or [each for each in unset if two_slips_apart(name, each)]
        if meant:
            faults.append(f"{name} is no setting: did you mean {meant[0]}?")
    return faults


def names_of(setting: Field[Any]) -> list[str]:
    """The variables it may come from."""
    name = setting.name.upper()
    return [name, f"{name}_FILE"] if setting.metadata["secret"] else [name]


def read(setting: Field[Any], environ: Mapping[str, str], values: dict[str, Any], faults: list[str]) -> None:
    """Put one setting's value into `values`, or a sentence into `faults`."""
    name = setting.name.upper()
    raw = environ.get(name, "")
    if setting.metadata["secret"] and environ.get(f"{name}_FILE"):
        if raw:
            faults.append(f"{name} and {name}_FILE are both set: keep one")
            return
        try:
            raw = Path(environ[f"{name}_FILE"]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            faults.append(f"{name}_FILE names a file that can't be read: {environ[f'{name}_FILE']}")
            return
        raw = raw.removesuffix("\n").removesuffix("\r")
        if not raw:
            faults.append(f"{name}_FILE names an empty file: {environ[f'{name}_FILE']}")
            return
    if not raw:
        needed = setting.metadata["needed"]
        production = environ.get("PORTAL_ENV", "production") != "development"
        if needed == "always" or needed == "production" and production:
            faults.append(f"{name} is missing: {setting.metadata['doc']}")
        return
    try:
        values[setting.name] = setting.metadata["parse"](raw)
    except ValueError as error:
        faults.append(f"{name} {error}")
