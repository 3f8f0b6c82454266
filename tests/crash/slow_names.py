"""`python -m tests.crash.slow_names FILE`: the product's worker, in whose process the name `localhost` is looked up as
slowly as the file says (seconds; no file: at once). WHMCS has that name under chaos."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

from jobs import worker

NAME = "localhost"


def main(file: Path) -> int:
    """The worker's process; returns its exit code."""
    look_up = socket.getaddrinfo

    def slowly(host: Any, port: Any, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0) -> Any:
        if host != NAME or flags & socket.AI_NUMERICHOST:
            return look_up(host, port, family, kind, proto, flags)
        if file.exists():
            time.sleep(float(file.read_text(encoding="ascii") or 0))
        return look_up("127.0.0.1", port, family, kind, proto, flags)

    socket.getaddrinfo = slowly  # type: ignore[assignment]
    return worker.main()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
