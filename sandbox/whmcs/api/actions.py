"""What the actions of api.php share: how parameters are read and answers shaped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.call import Call
from sandbox.store import Document
from sandbox.whmcs.model import Refused
from sandbox.whmcs.ordering import Ordering
from sandbox.whmcs.php import Params, to_int


def as_list(value: Any) -> dict[int, Any]:
    """A PHP array parameter by index."""
    return {to_int(key): each for key, each in value.items()} if isinstance(value, dict) else {}


class Actions:
    """A group of actions, one method `do_<action>` each; each answers the body beside `result`, or raises Refused."""

    def __init__(self, model: Ordering, url: Callable[[], str]):
        self.model = model
        self.store = model.store
        self.settings = model.settings
        self._url = url

    def actions(self) -> dict[str, Callable[[Params, Call], Document]]:
        """The group's actions by their names in lower case."""
        return {name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")}

    # -- shapes

    def i(self, value: Any) -> Any:
        """An id, as text or number by the setting `ids`."""
        return str(value) if self.settings["ids"] == "strings" else int(value)

    def many(self, inner: str, rows: list[Any]) -> Any:
        """{"order": [...]}; an empty one is "" when the setting `empty_lists` is "string"."""
        return "" if not rows and self.settings["empty_lists"] == "string" else {inner: rows}

    @staticmethod
    def window(p: Params, rows: list[Document], default: int = 25) -> tuple[list[Document], Document]:
        """limitstart/limitnum, with the three numbers of a list answer."""
        start, count = max(0, to_int(p.get("limitstart", 0))), to_int(p.get("limitnum", default)) or default
        shown = rows[start : start + count]
        return shown, {"totalresults": len(rows), "startnumber": start, "numreturned": len(shown)}

    def client(self, p: Params, name: str = "clientid", message: str = "Client ID Not Found") -> Document:
        """The client a parameter names; Refused where there is none."""
        found = self.model.get("client", to_int(p.get(name)))
        if found is None:
            raise Refused(message)
        return found

    def order(self, p: Params, message: str) -> Document:
        """The order that `orderid` names; Refused where there is none."""
        found = self.model.get("order", to_int(p.get("orderid")))
        if found is None:
            raise Refused(message)
        return found

    def service(self, p: Params, message: str = "Service ID Not Found") -> Document:
        """The service that `serviceid` names; Refused where there is none."""
        found = self.model.get("service", to_int(p.get("serviceid")))
        if found is None:
            raise Refused(message)
        return found
