"""The communication guide's own Apex, carried out as it stands: one order at a time it works against this portal.

Only its secret is put right, for no org replaces a merge field in a constant (the first test shows what comes of that).
What it can't do, however right the portal is, has a test each, too; docs/salesforce-setup.md tells of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from integrations.salesforce.checks.platform import Org, Record, Request, Response
from integrations.salesforce.checks.runtime import Runtime
from tests.fulfilling import customer
from tests.stack import Stack, http

pytestmark = [
    pytest.mark.example,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl isn't installed: nothing here can be signed"),
]
GUIDE = Path(__file__).parent / "guide" / "OrderProvisioningService.cls"


class GuideOrg(Org):
    """An org with the guide's class in it, over the pretend Salesforce: its SOQL reads there, its DML writes there."""

    def __init__(self, stack: Stack, **about: Any) -> None:
        super().__init__(stack.secret("sf_webhook_secret"), **about)
        self.stack = stack
        self.sent: list[Request] = []
        self.answers: list[Response] = []
        self.send = self._callout
        self.query = self._soql
        self.dml = self._write

    def code(self, *, secret_put_right: bool = True) -> Runtime:
        runtime = self.runtime(GUIDE)
        if secret_put_right:
            runtime.classes["orderprovisioningservice"].values = {"webhook_secret": self.secret}
        return runtime

    def provision(self, order: str, **about: Any) -> None:
        """The guide's quick action."""
        self.code(**about).call("OrderProvisioningService", "provisionOrder", order)

    def _callout(self, request: Request) -> Response:
        url = self.stack.urls["portal"] + request.endpoint.removeprefix("callout:Portal_BFF")
        self.sent.append(request)
        answer = http("POST", url, request.body.encode(), request.headers, timeout=request.timeout / 1000)
        self.answers.append(Response(answer.status, answer.text, answer.headers))
        return self.answers[-1]

    def _soql(self, text: str, variables: Mapping[str, Any]) -> Record:
        assert text == "SELECT Id FROM Order WHERE Id = :orderId LIMIT 1"
        return Record(id=variables["orderid"])

    def _write(self, verb: str, record: Any) -> None:
        assert verb == "update"
        names = {"provisioning_status__c": "Provisioning_Status__c"}
        names["provisioning_error_message__c"] = "Provisioning_Error_Message__c"
        fields = {names[name]: value for name, value in vars(record).items() if name != "id"}
        self.stack.salesforce.post("seed", {"update": [{"type": "Order", "Id": record.id, **fields}]})


def test_as_it_stands_it_signs_with_the_merge_fields_own_text(stack: Stack) -> None:
    org, order = GuideOrg(stack), stack.order("starter")
    org.provision(order, secret_put_right=False)
    assert org.answers[0].status == 401
    assert '"invalid_signature"' in org.answers[0].text
    assert stack.fulfillment(order) is None


def test_one_order_at_a_time_it_works(stack: Stack) -> None:
    org, order = GuideOrg(stack), stack.order("starter")
    org.provision(order)
    assert org.answers[0].status == 200
    assert '"Provisioned"' in org.answers[0].text
    assert stack.salesforce_order(order)["Provisioning_Status__c"] == "Provisioned"
    assert len(org.sent[0].headers["X-SF-Nonce"]) == 16, "half of the 32 digits, and taken all the same"


def test_a_failure_is_failed_and_the_portal_puts_its_words_right(stack: Stack) -> None:
    """It writes "HTTP 409" over the portal's message; some seconds later the portal says it once more."""
    org, order = GuideOrg(stack), stack.order("starter", customer=customer(stack, card=False)[0])
    org.provision(order)
    assert org.answers[0].status == 409

    def shown() -> dict[str, Any] | None:
        now = stack.salesforce_order(order)
        good = now["Provisioning_Error_Code__c"] == "PAYMENT_METHOD_MISSING"
        return now if good and not str(now["Provisioning_Error_Message__c"]).startswith("HTTP") else None

    now = stack.wait_for(shown, "the portal's own words in Salesforce", 60)
    assert now["Provisioning_Status__c"] == "Failed"


def test_a_second_click_makes_no_second_whmcs_order(stack: Stack) -> None:
    """Each of its clicks has another key, for the clock is in it."""
    org, order = GuideOrg(stack), stack.order("starter")
    org.provision(order)
    org.provision(order)
    assert [answer.status for answer in org.answers] == [200, 200]
    keys = {request.headers["Idempotency-Key"] for request in org.sent}
    assert len(keys) == 2
    assert org.answers[0].text == org.answers[1].text


def test_outside_gmt_its_timestamps_are_refused(stack: Stack) -> None:
    org, order = GuideOrg(stack, zone=timedelta(hours=2)), stack.order("starter")
    org.provision(order)
    assert org.answers[0].status == 401
    assert '"stale_timestamp"' in org.answers[0].text
    assert stack.salesforce_order(order)["Provisioning_Status__c"] == "Failed"
