"""gunicorn's application for one crash test: it stops between an order's commit and its ticket.

Named as gunicorn's factory, `tests.crash.web_under_test:stopping_in('FOLDER')`; nothing in the product can do this.
"""

from __future__ import annotations

import time
from pathlib import Path

from flask import Flask

from app import create_app
from portal.queue.jobs import Tickets


def stopping_in(folder: str) -> Flask:
    """The application; a ticket for an order with a FOLDER/<order>.stop waits for ever."""
    send = Tickets.send

    def stopping(tickets: Tickets, sf_order_id: str, *, front: bool = False) -> str:
        stop = Path(folder) / f"{sf_order_id}.stop"
        if stop.exists():
            stop.rename(stop.with_suffix(".here"))
            while True:
                time.sleep(1.0)
        return send(tickets, sf_order_id, front=front)

    Tickets.send = stopping  # type: ignore[method-assign]
    return create_app()
