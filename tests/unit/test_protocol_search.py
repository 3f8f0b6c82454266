"""No interleaving of runs that may pause anywhere or die makes two Active orders of one; each rule is needed for it.

tests/crash/test_restore_search.py searches on, with a ledger that is restored from a copy.
"""

from __future__ import annotations

import pytest

from tests.protocol_search import Rules, Violation, search


def test_no_interleaving_breaks_the_promise() -> None:
    worlds, endings = search(Rules())
    assert worlds > 30_000  # it did search
    assert endings == {True, False}  # it provisions; and where nothing more can come, it has left some undone


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        (Rules(election=False), "two Active orders|the elected order was cancelled"),
        (Rules(look=False), "a second order"),
        (Rules(wait=False), "a second order"),
    ],
)
def test_without_a_rule_the_search_finds_what_goes_wrong(rules: Rules, what: str) -> None:
    with pytest.raises(Violation, match=what):
        search(rules)
