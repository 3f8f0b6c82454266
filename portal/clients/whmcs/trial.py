"""WHMCS for a check of the set-up (`flask doctor`): which actions the portal's credentials allow."""

from __future__ import annotations

from typing import Final

from portal.clients.whmcs import errors
from portal.clients.whmcs.client import WhmcsClient
from portal.domain.model import UpstreamError

#: What `try_action` asks of each action: WHMCS numbers its records from 1.
TRIALS: Final[dict[str, dict[str, str]]] = {
    "GetClientsDetails": {"clientid": "0"},
    "GetPayMethods": {"clientid": "0"},
    "GetProducts": {"pid": "0"},
    "GetPaymentMethods": {},
    "GetOrders": {"userid": "0", "limitnum": "1"},
    "GetClientsProducts": {"clientid": "0", "limitnum": "1"},
    "GetInvoice": {"invoiceid": "0"},
    "AddOrder": {"clientid": "0", "noemail": "1"},
    "AcceptOrder": {"orderid": "0"},
    "CancelOrder": {"orderid": "0", "noemail": "1"},
    "ModuleCreate": {"serviceid": "0", "accountid": "0"},
    "CreateSsoToken": {"client_id": "0"},
    "AddClient": {"noemail": "1"},
}


class TrialClient(WhmcsClient):
    """The client, and a way to try an action without effect."""

    def try_action(self, action: str) -> None:
        """Whether the portal may use an action: it is asked about a record that can't exist, so that nothing is done.

        `action`: one of TRIALS. WHMCS looks at the permission first; whatever it then says of the record shows that
        the action is allowed. Raises UpstreamError where it isn't, or where WHMCS says nothing of use.
        """
        try:
            self._call(action, TRIALS[action])
        except UpstreamError as error:
            if error.code not in errors.ABOUT_THE_RECORD:
                raise
