"""The numbered migrations are one chain, and its end is what `require_migrated` asks for."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from portal.ledger import migrate
from portal.ledger.engine import Ledger


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
