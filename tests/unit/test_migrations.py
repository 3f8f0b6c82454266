"""The numbered migrations are one chain, and its end is what `require_migrated` asks for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from portal.ledger import migrate
from portal.ledger.engine import Ledger

Add = Callable[..., None]


def test_the_last_numbered_file_is_the_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate._MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.head()]


def test_a_ledger_is_migrated_once(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    try:
        assert migrate.upgrade(ledger) == (None, migrate.head())
        assert migrate.upgrade(ledger) == (migrate.head(), migrate.head())
    finally:
        ledger.dispose()


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Adds a migration of a version to come, which makes a table: its number and its marks."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate._MIGRATIONS, folder)
    monkeypatch.setattr(migrate, "_MIGRATIONS", folder)
    migrate._files.cache_clear()

    def added(number: str, *marks: str) -> None:
        text = [f'revision = "{number}"', f'down_revision = "{migrate.head()}"', *marks, "def upgrade():"]
        text.append(f"    __import__('alembic').op.execute('CREATE TABLE t{number} (x INTEGER)')")
        (folder / "versions" / f"{number}_to_come.py").write_text("\n".join(text) + "\n", encoding="utf-8")
        migrate._files.cache_clear()

    yield added
    migrate._files.cache_clear()


def forget(number: str) -> None:
    """As in the version before: without this migration."""
    next((migrate._MIGRATIONS / "versions").glob(f"{number}_*.py")).unlink()
    migrate._files.cache_clear()


def test_the_old_version_starts_on_a_newer_ledger_that_is_marked_compatible(each_ledger: Ledger, add: Add) -> None:
    now = migrate.head()
    add("9001", f'compatible_from = "{now}"')
    assert migrate.upgrade(each_ledger, before_restart=True) == (now, "9001")
    migrate.require_migrated(each_ledger)
    forget("9001")
    assert migrate.head() == now
    migrate.require_migrated(each_ledger)


def test_the_old_version_refuses_a_newer_ledger_that_is_not(each_ledger: Ledger, add: Add) -> None:
    now = migrate.head()
    add("9001", f'compatible_from = "{now}"')
    add("9002")
    assert migrate.upgrade(each_ledger) == (now, "9002")
    forget("9002")
    with pytest.raises(migrate.LedgerNotMigrated, match="run a newer one"):
        migrate.require_migrated(each_ledger)


def test_what_the_old_version_still_uses_is_cleaned_up_after_the_restart(each_ledger: Ledger, add: Add) -> None:
    now = migrate.head()
    add("9001", f'compatible_from = "{now}"')
    add("9002", "cleanup = True")
    assert migrate.upgrade(each_ledger, before_restart=True) == (now, "9001")
    migrate.require_migrated(each_ledger)  # the new version, which needn't wait for the cleanup
    assert migrate.upgrade(each_ledger) == ("9001", "9002")
    with each_ledger.read() as connection:
        assert sa.inspect(connection).has_table("t9002")


def test_a_migration_that_needs_a_stop_says_so_before_it_does_anything(each_ledger: Ledger, add: Add) -> None:
    add("9001")
    before = migrate.head()
    with pytest.raises(migrate.NotCompatible, match="stop its processes"):
        migrate.upgrade(each_ledger, before_restart=True)
    assert before == "9001"
    with each_ledger.read() as connection:
        assert not sa.inspect(connection).has_table("t9001")
    with pytest.raises(migrate.LedgerNotMigrated, match="run `flask db upgrade`"):
        migrate.require_migrated(each_ledger)


def test_versions_two_steps_apart_are_compatible_only_step_by_step(add: Add) -> None:
    now = migrate.head()
    add("9001", f'compatible_from = "{now}"')
    add("9002", 'compatible_from = "9001"')
    assert migrate.compatible_from("9001") <= now
    assert migrate.compatible_from("9002") == "9001"
