"""The ledger fails while an order is accepted: what is told, and that it is true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal.ledger import installation
from portal.ledger.engine import CommitUnknown, Ledger, LedgerUnavailable
from portal.ledger.schema import deliveries as deliveries_table
from portal.ledger.schema import fulfillments as table
from tests.webhooks.callout import Call
from tests.webhooks.in_process import PROVISIONED, Portal, application, code, count, finish, jobs_sent, post, use_ledger


def test_a_ledger_that_fails_gives_the_nonce_back(
    client: FlaskClient, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Call()
    with monkeypatch.context() as patch:

        def away(*_args: object, **_kwargs: object) -> None:
            raise LedgerUnavailable("gone")

        patch.setattr(installation, "history_complete", away)
        answer = post(client, call)
        assert code(answer) == (503, "ledger_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
    assert count(portal, deliveries_table) == 0
    assert post(client, call).status_code == 202


class LostAtCommit:
    """A ledger whose connection is lost while a transaction commits: before it took effect, or after."""

    def __init__(self, ledger: Ledger, *, committed: bool) -> None:
        self.ledger = ledger
        self.committed = committed
        self.read = ledger.read

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        try:
            with self.ledger.write() as connection:
                yield connection
                if not self.committed:
                    raise CommitUnknown("lost")
        finally:
            if self.committed:
                raise CommitUnknown("lost")


def test_a_commit_of_unknown_outcome_is_looked_up(portal: Portal) -> None:
    real, call = portal.ledger, Call()
    use_ledger(portal, LostAtCommit(real, committed=False))
    client = application(portal).test_client()
    assert code(post(client, call)) == (503, "ledger_unavailable")
    assert count(Portal(portal.settings, real, portal.redis), table) == 0
    use_ledger(portal, LostAtCommit(real, committed=True))
    assert post(client, call).status_code == 202  # the nonce had been given back, and the order is there
    assert jobs_sent(portal) == [call.order_id]
    use_ledger(portal, real)
    assert count(portal, table) == 1
    assert code(post(client, call)) == (401, "nonce_already_used")


class LostAfterwards:
    """A ledger that goes away once `writes` transactions have been committed."""

    def __init__(self, ledger: Ledger, *, writes: int) -> None:
        self.ledger = ledger
        self.writes = writes

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        if self.writes == 0:
            raise LedgerUnavailable("gone")
        with self.ledger.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        if self.writes == 0:
            raise LedgerUnavailable("gone")
        with self.ledger.write() as connection:
            yield connection
        self.writes -= 1


@pytest.mark.parametrize("prefer", ["respond-async", "wait=1", None])
def test_a_ledger_that_fails_after_acceptance_is_no_refusal(portal: Portal, prefer: str | None) -> None:
    real, call = portal.ledger, Call()
    portal.settings = replace(portal.settings, fulfillment_wait_seconds=1.0)
    client = application(portal).test_client()  # what is counted in the background goes to the real one
    use_ledger(portal, LostAfterwards(real, writes=1))
    answer = post(client, call, prefer=prefer)
    assert (answer.status_code, answer.json) == (202, {"status": "Activating"})
    assert answer.headers["Location"].endswith(f"/api/orders/{call.order_id}")
    use_ledger(portal, real)
    assert count(portal, table) == 1


def test_a_known_outcome_is_told_though_it_cant_be_kept(portal: Portal) -> None:
    real, call = portal.ledger, Call()
    client = application(portal).test_client()
    assert post(client, replace(call, key="an-earlier-click")).status_code == 202
    finish(portal, call.order_id, **PROVISIONED)
    call = replace(call, nonce="another-nonce")
    # A known order isn't for the common transaction, which writes nothing then: it has one of its own.
    use_ledger(portal, LostAfterwards(real, writes=2))
    answer = post(client, call)
    assert (answer.status_code, answer.json["status"]) == (200, "Provisioned")


def test_a_commit_whose_outcome_cant_be_asked_is_called_unknown(portal: Portal) -> None:
    real, call = portal.ledger, Call()

    class Lost(LostAfterwards):
        @contextmanager
        def write(self) -> Iterator[sa.Connection]:
            with super().write() as connection:
                yield connection
            raise CommitUnknown("lost")

    client = application(portal).test_client()
    use_ledger(portal, Lost(real, writes=1))
    answer = post(client, call)
    assert code(answer) == (503, "outcome_unknown")
    assert int(answer.headers["Retry-After"]) > 0
    assert "may have been taken" in answer.json["detail"]
    use_ledger(portal, real)
    again = Call(order_id=call.order_id, key=call.key)
    assert post(client, again).status_code == 202
    assert count(portal, table) == 1
