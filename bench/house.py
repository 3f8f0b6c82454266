"""How the code is laid out, measured from the code itself: `make house` prints it as one JSON line.

The layers are written down here and nowhere else; tests/unit/test_imports.py holds the limits and names the offenders.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("app", "wsgi", "portal", "jobs")
SANDBOX = ("sandbox",)

# A module may import those of its own layer and of the layers after it; the longest prefix decides which that is.
LAYERS = [
    ("app", "wsgi", "jobs"),
    ("portal.ops", "portal.customers", "portal.webhooks", "portal.mail"),
    ("portal.web",),
    ("portal.services",),
    ("portal.fulfillment", "portal.clients"),
    ("portal.ledger", "portal.queue"),
    ("portal.domain",),
    ("portal.settings", "portal.errors", "portal.logs"),
]

#: `make coverage` leaves its figures here.
COVERAGE = ROOT / "var" / "coverage" / "coverage.json"

#: Folders that hold no code of ours.
_APART = {"var", ".venv", "node_modules", ".git"}


@cache
def modules(*tops: str) -> dict[str, Path]:
    """Every module below these top-level names by its dotted name; a package stands for its `__init__`."""
    found = {}
    for top in tops:
        single = ROOT / f"{top}.py"
        for path in [single] if single.exists() else sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Dotted names a file imports, wherever it does so: inside functions and for type checkers only, too."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    known = modules(*PRODUCT, *SANDBOX)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module


def within(module: str, package: str) -> bool:
    """Whether a module is a package or inside it."""
    return module == package or module.startswith(f"{package}.")


def layer_of(module: str) -> int:
    """How far down a module of the product stands; 0 is the top."""
    best = max(
        ((len(name), index) for index, names in enumerate(LAYERS) for name in names if within(module, name)),
        default=None,
    )
    assert best is not None, f"{module} belongs to no layer: put it into one in bench/house.py"
    return best[1]


def rooms() -> list[str]:
    """The packages of portal/ and the modules that stand beside them."""
    portal = ROOT / "portal"
    return sorted([path.parent.name for path in portal.glob("*/__init__.py")] + loose_modules())


def loose_modules() -> list[str]:
    """The modules that stand in portal/ itself."""
    return sorted(path.stem for path in (ROOT / "portal").glob("*.py") if path.stem != "__init__")


@cache
def upward_imports() -> list[tuple[str, str]]:
    """Each (module, what it imports from a layer above its own), over the product."""
    return [
        (module, other)
        for module, path in modules(*PRODUCT).items()
        if module != "portal"
        for other in imports_of(path)
        if other != "portal" and other.split(".")[0] in PRODUCT and layer_of(other) < layer_of(module)
    ]


def circles() -> list[list[str]]:
    """Groups of modules that import each other round about, over the product and the sandbox (Tarjan's algorithm)."""
    known = modules(*PRODUCT, *SANDBOX)
    graph = {name: sorted({other for other in imports_of(path) if other in known}) for name, path in known.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    trail: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        trail.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in trail:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = trail[trail.index(name) :]
            del trail[trail.index(name) :]
            if len(group) > 1 or name in graph[name]:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return sorted(found)


def sql_outside_the_ledger() -> dict[str, list[str]]:
    """Files outside portal/ledger that use SQLAlchemy for more than types, or hold SQL, with what they do."""
    found = {}
    for module, path in modules(*PRODUCT).items():
        if not within(module, "portal.ledger"):
            uses = sql_in(tree_of(path))
            if uses:
                found[str(path.relative_to(ROOT))] = uses
    return found


def sql_in(tree: ast.Module) -> list[str]:
    """What in a module uses SQLAlchemy at run time (annotations don't) or is SQL over the ledger's tables."""
    return [*_sqlalchemy_at_run_time(tree), *_sql_text(tree)]


def _sqlalchemy_at_run_time(tree: ast.Module) -> Iterator[str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if within(alias.name, "sqlalchemy"))
        elif isinstance(node, ast.ImportFrom) and within(node.module or "", "sqlalchemy"):
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if part is not None
        for inner in ast.walk(part)
    }
    used = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and id(node) not in annotations and node.id in names
    }
    yield from (names[name] for name in sorted(used))


@cache
def _tables() -> tuple[str, ...]:
    """The names of the ledger's tables."""
    from portal.ledger.schema import metadata

    return tuple(sorted(metadata.tables))


def _sql_text(tree: ast.Module) -> Iterator[str]:
    # SOQL (Salesforce) has SELECT … FROM too, but of objects that begin with a capital: ours are the tables' names.
    tables = "|".join(_tables())
    statement = re.compile(
        rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE)\s+(?:{tables})\b|\bPRAGMA\s|\bBEGIN IMMEDIATE\b|\bpg_\w+\("
    )
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
            continue
        if found := statement.search(node.value):
            yield f"line {node.lineno}: {found[0]!r}"


def file_lengths() -> dict[str, int]:
    """Lines of every file of portal and jobs, migrations apart."""
    return {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules("portal", "jobs").values()
        if "versions" not in path.parts
    }


def function_lengths() -> dict[str, int]:
    """Lines of every function of portal and jobs from `def` to its end, docstring and all, migrations apart."""
    return {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules("portal", "jobs").values()
        if "versions" not in path.parts
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def fmt_skips() -> list[str]:
    """Every comment that keeps `ruff format` from a line, anywhere."""
    return [
        f"{path.relative_to(ROOT)}:{token.start[0]}"
        for path in sorted(ROOT.rglob("*.py"))
        if not _APART & set(path.relative_to(ROOT).parts)
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
        if token.type == tokenize.COMMENT and re.match(r"#\s*(fmt|yapf):", token.string)
    ]


def coverage() -> float | None:
    """Per cent of the lines and branches of portal and jobs that the last `make coverage` saw run; None without one."""
    if not COVERAGE.exists():
        return None
    return round(float(json.loads(COVERAGE.read_text(encoding="utf-8"))["totals"]["percent_covered"]), 1)


def measure() -> dict[str, int | float | None]:
    """All of it, as `make house` prints it."""
    return {
        "rooms": len(rooms()),
        "looseModules": len(loose_modules()),
        "circles": len(circles()),
        "upwardImports": len(upward_imports()),
        "sqlOutsideLedger": len(sql_outside_the_ledger()),
        "longestFile": max(file_lengths().values()),
        "longestFunction": max(function_lengths().values()),
        "fmtSkips": len(fmt_skips()),
        "coverage": coverage(),
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
