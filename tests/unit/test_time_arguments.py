"""Arguments that are times: `now` goes by its name only, and every one tells its unit in its name or in a docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from bench.house import PRODUCT, ROOT, modules, tree_of

#: Names of moments and durations that don't tell their unit by themselves.
UNITLESS = {
    "now",
    "at",
    "deadline",
    "delay",
    "lapse",
    "lifetime",
    "max_request",
    "patience",
    "pause",
    "timeout",
    "ttl",
    "until",
    "wait",
}
UNITS = ("second", "ms", "minute")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, docs: str = "") -> Iterator[tuple[Function, str]]:
    """Every function with the docstrings that speak of it: its own, its class's and its module's."""
    if isinstance(tree, ast.Module | ast.ClassDef | Function):
        docs += ast.get_docstring(tree) or ""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node, docs + (ast.get_docstring(node) or "")
        yield from functions(node, docs)


def faults(tree: ast.Module, file: str = "") -> Iterator[str]:
    """What is wrong with a file's time arguments, a sentence each."""
    for function, docs in functions(tree):
        where = f"{file}:{function.lineno} {function.name}"
        by_place = {argument.arg for argument in [*function.args.posonlyargs, *function.args.args]}
        if "now" in by_place:
            yield f"{where}: `now` must be keyword-only"
        numbers = {
            argument.arg
            for argument in [*function.args.args, *function.args.kwonlyargs]
            if argument.annotation is not None
            and {"float", "int"} & {part.strip() for part in ast.unparse(argument.annotation).split("|")}
        }
        for name in sorted(numbers & UNITLESS):
            if not any(unit in docs for unit in UNITS):
                yield f"{where}: say in a docstring what `{name}` is measured in"


def all_faults(paths: Iterable[Path]) -> str:
    return "\n".join(fault for path in paths for fault in faults(tree_of(path), str(path.relative_to(ROOT))))


def test_the_products_time_arguments_tell_what_they_are() -> None:
    assert all_faults(modules(*PRODUCT).values()) == ""


def test_the_tests_and_benches_tell_it_too() -> None:
    assert all_faults(path for top in ("tests", "bench") for path in sorted((ROOT / top).rglob("*.py"))) == ""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(now: float): 'In seconds.'", ["now"]),
        ("def f(*, now: float): ...", ["now"]),
        ("def f(*, now: float): 'In seconds.'", []),
        ("'Moments are seconds.'\nclass A:\n    def f(self, *, now: float, timeout: float | None): ...", []),
        ("class A:\n    def f(self, *, timeout: float | None): ...", ["timeout"]),
        ("def f(timeout_seconds: float, ms: int): ...", []),
    ],
)
def test_a_fault_is_recognised(code: str, said: list[str]) -> None:
    assert [fault.split("`")[1] for fault in faults(ast.parse(code))] == said
