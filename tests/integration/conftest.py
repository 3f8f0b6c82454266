"""What tests here share: the receivers in this process, and the Salesforce client over a pretend org."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from flask.testing import FlaskClient

from portal.clients.salesforce.client import SalesforceClient
from portal.ledger.engine import Ledger
from portal.settings import Settings
from portal.web import context
from sandbox.salesforce.app import Org
from tests.upstream.sandboxes import org_sandbox
from tests.webhooks.callout import SF_SECRET, WHMCS_SECRET
from tests.webhooks.in_process import Portal, application


@pytest.fixture
def portal(store: redis.Redis, each_ledger: Ledger) -> Iterator[Portal]:
    """A portal in production's mode, on either database, whose queue is a fake."""
    settings = Settings(
        portal_env="production",
        portal_base_url="https://portal.example/shop",
        sf_webhook_secret=SF_SECRET,
        whmcs_webhook_secret=WHMCS_SECRET,
        fulfillment_wait_seconds=20.0,
    )
    portal = Portal(settings, each_ledger, store)
    yield portal
    for app in portal.apps:
        context.portal_of(app).lifecycle.stop()
        context.portal_of(app).lifecycle.end()


@pytest.fixture
def client(portal: Portal) -> FlaskClient:
    """A client of its receivers."""
    return application(portal).test_client()


@pytest.fixture
def pretend_org(tmp_path: Path) -> Iterator[tuple[Org, SalesforceClient, dict[str, str]]]:
    """A pretend org with catalogue and people, a client of it, and the records' ids by name."""
    with org_sandbox(tmp_path) as (org, client):
        names = org.seed(
            {
                "records": [
                    {
                        "type": "Account",
                        "ref": "acme",
                        "Name": "Acme",
                        "WHMCS_Client_ID__c": "41",
                        "BillingCity": "Oslo",
                        "BillingCountry": "NO",
                    },
                    {"type": "Account", "ref": "bare", "Name": 'O\'Brien & "Sons"', "BillingCity": "Cork"},
                    {
                        "type": "Contact",
                        "ref": "ada",
                        "AccountId": "@{acme}",
                        "FirstName": "Ada",
                        "LastName": "L",
                        "Email": "ada@example.com",
                    },
                    {
                        "type": "Contact",
                        "ref": "pat",
                        "AccountId": "@{bare}",
                        "FirstName": "Pat",
                        "LastName": "O'Brien",
                        "Email": "o'brien@example.com",
                        "Phone": "+353 1",
                    },
                    {
                        "type": "Contact",
                        "ref": "both",
                        "AccountId": "@{bare}",
                        "LastName": "L",
                        "Email": "ada@example.com",
                    },
                    {
                        "type": "Product2",
                        "ref": "starter",
                        "Name": "Starter",
                        "IsActive": True,
                        "Family": "Hosting",
                        "Description": "Small",
                        "WH_Product_ID__c": "5",
                        "Billing_Cycle__c": "Semi-Annually",
                    },
                    {"type": "Product2", "ref": "gone", "Name": "Gone", "IsActive": False},
                    {"type": "Product2", "ref": "odd", "Name": "Odd", "IsActive": True},
                    {"type": "Pricebook2", "ref": "book", "Name": "Portal", "IsActive": True},
                    {
                        "type": "PricebookEntry",
                        "ref": "e1",
                        "Pricebook2Id": "@{book}",
                        "Product2Id": "@{starter}",
                        "UnitPrice": 12.5,
                        "IsActive": True,
                    },
                    {
                        "type": "PricebookEntry",
                        "ref": "e2",
                        "Pricebook2Id": "@{book}",
                        "Product2Id": "@{gone}",
                        "UnitPrice": 1,
                        "IsActive": True,
                    },
                    {
                        "type": "PricebookEntry",
                        "ref": "e3",
                        "Pricebook2Id": "@{book}",
                        "Product2Id": "@{odd}",
                        "UnitPrice": 1,
                        "IsActive": False,
                    },
                ]
            }
        )["names"]
        yield org, client, names
