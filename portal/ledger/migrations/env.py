"""Alembic's way in. Migrations run only inside portal.ledger.migrate.upgrade, on the connection it locked."""

from alembic import context

from portal.ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
context.run_migrations()
