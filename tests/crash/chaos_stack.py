"""The portal under chaos: several of everything, short waits, and a name server that may be slow over WHMCS' name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests.crash.harness import CrashStack

MAX_REQUEST_SECONDS = 3.0
WORKERS, SLOTS, SWEEPS = 2, 4, 2

SETTINGS = {
    "FULFILLMENT_SLOTS": str(SLOTS),
    "WHMCS_MAX_REQUEST_SECONDS": str(MAX_REQUEST_SECONDS),
    "FULFILLMENT_WAIT_SECONDS": "10",
    # What nobody told us of, and what a call left behind that a restored ledger has forgotten, is found by an audit.
    "WHMCS_AUDIT_SCHEDULE": "20,86400",
}


class ChaosStack(CrashStack):
    """The portal under chaos: WHMCS has a name, which its workers' name server may be slow to tell."""

    def __init__(self, folder: Path, *, database_url: str | None) -> None:
        self._slow = folder / "slow-names"
        super().__init__(
            folder,
            workers=WORKERS,
            sweeps=SWEEPS,
            worker=("tests.crash.slow_names", str(self._slow)),
            settings=SETTINGS,
            database_url=database_url,
        )

    def _product_environ(self) -> dict[str, str]:
        port = urlsplit(self.urls["whmcs"]).port
        return super()._product_environ() | {"WHMCS_API_URL": f"http://localhost:{port}/includes/api.php"}

    def slow_names(self, seconds: float) -> None:
        """So long the workers' name server takes from now on."""
        self._slow.write_text(str(seconds), encoding="ascii")
