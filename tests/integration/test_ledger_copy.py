"""`flask ledger copy`: a ledger that real orders filled, from SQLite to PostgreSQL and back, row by row."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app import create_commands_app
from portal.domain.model import Step
from portal.ledger import fulfillments, installation, runs, workers
from portal.ledger.copying import CopyRefused, copy
from portal.ledger.engine import Ledger
from portal.ledger.migrate import upgrade
from portal.ledger.schema import metadata
from tests.old_ledger import fill
from tests.postgres import Postgres, sqlalchemy_url

NOW = 1_900_000_000.0


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Ledger]:
    """The ledger of an earlier version that orders of every kind filled, brought to this version."""
    path = tmp_path / "filled.sqlite3"
    shutil.copy(Path(fill.__file__).parent / "ledger.sqlite3", path)
    ledger = Ledger(f"sqlite:///{path}")
    upgrade(ledger)
    yield ledger
    ledger.dispose()


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[Ledger]:
    url = postgres.database()
    ledger = Ledger(sqlalchemy_url(url))
    yield ledger
    ledger.dispose()
    postgres.drop(url)


def content(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, but for the pause that a copy leaves."""
    with ledger.read() as connection:
        return {
            table.name: [
                dict(row)
                for row in connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
                if row.get("key") != "paused" and row.get("kind") != "paused"
            ]
            for table in metadata.sorted_tables
        }


def test_every_row_arrives_and_the_old_ledger_is_paused(filled: Ledger, empty: Ledger) -> None:
    before = content(filled)
    assert sum(len(before[name]) > 0 for name in before) >= 10, "the tables have something in them"
    counts = copy(filled, empty, now=NOW, actor="ada")
    assert content(empty) == before
    assert counts["fulfillments"] == len(before["fulfillments"])
    with filled.read() as here, empty.read() as there:
        assert installation.paused(here) is not None
        assert installation.paused(there) is None
        for name, column in (("fulfillments", "plan"), ("fulfillments", "due_at"), ("outbox", "sent_at")):
            query = sa.text(f"SELECT count(*) FROM {name} WHERE {column} IS NULL")  # noqa: S608
            assert here.scalar(query) == there.scalar(query)
    order = before["fulfillments"][0]["sf_order_id"]
    with empty.write() as connection:  # its counters go on behind what was copied
        newest = max(row["id"] for row in before["steps"])
        assert runs.begin_step(connection, order, 9, 9, Step.VALIDATION, now=NOW) == newest + 1
        assert fulfillments.plan_resync(connection, order, now=NOW, due_at=NOW) > max(r["id"] for r in before["outbox"])


def test_the_way_back_works_as_well(filled: Ledger, empty: Ledger, tmp_path: Path) -> None:
    before = content(filled)
    copy(filled, empty, now=NOW, actor="ada")
    back = Ledger(f"sqlite:///{tmp_path / 'back.sqlite3'}")
    copy(empty, back, now=NOW, actor="ada")
    assert content(back) == before
    back.dispose()


def test_a_target_with_anything_in_it_is_refused_and_left_alone(filled: Ledger, empty: Ledger) -> None:
    upgrade(empty)
    with empty.write() as connection:
        workers.register(connection, "ada", "fulfill", "host", 1, now=NOW)
    before = content(empty)
    with pytest.raises(CopyRefused, match="the target isn't empty: it has rows in workers"):
        copy(filled, empty, now=NOW, actor="ada")
    assert content(empty) == before
    with filled.read() as connection:
        assert installation.paused(connection) is None


def test_a_target_that_loses_a_row_keeps_nothing(filled: Ledger, empty: Ledger) -> None:
    """Counted on both sides: here a trigger of somebody's swallows one of the rows."""
    order = content(filled)["fulfillments"][0]["sf_order_id"]
    upgrade(empty)
    with empty.write() as connection:
        connection.execute(
            sa.text(
                "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF NEW.sf_order_id = '{order}' THEN RETURN NULL; END IF; RETURN NEW; END $$"
            )
        )
        connection.execute(
            sa.text("CREATE TRIGGER swallows BEFORE INSERT ON fulfillments FOR EACH ROW EXECUTE FUNCTION swallow()")
        )
    rows = len(content(filled)["fulfillments"])
    with pytest.raises(CopyRefused, match=f"fulfillments has {rows} rows, and {rows - 1} arrived: nothing was kept"):
        copy(filled, empty, now=NOW, actor="ada")
    assert {name for name, rows in content(empty).items() if rows} <= {"installation"}
    with filled.read() as connection:
        assert installation.paused(connection) is None


def test_one_that_breaks_off_leaves_nothing(filled: Ledger, empty: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        """Somebody pressed Ctrl-C, say."""

    def say(line: str) -> None:
        if line.startswith("steps"):
            raise Stopped

    with pytest.raises(Stopped):
        copy(filled, empty, now=NOW, actor="ada", say=say)
    assert {name for name, rows in content(empty).items() if rows} <= {"installation"}  # the upgrade's own note
    copy(filled, empty, now=NOW, actor="ada")


def test_as_it_is_typed(filled: Ledger, postgres: Postgres, tmp_path: Path) -> None:
    runner = create_commands_app("no settings").test_cli_runner()
    source, target = str(filled.url), postgres.database()
    address = tmp_path / "address"
    address.write_text(f"{target}\n")
    for wrong, why in (
        (("mysql://x", source), "begins with sqlite:/// or postgresql://"),
        ((f"@{tmp_path / 'missing'}", source), "can't be read"),
        ((f"sqlite:///{tmp_path / 'no.sqlite3'}", target), "there is no ledger at"),
        ((source, source), "the same ledger"),
    ):
        said = runner.invoke(args=["ledger", "copy", *wrong])
        assert said.exit_code == 1
        assert why in said.output, said.output
    said = runner.invoke(args=["ledger", "copy", source, f"@{address}"])
    assert said.exit_code == 0, said.output
    assert "counted on both sides. The old ledger is paused." in said.output
    again = runner.invoke(args=["ledger", "copy", source, f"@{address}"])
    assert "the target isn't empty" in again.output
