"""What `make house` measures is found where it is: shown on small pieces of code, since the product has none."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from bench import house


@pytest.mark.parametrize(
    "code",
    [
        "import sqlalchemy as sa",
        "from sqlalchemy import select\nrows = select(1)",
        "from sqlalchemy.exc import IntegrityError\ntry:\n    pass\nexcept IntegrityError:\n    pass",
        "rows = run('SELECT reference FROM orders WHERE id = 1')",
        "run('UPDATE fulfillments SET state = 1')",
        "run(f'DELETE FROM {table}' + ' FROM sessions')",
        "run('PRAGMA synchronous')",
    ],
)
def test_sql_is_found(code: str) -> None:
    assert house.sql_in(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "from sqlalchemy.engine import Connection\ndef f(connection: Connection) -> list[Connection]: ...",
        "'''Words about orders FROM orders in a docstring.'''",
        "soql = 'SELECT Id FROM Order WHERE Id = 1'",
        "words = 'What came from the orders of a customer'",
    ],
)
def test_types_words_and_soql_are_no_sql(code: str) -> None:
    assert house.sql_in(ast.parse(code)) == []


def test_a_circle_is_found_wherever_the_import_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "portal").mkdir()
    (tmp_path / "jobs").mkdir()
    for name in ("app.py", "wsgi.py", "portal/__init__.py", "jobs/__init__.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "sandbox" / "one.py").write_text("import sandbox.two")
    (tmp_path / "sandbox" / "two.py").write_text("def later():\n    from sandbox import three")
    (tmp_path / "sandbox" / "three.py").write_text("if TYPE_CHECKING:\n    from sandbox.one import One")
    (tmp_path / "sandbox" / "apart.py").write_text("import sandbox.one")
    monkeypatch.setattr(house, "ROOT", tmp_path)
    house.modules.cache_clear()
    try:
        assert house.circles() == [["sandbox.one", "sandbox.three", "sandbox.two"]]
    finally:
        house.modules.cache_clear()


def test_coverage_is_the_last_run_s_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "COVERAGE", tmp_path / "coverage.json")
    assert house.coverage() is None
    (tmp_path / "coverage.json").write_text(json.dumps({"totals": {"percent_covered": 91.26}}))
    assert house.coverage() == 91.3
