"""What operators and monitors use: health, and the commands."""

from __future__ import annotations

from flask import Flask

from portal.ops.commands import register_commands
from portal.ops.health import blueprint as health


def register(app: Flask) -> None:
    """Add the ops routes and the `flask` commands."""
    app.register_blueprint(health)
    register_commands(app)
