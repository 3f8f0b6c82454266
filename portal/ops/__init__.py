"""What operators and monitors use: health, metrics, /ops and the commands."""

from __future__ import annotations

from flask import Flask

from portal.ops import console
from portal.ops.commands import register_commands
from portal.ops.health import blueprint as health
from portal.ops.metrics import blueprint as metrics


def register(app: Flask) -> None:
    """Add the ops routes and the `flask` commands."""
    app.register_blueprint(health)
    app.register_blueprint(metrics)
    console.register(app)
    register_commands(app)
