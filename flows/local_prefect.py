"""Prefect without a server: call `use_local_prefect` before Prefect is imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def use_local_prefect(home: Path) -> None:
    """Keep Prefect's state and results under `home`, with telemetry off and errors raised once.

    Settings the user has already made in the environment (a server's PREFECT_API_URL, a home of
    their own) win. Raises RuntimeError when Prefect is already imported: its settings are read
    at import.
    """
    if "prefect" in sys.modules:
        if os.environ.get("PREFECT_HOME"):
            return
        raise RuntimeError("Prefect was imported before its settings were made")
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage"),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # a busy machine takes longer than Prefect's twenty seconds to start its server
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_CLI_WRAP_LINES": "false",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
