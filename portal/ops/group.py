"""What every group of `flask` commands shares: one sentence instead of a traceback, and the portal's services."""

from __future__ import annotations

from typing import Any, NoReturn

import click
from flask import current_app
from flask.cli import AppGroup

from portal.errors import PortalError
from portal.services import Services
from portal.web.context import portal_of


class Group(AppGroup):
    """Commands that end with one sentence, not a traceback, where the ledger or another side can't be used."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Raises ClickException for every PortalError."""
        try:
            return super().invoke(ctx)
        except PortalError as error:
            refuse(error)


def services(*, migrated: bool = True) -> Services:
    """The portal's services. migrated: refuse where `flask db upgrade` has to come first."""
    found = portal_of(current_app).services
    if migrated:
        found.require_migrated()
    return found


def refuse(error: Exception) -> NoReturn:
    """End the command with this sentence. Raises ClickException."""
    raise click.ClickException(str(error))
