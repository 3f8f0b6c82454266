"""The actions of /includes/api.php, with the parameters, answers and error texts of the real ones."""

from collections.abc import Callable

from sandbox.call import Call
from sandbox.store import Document
from sandbox.whmcs.api.billing import BillingActions
from sandbox.whmcs.api.clients import ClientActions
from sandbox.whmcs.api.orders import ARRAYS, OrderActions
from sandbox.whmcs.api.services import ServiceActions
from sandbox.whmcs.api.system import SystemActions
from sandbox.whmcs.ordering import Ordering
from sandbox.whmcs.php import Params

__all__ = ["ARRAYS", "actions"]


def actions(model: Ordering, url: Callable[[], str]) -> dict[str, Callable[[Params, Call], Document]]:
    """Every action by its name in lower case; `url` is where this WHMCS is reached."""
    groups = (OrderActions, ServiceActions, ClientActions, BillingActions, SystemActions)
    return {name: act for group in groups for name, act in group(model, url).actions().items()}
