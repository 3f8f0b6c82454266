"""Salesforce for a check of the set-up (`flask doctor`): the day's calls, the pricebook."""

from __future__ import annotations

from portal.clients.salesforce import errors, queries
from portal.clients.salesforce.client import SalesforceClient
from portal.clients.salesforce.rest import rest


class TrialClient(SalesforceClient):
    """The client, and what only somebody asks who checks it."""

    def limits(self) -> tuple[int, int]:
        """Calls left today, and calls allowed a day (REST API Developer Guide, "Limits")."""
        answer = self._call("limits", rest("GET", "limits"), effect=False)
        return errors.parsed(
            lambda: (int(answer["DailyApiRequests"]["Remaining"]), int(answer["DailyApiRequests"]["Max"]))
        )

    def pricebook_active(self, pricebook_id: str) -> bool | None:
        """Whether the pricebook is active; None when there is none of this id (or the user may not see it)."""
        rows = self._query("pricebook", queries.pricebook(pricebook_id))
        return rows[0].get("IsActive") is True if rows else None
