"""No restore of the ledger makes two Active orders of one, whatever runs meanwhile. Here because it takes a minute."""

from __future__ import annotations

import pytest

from tests.protocol_search import Rules, Violation, check_active, search


def test_no_restore_of_the_ledger_breaks_the_promise() -> None:
    worlds, endings = search(Rules(), restores=True)
    assert worlds > 200_000  # it did search
    assert endings == {True, False}


def test_a_restore_needs_a_look_before_the_first_order_too() -> None:
    """A ledger that knows of no AddOrder may have forgotten one: where it alone decides, two become Active."""
    assert search(Rules(first_look=False))[0] > 30_000  # without restores all is well
    with pytest.raises(Violation, match="two Active orders"):
        search(Rules(first_look=False), restores=True, check=check_active)
