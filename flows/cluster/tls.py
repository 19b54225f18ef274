"""The certificates with which a build connects to a scheduler at tls://…, checked beforehand.

Dask tries a refused connection again until its time is over, and then has no reason to give.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from types import MappingProxyType

import dask
from distributed import Security
from distributed.comm.addressing import parse_host_port

from pipeline.errors import FacefoldError

ANSWER_S = 10.0
FILES: Mapping[str, str] = MappingProxyType(
    {
        "distributed.comm.tls.ca-file": "DASK_DISTRIBUTED__COMM__TLS__CA_FILE",
        "distributed.comm.tls.client.cert": "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT",
        "distributed.comm.tls.client.key": "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY",
    }
)
"""Fields of Dask's configuration that name a client's files, and their environment variables."""


def shake_hands(address: str) -> None:
    """Connects to the scheduler at `address` (tls://HOST:PORT) once, and closes the connection.

    Raises FacefoldError if a file is missing or useless, or if one side refuses the certificate of
    the other. Nothing is raised if nobody listens there: the scheduler may be about to start.
    """
    if dask.config.get("distributed.client.security-loader", None):
        return  # certificates come from elsewhere
    for name, variable in FILES.items():
        check_file(address, name, variable)
    try:
        context = Security().get_connection_args("client")["ssl_context"]
    except ssl.SSLError as error:
        raise refused(
            address, f"its certificates cannot be used ({reason(error)})", "compare the three files"
        ) from error
    try:
        with (
            socket.create_connection(parse_host_port(address), ANSWER_S) as connection,
            context.wrap_socket(connection) as secured,
        ):
            # from TLS 1.3 on a scheduler refuses a client's certificate after the handshake
            answered = secured.recv(1)
    except ssl.SSLError as error:
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            raise refused(address, "the scheduler has no TLS", "tcp://… connects to it") from error
        raise refused(address, f"TLS is refused ({reason(error)})", SAME_CA) from error
    except ConnectionResetError as error:
        raise refused(address, "the scheduler refuses this side's certificate", SAME_CA) from error
    except (OSError, ValueError):
        return
    if not answered:
        raise refused(address, "the scheduler closes the connection", SAME_CA)


SAME_CA = "scheduler, workers and build need certificates of the same authority"


def check_file(address: str, name: str, variable: str) -> None:
    """Raises FacefoldError if a field of Dask's configuration names no file that can be read."""
    path = dask.config.get(name, None)
    remedy = f"set {name} in Dask's configuration, or {variable}"
    if path is None:
        # a key may be in the certificate's file
        if not name.endswith(".key"):
            raise refused(address, f"the build has no {name}", remedy)
    elif "\n" not in path and not os.access(path, os.R_OK):
        raise refused(address, f"{path} cannot be read", remedy)


def refused(address: str, fault: str, remedy: str) -> FacefoldError:
    return FacefoldError(f"--dask {address}: {fault}; {remedy} (docs/how_to/cluster.md, TLS)")


def reason(error: ssl.SSLError) -> str:
    """In words: "certificate verify failed"."""
    return (error.reason or str(error)).replace("_", " ").lower()
