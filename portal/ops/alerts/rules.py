"""What is watched: each rule's name, its title and what the runbook says to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Rule:
    """One thing that operators are told of. `cure` stands word for word in docs/runbook.md, under `alert-<id>`.

    patient: it must last for ALERT_AFTER_SECONDS before it is told, for it often passes by itself.
    """

    id: str
    title: str
    cure: str
    patient: bool = True

    @property
    def runbook(self) -> str:
        """Where the runbook has its paragraph."""
        return f"docs/runbook.md#alert-{self.id}"


FAILURE_RATE: Final = Rule(
    "failure-rate",
    "High order provisioning failure rate",
    "Find what the failed orders have in common: their error codes are in Salesforce and in the log. One code for "
    "all of them is a fault of the set-up or of the other side; put it right, then click the orders again.",
    patient=False,
)
UNDECIDED: Final = Rule(
    "undecided",
    "Orders need a decision",
    "Nothing more is sent to WHMCS for these orders until somebody decides: adopt, create, or try again. The "
    "message in Salesforce says what was found.",
    patient=False,
)
STUCK: Final = Rule(
    "stuck",
    "An order is stuck",
    "`flask fulfillments show` says what it waits for. An order that waits for the other side goes on by itself; "
    "`flask fulfillments retry` has it tried now.",
    patient=False,
)
NOT_PLACED: Final = Rule(
    "not-placed",
    "Orders not in Salesforce",
    "`/ops` lists them. One that waits is tried until Salesforce takes it. One that it refused isn't: the log has its "
    'words at "Salesforce refused an order"; mend what they name, and ask the customer to order again.',
    patient=False,
)
NOBODY_WORKING: Final = Rule(
    "nobody-working",
    "Nobody works on orders",
    "Start `python -m jobs.worker` or `python -m jobs.sweep`; the log says why it ended. Accepted orders are safe "
    "in the ledger and go on from where they stood.",
)
UPSTREAM_DOWN: Final = Rule(
    "upstream-down",
    "The other side doesn't answer",
    "Is it away for everybody, or only from here? Its address, its certificate, the firewall: `flask doctor` says "
    "which. Its orders wait, and go on within seconds once it answers.",
)
SETUP_FAULT: Final = Rule(
    "setup-fault",
    "The other side's set-up is at fault",
    "It answers, and refuses what every order needs: a permission, a key, an address, a field. `flask doctor` "
    "names it. Nothing is given up meanwhile; the orders go on within a minute once it is mended.",
)
WRITE_BACKS_REFUSED: Final = Rule(
    "write-backs-refused",
    "Salesforce refuses write-backs",
    "Orders are done here, and Salesforce doesn't show it: the log has its reason at \"Failed to update order "
    'status in Salesforce". Each is tried again until it gets through; nobody needs to click.',
)
QUEUE_GROWING: Final = Rule(
    "queue-growing",
    "The queue is growing",
    "Orders wait for a free worker. Start more (`FULFILLMENT_SLOTS`, or `python -m jobs.worker` on another host), "
    "unless WHMCS is what is slow: then `WHMCS_MAX_IN_FLIGHT` bounds it.",
)
MESSAGES_UNSENT: Final = Rule(
    "messages-unsent",
    "Messages aren't sent",
    "Write-backs or mails are due and nobody carries them. They go out of the worker process: does it run, does "
    "it reach `SMTP_URL`?",
)
QUOTA: Final = Rule(
    "quota",
    "Salesforce's API calls run out",
    "Find which program of the org uses them up (Setup, Company Information), or buy more. When none are left, "
    "orders wait until Salesforce counts anew.",
    patient=False,
)
CERTIFICATE: Final = Rule(
    "certificate",
    "A certificate is about to expire",
    "Renew it before that day. The one of Salesforce's sign-in (`SF_CERTIFICATE_PATH`) is made anew and uploaded "
    "to the External Client App together with its key; the others are the web servers'.",
    patient=False,
)

RULES: Final = (
    FAILURE_RATE,
    UNDECIDED,
    STUCK,
    NOT_PLACED,
    NOBODY_WORKING,
    UPSTREAM_DOWN,
    SETUP_FAULT,
    WRITE_BACKS_REFUSED,
    QUEUE_GROWING,
    MESSAGES_UNSENT,
    QUOTA,
    CERTIFICATE,
)
