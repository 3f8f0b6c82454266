"""The receivers in this process, for tests of what they answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from flask.testing import FlaskClient

from portal.ledger.engine import Ledger
from portal.settings import Settings
from portal.web import context
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
