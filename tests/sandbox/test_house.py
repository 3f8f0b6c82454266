"""How the sandbox is built: imports without circles, files that can be read at a sitting, no argument to mistake."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = 400
CLOCKS = {"now", "when", "moment"}


def modules() -> dict[str, Path]:
    """Every module of the sandbox by its dotted name."""
    found = {}
    for path in sorted((ROOT / "sandbox").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(path: Path) -> Iterator[str]:
    """The sandbox's modules that a file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in MODULES or node.module in MODULES:
                    yield whole if whole in MODULES else node.module


def test_no_circles() -> None:
    graph = {name: sorted(set(imports_of(path)) - {name}) for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert len(done) == len(MODULES) > 30


@pytest.mark.parametrize("name", list(MODULES))
def test_no_file_is_longer_than_can_be_read_at_a_sitting(name: str) -> None:
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{name} has {lines} lines"


def test_the_clients_lock_file_names_no_registry() -> None:
    packages = json.loads((ROOT / "tests" / "clients" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert [name for name, about in packages.items() if "resolved" in about] == []
    fetched = {name: about for name, about in packages.items() if name and not about.get("inBundle")}
    assert [name for name, about in fetched.items() if "integrity" not in about] == [], "every one is sealed"


@pytest.mark.parametrize("name", list(MODULES))
def test_clocks_are_passed_by_name(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    wrong = [
        f"{node.name}({argument.arg})"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in (*node.args.posonlyargs, *node.args.args)
        if argument.arg in CLOCKS
    ]
    assert not wrong
