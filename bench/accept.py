"""`make bench`: how many signed deliveries a second one gunicorn accepts, each of them committed to the ledger.

Only the door is measured: worker and sweep are stopped first. Everything accepted is counted in the ledger afterwards.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.stack import Stack, http_connection


def order_id(number: int) -> str:
    """A well-formed id that no other number has; digits only, so the check characters are all A."""
    return f"801{number:012d}AAA"


def drive(folder: Path, url: str, lane: int, count: int, results: multiprocessing.Queue[list[float]]) -> None:
    """Send `count` deliveries over one kept connection, one after the other; puts the milliseconds each took."""
    sender = Stack(folder, start=False)  # signs; starts nothing
    took = []
    with closing(http_connection(url)) as connection:
        for index in range(count):
            order = order_id(lane * 10_000_000 + index)
            body, headers = sender.signed(order)
            begun = time.perf_counter()
            connection.request("POST", f"/orders/{order}/fulfill", body, {**headers, "Prefer": "respond-async"})
            response = connection.getresponse()
            response.read()
            took.append((time.perf_counter() - begun) * 1000)
            assert response.status == 202, response.status
    results.put(took)


def main() -> None:
    """Measure, check, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.accept", description=__doc__)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--each", type=int, default=500, help="deliveries over each connection")
    arguments = parser.parse_args()
    limits = dict.fromkeys(("WEBHOOK_RATE_LIMIT", "WEBHOOK_GLOBAL_LIMIT"), "1000000/minute")
    with (
        tempfile.TemporaryDirectory(prefix="order-portal-bench-") as folder,
        Stack(Path(folder), settings=limits) as stack,
    ):
        stack.child("worker").stop()
        stack.child("sweep").stop()
        results: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
        lanes = [
            multiprocessing.Process(
                target=drive, args=(Path(folder), stack.urls["portal"], lane, arguments.each, results)
            )
            for lane in range(1, arguments.connections + 1)
        ]
        begun = time.perf_counter()
        for lane in lanes:
            lane.start()
        took = sorted(ms for _ in lanes for ms in results.get(timeout=600))
        seconds = time.perf_counter() - begun
        for lane in lanes:
            lane.join()
        stack.kill("web")  # what was answered must be there all the same
        stack.kill("valkey")
        kept = stack.ledger("SELECT count(*) AS n FROM fulfillments")[0]["n"]
    print(
        json.dumps(
            {
                "accepted": len(took),
                "inLedger": kept,
                "connections": arguments.connections,
                "perSecond": round(len(took) / seconds),
                "p50Ms": round(statistics.median(took), 1),
                "p99Ms": round(took[int(len(took) * 0.99)], 1),
            }
        )
    )
    raise SystemExit(0 if kept == len(took) else 1)


if __name__ == "__main__":
    main()
