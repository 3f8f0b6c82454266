"""gunicorn's threads, which tell the application how many they are and when they end.

As it is (`WEB_SERVER=gthread`) it wants a proxy in front that takes whole requests: a slow sender holds a thread.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from gunicorn.workers.gthread import ThreadWorker

from portal.web.context import portal_of
from portal.web.lifecycle import Lifecycle


class ToldWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gthread, whose application knows of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lifecycle = Lifecycle()  # the application's own once it is loaded

    def load_wsgi(self) -> None:
        """The application learns how many threads answer its requests, and will be told when they end."""
        super().load_wsgi()
        if isinstance(self.wsgi, Flask):  # with --reload, a page about a SyntaxError may stand in for it
            portal = portal_of(self.wsgi)
            self.lifecycle = portal.lifecycle
            self.lifecycle.request_threads = self.cfg.threads
            # One each, and one for those that answer many requests together (docs/deployment/database.md).
            portal.services.ledger.bound_connections(self.cfg.threads + 1)

    def run(self) -> None:
        """Serve until told to stop."""
        try:
            super().run()
        finally:
            self.lifecycle.end()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: waiting requests get their answer, then everything ends."""
        super().handle_exit(sig, frame)
        self.method_queue.defer(self.lifecycle.stop)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGQUIT, SIGINT: at once; but Python waits for its threads, and so for waiting requests."""
        self.lifecycle.stop()
        super().handle_quit(sig, frame)
