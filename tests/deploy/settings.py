"""The settings that deployment files name: each exists, and .env.example starts the portal in production."""

from __future__ import annotations

import re
from pathlib import Path

from portal.settings import Settings, SettingsError
from tests.deploy.tools import assignments, known_variables, make_secrets, needed_variables, unknown_variables

#: Variables of the files' own, which no process of the portal gets.
OWN = frozenset({"PORTAL_HOST", "PORTAL_UPSTREAMS", "PORTAL_SECRETS"})


def names_exist(path: Path, root: Path, _scratch: Path) -> list[str]:
    """Whatever in the file looks like a setting is one, in comments too."""
    known = known_variables(root)
    alike = {name.partition("_")[0] for name in known}
    words = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", path.read_text(encoding="utf-8")))
    return [f"{word} is no setting" for word in sorted(words - known - OWN) if word.partition("_")[0] in alike]


def example_starts(path: Path, root: Path, scratch: Path) -> list[str]:
    """The settings load in production, with secrets made for it; the needed ones come first and none is missing."""
    text = path.read_text(encoding="utf-8")
    try:
        environ = assignments(text)
        offered = assignments("\n".join(re.findall(r"^#([A-Z][A-Z0-9_]*=.*)$", text, re.MULTILINE)))
    except ValueError as error:
        return [str(error)]
    faults = unknown_variables(set(environ) | set(offered), root)
    faults += [f"{name} is needed in production and isn't there" for name in sorted(needed_variables() - set(environ))]
    faults += [f"{name} is set and offered" for name in sorted(set(environ) & set(offered))]
    if secret_itself := [name for name in {**environ, **offered} if f"{name}_FILE" in known_variables(root)]:
        faults += [f"{name} is secret: its file belongs here, not itself" for name in secret_itself]
    for extra in ({}, {name: value for name, value in offered.items() if value}):
        try:
            settings = Settings.from_environ(make_secrets({**environ, **extra}, scratch / "secrets"))
        except SettingsError as error:
            faults += error.faults
        else:
            if not settings.production:
                faults.append("it doesn't start in production")
    return faults
