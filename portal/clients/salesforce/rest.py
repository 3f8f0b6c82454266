"""The calls that simple-salesforce has no function of its own for, each to be run with its client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simple_salesforce.api import Salesforce


def rest(method: str, path: str, body: Any = None) -> Callable[[Salesforce], Any]:
    """Any call of the REST API; `path` below the version."""

    def run(sf: Salesforce) -> Any:
        return sf.restful(path, method=method, **({} if body is None else {"json": body}))

    return run


def next_page(path: str) -> Callable[[Salesforce], Any]:
    """The rest of a query's rows, at the address that its answer named."""
    return lambda sf: sf.query_more(path, identifier_is_url=True)
