"""Where the command meets its user: arguments in, results and errors in single lines out."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import typer

from pipeline.errors import FacefoldError, RegistryError
from pipeline.text import printable

_NAME = "correct the path"
_PLACE = "name a place that may be written, or allow it"
_ROOM = "make room, or name a place on another disk"
REMEDIES: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: _NAME,
        errno.ENOTDIR: "a part of the path is a file: " + _NAME,
        errno.EISDIR: "name a file",
        errno.EEXIST: "name another place, or remove what is there",
        errno.ENOTEMPTY: "name another place, or remove what is there",
        errno.ENAMETOOLONG: "choose a shorter name",
        errno.ELOOP: "links lead in a circle: " + _NAME,
        errno.EINVAL: _NAME,
        errno.EACCES: _PLACE,
        errno.EPERM: _PLACE,
        errno.EROFS: _PLACE,
        errno.EXDEV: "name a place on the same disk",
        errno.ENOSPC: _ROOM,
        errno.EDQUOT: _ROOM,
        errno.EFBIG: _ROOM,
        errno.EIO: "the disk fails: look at the system's log, or name a place on another disk",
        errno.ESTALE: "the network's file system has gone: mount it again",
        errno.ENOTCONN: "the network's file system has gone: mount it again",
        errno.ENOLCK: "its file system gives no locks: name a place on a local disk",
        errno.ENOTSUP: "its file system cannot do this: name a place on a local disk",
        errno.ENOSYS: "its file system cannot do this: name a place on a local disk",
        errno.ENODEV: "its file system cannot do this: name a place on a local disk",
        errno.EBUSY: "it is in use: end what uses it, or name another place",
        errno.ETXTBSY: "it is in use: end what uses it, or name another place",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
        errno.ENFILE: "raise the limit of open files (ulimit -n)",
    }
)
"""What a machine may refuse -> what to do about it. Any other OSError is a bug, or news."""
WITHOUT_A_PATH = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE}
"""What the system says of a file that is open already, without its name."""


def say(text: object) -> None:
    """Progress and logs go to stderr, results to stdout."""
    typer.echo(printable(text), err=True)


def tell(text: object) -> None:
    """A line of the result."""
    typer.echo(printable(text))


def show(value: Any) -> None:
    """The result as JSON, which holds no control characters."""
    typer.echo(json.dumps(value, indent=2, default=str))


def local(text: str | Path) -> Path:
    """An argument that names a file or folder. Raises FacefoldError for a URL, which would become
    a folder of that name."""
    text = os.fspath(text)
    if "://" in text:
        raise FacefoldError(f"{text}: got a URL, expected a path on this machine")
    if not text:
        raise FacefoldError("got an empty path, expected that of a file or folder")
    return Path(text)


def ended(run: Callable[[], object]) -> None:
    """Runs a command. What facefold refuses, and what the machine does, is said in a line a fault,
    with status 2; any other exception is a bug, and shows its traceback."""
    try:
        run()
    except RegistryError as error:
        fail(*error.faults)
    except FacefoldError as error:
        fail(error)
    except OSError as error:
        if error.errno not in (REMEDIES if error.filename is not None else WITHOUT_A_PATH):
            raise
        fail(machine_fault(error))
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(130)


def machine_fault(error: OSError) -> str:
    """Path, fault and remedy."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*names, f"{error.strerror}; {REMEDIES[error.errno or 0]}"])


def fail(*faults: object) -> None:
    say(f"facefold: {faults[0]}")
    for fault in faults[1:]:
        say(fault)
    sys.exit(2)
