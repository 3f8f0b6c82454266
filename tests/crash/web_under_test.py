"""gunicorn's application for one crash test: it stops between an order's commit and its job.

Named as gunicorn's factory, `tests.crash.web_under_test:stopping_in('FOLDER')`; nothing in the product can do this.
"""

from __future__ import annotations

import time
from pathlib import Path

from flask import Flask

from app import create_app
from portal.queue.jobs import JobQueue


def stopping_in(folder: str) -> Flask:
    """The application; a job for an order with a FOLDER/<order>.stop waits for ever."""
    send = JobQueue.send

    def stopping(jobs: JobQueue, sf_order_id: str, *, front: bool = False) -> str:
        stop = Path(folder) / f"{sf_order_id}.stop"
        if stop.exists():
            stop.rename(stop.with_suffix(".here"))
            while True:
                time.sleep(1.0)
        return send(jobs, sf_order_id, front=front)

    JobQueue.send = stopping  # type: ignore[method-assign, assignment]
    return create_app()
