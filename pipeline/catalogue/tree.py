"""What lies below a source's root: every file once, and what keeps one from being read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import FacefoldError


class Entry(NamedTuple):
    """A file below the root, or what stands in the place of one."""

    path: str
    """Relative to the root, `/`-separated; bytes that are no UTF-8 as `\\xff`."""
    size: int = 0
    """Bytes."""
    fault: str = ""
    """Why it must not be opened, or cannot."""
    mtime_ns: int = 0
    """Of its last change, since 1970."""


def files_below(root: Path) -> list[Entry]:
    """All files below `root`, by path. Nothing is opened.

    A link to a file below the root is that file once more; a link to a folder below it is left
    alone, for its files are found where they are. What leads out of the root, cannot be listed or
    is no file has a fault. FacefoldError where the root itself cannot be listed.
    """
    base = os.path.realpath(root)
    found: list[Entry] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(f"{base}/{folder}") as entries:
                for entry in entries:
                    path = folder + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path + "/")
                    elif (seen := _entry(base, path, entry)) is not None:
                        found.append(seen)
        except OSError as error:
            if not folder:
                fault = f"cannot be listed ({error.strerror}); allow reading"
                raise FacefoldError(f"{root}: {fault}") from error
            found.append(_refused(folder[:-1], f"cannot be listed: {error.strerror}"))
    return sorted(found)


def _entry(base: str, path: str, entry: os.DirEntry[str]) -> Entry | None:
    """None for a link to a folder below the root."""
    try:
        status = entry.stat()
    except OSError as error:
        return _refused(path, f"cannot be opened: {error.strerror}")
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if target != base and not target.startswith(f"{base.rstrip('/')}/"):
            fault = f"a link out of the source's root, to {target}: put the file itself there"
            return _refused(path, fault)
        if stat.S_ISDIR(status.st_mode):
            return None
    if not stat.S_ISREG(status.st_mode):
        return _refused(path, "neither a file nor a folder: remove it")
    return _named(Entry(path, status.st_size, mtime_ns=status.st_mtime_ns))


def _refused(path: str, fault: str) -> Entry:
    return _named(Entry(path, fault=fault))


def _named(entry: Entry) -> Entry:
    """Tables and reports hold UTF-8 only, so a name that is none cannot be followed further."""
    if entry.path.isascii():
        return entry
    try:
        entry.path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
        fault = entry.fault or "its name is not UTF-8: rename it"
        return entry._replace(path=shown, fault=fault)
    return entry
