"""`python -m bench.peers.dbos_orders`: the same calls as steps of a DBOS workflow, sixteen in flight, on SQLite.

Reads one order a line, and writes each when its workflow has ended. DBOS records every step's outcome; a workflow that
was interrupted repeats the step it was in.
"""

from __future__ import annotations

import os
import sys
import threading

from dbos import DBOS, DBOSConfig, Queue

from bench.peers import calls
from portal.domain.model import AddedOrder, OrderLine, SalesforceOrder

IN_FLIGHT = 16

config: DBOSConfig = {"name": "bench", "system_database_url": os.environ["BENCH_DATABASE_URL"], "log_level": "ERROR"}
DBOS(config=config)
queue = Queue("orders", concurrency=IN_FLIGHT, worker_concurrency=IN_FLIGHT, polling_interval_sec=0.05)
_writing = threading.Lock()


@DBOS.step()
def fetch(order: str) -> SalesforceOrder:
    """See bench.peers.calls; so the others."""
    return calls.fetch(order)


@DBOS.step()
def pay_methods(client: str) -> bool:
    """One call."""
    return bool(calls.whmcs().pay_methods(client))


@DBOS.step()
def gateway(client: str) -> str:
    """One call."""
    found = calls.whmcs().client(client_id=client)
    assert found is not None
    return found.default_gateway


@DBOS.step()
def tell(order: str, status: str, whmcs_order_id: str | None = None) -> None:
    """One call."""
    calls.tell(order, status, whmcs_order_id)


@DBOS.step()
def look(client: str) -> int:
    """One call."""
    return len(calls.whmcs().orders_of(client))


@DBOS.step()
def add(order: str, client: str, pays: str, asked: list[OrderLine]) -> AddedOrder:
    """One call."""
    return calls.add(order, client, pays, asked)


@DBOS.step()
def read(whmcs_order_id: str) -> bool:
    """One call."""
    return calls.whmcs().order(whmcs_order_id) is not None


@DBOS.step()
def services(client: str, added: AddedOrder) -> int:
    """One call."""
    return calls.services(client, added)


@DBOS.step()
def accept(whmcs_order_id: str) -> None:
    """One call."""
    calls.whmcs().accept_order(whmcs_order_id)


@DBOS.workflow()
def fulfill(order: str) -> None:
    """An order."""
    found = fetch(order)
    client = found.whmcs_client_id
    assert client is not None
    pay_methods(client)
    pays = gateway(client)
    tell(order, "Activating")
    look(client)
    added = add(order, client, pays, calls.lines(found))
    read(added.order_id)
    services(client, added)
    accept(added.order_id)
    services(client, added)
    tell(order, "Provisioned", added.order_id)
    with _writing:
        print(order, flush=True)


def main() -> None:
    """Until the input ends."""
    DBOS.launch()
    print("ready", flush=True)
    for line in sys.stdin:
        queue.enqueue(fulfill, line.strip())
    DBOS.destroy()


if __name__ == "__main__":
    main()
