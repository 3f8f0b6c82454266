"""`make coverage`: the processes that tests start are measured, too, though they get environments of their own."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

#: coverage.py's own (`patch = subprocess`): a Python process that finds it measures itself.
NAME = "COVERAGE_PROCESS_CONFIG"


def pytest_configure(config: pytest.Config) -> None:
    """Pass it on to every process that is started from here, whatever environment a test gives it."""
    measure = os.environ.get(NAME)
    if measure is None:
        return
    start = subprocess.Popen.__init__

    def measured(self: subprocess.Popen[Any], *arguments: Any, **options: Any) -> None:
        if options.get("env") is not None:
            options["env"] = {**options["env"], NAME: measure}
        start(self, *arguments, **options)

    subprocess.Popen.__init__ = measured  # type: ignore[method-assign]
