"""Prefect for commands: without a server, or with the user's. Called before Prefect is imported."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from pipeline.build.estimate import STATE_BYTES, check_room
from pipeline.errors import FacefoldError

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # a busy machine takes longer than Prefect's twenty seconds to start its server
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLI_WRAP_LINES": "false",
}
PORTS = {"http": 80, "https": 443}


def use_local_prefect(home: Path) -> None:
    """Keep Prefect's state and results under `home`, with telemetry off and errors raised once.

    Settings the user has already made in the environment win: with PREFECT_API_URL runs are told to
    that server, and nothing but PREFECT_HOME is written here. Flows that a Prefect worker starts
    never come here: `prefect.yaml` sets what they need.

    Raises RuntimeError when Prefect is already imported, since its settings are read at import, and
    FacefoldError when nothing answers at PREFECT_API_URL or the disk of `home` is full.
    """
    if "prefect" in sys.modules:
        if os.environ.get("PREFECT_HOME"):
            return
        raise RuntimeError("Prefect was imported before its settings were made")
    home = home.resolve()
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        # on a full disk its server says nothing, and Prefect waits for it for minutes
        check_room(home, STATE_BYTES, "Prefect's state")
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage"),
        **SETTINGS,
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if url:
        reach(url)
    else:
        # Prefect's own server for this command listens on loopback, as any user of the machine may:
        # a secret of this process and its children keeps the others out
        secret = f"facefold:{secrets.token_urlsafe(32)}"
        os.environ["PREFECT_API_AUTH_STRING"] = secret
        os.environ["PREFECT_SERVER_API_AUTH_STRING"] = secret


def reach(url: str) -> None:
    """FacefoldError if nothing listens there, or who listens asks for a secret that is missing:
    Prefect would try for minutes, or show a traceback."""
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "", parts.port or PORTS[parts.scheme])
        socket.create_connection(address, timeout=10).close()
    except (OSError, ValueError, KeyError) as error:
        raise FacefoldError(
            f"PREFECT_API_URL is {url}, where no server answers ({error}); start it with "
            "`prefect server start`, correct the address (http://HOST:4200/api), or unset it"
        ) from error
    if not os.environ.get("PREFECT_API_KEY") and refuses(url):
        raise FacefoldError(
            f"PREFECT_API_URL is {url}, where the server refuses this command's secret; set "
            "PREFECT_API_AUTH_STRING to the server's own (docs/how_to/prefect_server.md)"
        )


def refuses(url: str) -> bool:
    """Whether the server there wants another PREFECT_API_AUTH_STRING."""
    secret = base64.b64encode(os.environ.get("PREFECT_API_AUTH_STRING", "").encode()).decode()
    question = Request(f"{url.rstrip('/')}/admin/version")
    if secret:
        question.add_header("Authorization", f"Basic {secret}")
    try:
        urlopen(question, timeout=10).close()
    except HTTPError as error:
        return error.code == 401
    except OSError:  # Prefect may still reach it, as by certificates of its own
        return False
    return False
