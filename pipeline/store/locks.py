"""Advisory file locks, which die with their process however it dies."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import FacefoldError, StoreError
from pipeline.store.durable_files import disk_faults_told

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What a file system answers that has no locks."""


@contextmanager
def publishing(store: Path) -> Iterator[None]:
    """One publisher at a time moves a version in place and swaps HEAD; others wait."""
    descriptor = lock(store / ".publishing", fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path, busy: str) -> Iterator[None]:
    """One at a time holds the lock; nobody waits. Raises FacefoldError, saying `busy`, where
    another holds it."""
    try:
        descriptor = lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FacefoldError(busy) from error
    try:
        yield
    finally:
        os.close(descriptor)


def lock(path: Path, kind: int, create: bool = True) -> int:
    """A descriptor of the file that holds the lock (fcntl.LOCK_SH …) until it is closed.

    Raises BlockingIOError where another holds it and LOCK_NB is asked for, and StoreError where the
    file cannot be made, or its file system has no locks.
    """
    with disk_faults_told(path):
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
    try:
        fcntl.flock(descriptor, kind)
    except OSError as error:
        os.close(descriptor)
        if error.errno in NO_LOCKS:
            raise no_locks(path, error) from error
        error.filename = str(path)  # the system does not say it
        raise
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def no_locks(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path}: this file system has no file locks ({error.strerror}), without which two writers "
        "would destroy each other's work; mount it with locks (NFS: v4, or a lock daemon), or "
        "write to a local disk and copy the store here when it is complete"
    )
