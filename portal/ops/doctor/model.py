"""What the doctor's parts share: checks, what they find, and what they work with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from redis import Redis

from portal.clients.salesforce.trial import TrialClient as SalesforceClient
from portal.clients.whmcs.trial import TrialClient as WhmcsClient
from portal.ledger.engine import Ledger
from portal.queue.redis import connect_redis
from portal.settings import Settings

RUNBOOK = "docs/runbook.md"

#: What one call of a check may take; its check may take longer than its calls.
CALL_SECONDS = 8.0


class Result(StrEnum):
    """How a line ends; the words are those of `--json`."""

    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What a check found. `message`: for people, without secrets; of a success it may be empty."""

    result: Result
    message: str = ""


def good(message: str = "") -> Finding:
    """It is right; `message`: what was found."""
    return Finding(Result.SUCCESS, message)


def warning(message: str) -> Finding:
    """It works, but somebody should look at it."""
    return Finding(Result.WARNING, message)


def error(message: str) -> Finding:
    """It is wrong."""
    return Finding(Result.ERROR, message)


class Context:
    """What checks work with. Its clients are its own: without the circuit breaker, so that the doctor asks although a
    circuit is open, and opens none; nothing of it is built before a check asks for it.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        write_test: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.environ = environ
        self.write_test = write_test
        self.now = now
        self.found: dict[str, Any] = {}  # what checks keep for those that depend on them
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The settings, once the check of them has read them."""
        assert self._settings is not None, "every other check depends on the settings"
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def ledger(self) -> Ledger:
        """Connects when it is first asked."""
        return Ledger(self.settings.ledger_url)

    @cached_property
    def redis(self) -> Redis:
        """REDIS_URL's; without one, development's own Valkey, which this starts."""
        return connect_redis(self.settings)

    @cached_property
    def salesforce(self) -> SalesforceClient:
        """Each of its calls has CALL_SECONDS."""
        client = SalesforceClient.from_settings(self.settings)
        client.read_seconds = CALL_SECONDS
        return client

    @cached_property
    def whmcs(self) -> WhmcsClient:
        """Each of its calls has CALL_SECONDS."""
        client = WhmcsClient.from_settings(self.settings)
        client.read_seconds = CALL_SECONDS
        return client


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the doctor.

    id       stable: `--only`, `--skip` and scripts use it; its first part is the category's name
    run      finds out; what it raises becomes an error with the exception's words (a PortalError's) or type
    cure     what to do about it, one sentence
    needs    ids of earlier checks without which this one can't tell anything
    seconds  its deadline
    retry    whether waiting (`--wait`) may help: something isn't up yet
    section  the runbook's section, where it isn't the id
    """

    id: str
    description: str
    run: Callable[[Context], Finding]
    cure: str
    needs: tuple[str, ...] = ()
    seconds: float = 10.0
    retry: bool = False
    section: str = ""

    @property
    def category(self) -> str:
        """The id's first part."""
        return self.id.partition(".")[0]

    @property
    def anchor(self) -> str:
        """The runbook's anchor for this check."""
        return "doctor-" + (self.section or self.id).replace(".", "-")

    @property
    def hint(self) -> str:
        """The cure, and where the runbook says more."""
        return f"{self.cure} ({RUNBOOK}#{self.anchor})"


@dataclass(frozen=True)
class Outcome:
    """What became of one check."""

    check: Check
    finding: Finding


@dataclass
class Report:
    """What became of all of them, in their order."""

    outcomes: list[Outcome] = field(default_factory=list)

    def count(self, result: Result) -> int:
        """How many lines ended like this."""
        return sum(each.finding.result is result for each in self.outcomes)

    @property
    def success(self) -> bool:
        """No error: warnings leave it a success, and what was skipped was skipped for an error."""
        return not self.count(Result.ERROR)
