"""The recorded requests: what the shipped Apex sends for fixed inputs, so that anybody can hold a receiver against it.

`python -m tests.contract.record` writes tests/contract/recorded/ anew; tests/contract/test_requests.py holds the files
against the Apex on one side and against the running portal on the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from integrations.salesforce.checks.platform import Org, Record, Request, Response, package_class

FOLDER = Path(__file__).parent / "recorded"
GUIDE = Path(__file__).parent / "guide" / "OrderProvisioningService.cls"
SECRET = "test-salesforce-webhook-secret-0123456789abcdef"  # also the one that tests/webhooks signs with
MOMENT = datetime(2026, 1, 31, 9, 30, 0, tzinfo=UTC)
CLASSES = ("OrderProvisioningRequest", "OrderProvisioningSignature", "OrderProvisioningException")


@dataclass(frozen=True)
class Case:
    """One request: who sends it, from where, for which order, and in which way it is signed."""

    name: str
    order_id: str
    user: str | None
    nonce: str
    mode: str = "Platform"
    zone: timedelta = timedelta(0)
    escapes_slashes: bool = False  # some JSON writers do; whether Apex's does, nothing says
    guide: bool = False  # by the communication guide's class, its secret put right, instead of the package's


CASES = [
    Case("plain", "801000000000101AAA", "Ada Lovelace", "00112233445566778899aabbccddeeff"),
    Case("signed-by-apex", "801000000000102AAA", "Ada Lovelace", "102132435465768798a9bacbdcedfe0f", mode="Apex"),
    Case("unicode", "801000000000103AAA", "Zoë Müller-Łukasiewicz 山田 😀", "ffeeddccbbaa99887766554433221100"),
    Case("quotes-and-slashes", "801000000000104AAA", 'A "B" C\\D </script> a/b', "0123456789abcdef0123456789abcdef"),
    Case("escaped-slashes", "801000000000108AAA", "a/b", "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf", escapes_slashes=True),
    Case("control-characters", "801000000000105AAA", "tab\there", "fedcba9876543210fedcba9876543210"),
    Case("nobody", "801000000000106AAA", None, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"),
    Case("guide", "801000000000109AAA", None, "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf", guide=True),
    Case("another-zone", "801000000000107AAA", "Ada", "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf", zone=timedelta(hours=9)),
]


def key_of(case: Case) -> str:
    """An Idempotency-Key as OrderProvisioningRecords makes it, or as the guide does."""
    if case.guide:
        return f"provision_{case.order_id}_{int(MOMENT.timestamp() * 1000)}"
    return f"provision_{case.order_id}_{case.nonce[::-1]}"


def record(case: Case, *, now: datetime = MOMENT) -> dict[str, Any]:
    """What the shipped Apex sends at this moment, as it leaves the platform."""
    org = Org(
        SECRET,
        zone=case.zone,
        now=now,
        nonce=case.nonce,
        mode=case.mode,
        escapes_slashes=case.escapes_slashes,
    )
    if case.guide:
        request = _by_the_guide(org, case)
    else:
        runtime = org.runtime(*(package_class(name) for name in CLASSES))
        request = runtime.call("OrderProvisioningRequest", "build", case.order_id, key_of(case), case.user)
    path, headers, body = org.on_the_wire(request, "")
    return {
        "about": f"{case.name}: signed by {'the guide' if case.guide else case.mode}, secret {SECRET}",
        "method": request.method,
        "path": path,
        "headers": headers,
        "body": body.decode("ascii"),
    }


def _by_the_guide(org: Org, case: Case) -> Request:
    """What the guide's whole method sends; what it writes afterwards goes nowhere."""
    sent: list[Request] = []

    def send(request: Request) -> Response:
        sent.append(request)
        return Response(200, "{}", {})

    org.send = send
    org.query = lambda text, variables: Record()  # type: ignore[assignment,return-value]
    org.dml = lambda verb, record: None
    runtime = org.runtime(GUIDE)
    runtime.classes["orderprovisioningservice"].values = {"webhook_secret": SECRET}
    runtime.call("OrderProvisioningService", "provisionOrder", case.order_id)
    return sent[0]


def main() -> None:
    """Write every file anew."""
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        text = json.dumps(record(case), indent=2, ensure_ascii=True)
        (FOLDER / f"{case.name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
