"""Files that appear whole or not at all, and survive a power cut."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StoreError

DISK_FAULTS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
)


@contextmanager
def disk_faults_told(where: Path) -> Iterator[None]:
    """A full, read-only or failing disk is a StoreError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        raise StoreError(
            f"{where}: {error.strerror}; what is published is as it was. Make room, or make the "
            "folder writable, and run it again"
        ) from error


def write_file(path: Path, *parts: bytes | memoryview) -> None:
    """`write_parts` of some that are at hand."""
    write_parts(path, parts)


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write whole or not at all: a temporary file beside it, fsync, rename, fsync the folder.

    Raises StoreError where the disk is full, read-only or fails.
    """
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with disk_faults_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames within `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
