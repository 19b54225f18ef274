"""Who is at work in a store: advisory file locks, which die with their process however it dies.

A staging `.staging-<id>` is alive while anyone holds `.staging-<id>.lock` shared; the lock file
exists before the folder does and goes after it, so a folder without one is abandoned.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store.documents import fault_of, shown
from pipeline.store.durable_files import disk_faults_told
from pipeline.store.paths import strangers

STAGING, CLAIMS = ".staging-", ".claims"
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What a file system answers that has no locks."""
_owned: dict[Path, int] = {}
"""Stagings this process made, locked until they are published or the process ends."""


def new_staging(store: Path) -> Path:
    """An empty staging folder, alive while this process is. The lock is held before it has its
    name, so that no sweep takes it in between.

    Raises StoreError where the folder cannot be made, or holds what belongs to no store.
    """
    attempt = uuid.uuid4().hex
    staging = store / f"{STAGING}{attempt}"
    _check_folder(store)
    with disk_faults_told(store):
        unnamed = store / f".new-{attempt}"
        _owned[staging] = lock(unnamed, fcntl.LOCK_SH)
        unnamed.rename(_lock_of(staging))
        staging.mkdir()
    return staging


def _check_folder(store: Path) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
        foreign = strangers(path.name for path in store.iterdir())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{shown(str(store))}: cannot hold a store ({fault_of(error)}); name another folder, "
            "or make it writable"
        ) from error
    if foreign:
        some = ", ".join(map(shown, foreign[:3])) + (" …" if len(foreign) > 3 else "")
        raise StoreError(
            f"{store}: holds what belongs to no store ({some}); name an empty folder or a new one"
        )


def release(staging: Path) -> None:
    """Give up a staging that has been published."""
    if staging in _owned:
        os.close(_owned.pop(staging))
    _lock_of(staging).unlink(missing_ok=True)


@contextmanager
def removed_on_fault(staging: Path) -> Iterator[None]:
    """A staging whose making fails is removed: what tries again has the room it took."""
    try:
        yield
    except BaseException:
        release(staging)
        sweep(staging.parent)
        raise


@contextmanager
def alive(staging: Path) -> Iterator[None]:
    """Keep a staging from being swept. Raises StoreError where it has been."""
    try:
        descriptor = lock(_lock_of(staging), fcntl.LOCK_SH, create=False)
    except FileNotFoundError as error:
        raise StoreError(f"{staging}: published or swept already; create another") from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def claimed(staging: Path, shard: int) -> Iterator[None]:
    """Own a shard. Raises StoreError where another process does."""
    with alive(staging):
        (staging / CLAIMS).mkdir(exist_ok=True)
        try:
            claim = lock(staging / CLAIMS / str(shard), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"{staging}: shard {shard} is being written by another process; one owns a shard"
            ) from error
        try:
            yield
        finally:
            os.close(claim)


@contextmanager
def publishing(store: Path) -> Iterator[None]:
    """One publisher at a time moves a version in place and swaps HEAD; others wait."""
    descriptor = lock(store / ".publishing", fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def sweep(store: Path | str, dry_run: bool = False) -> list[Path]:
    """Remove the stagings whose processes are all dead; returns what was, or would be, removed."""
    store = Path(store)
    locks = {path.with_suffix("") for path in store.glob(f"{STAGING}*.lock")}
    folders = {path for path in store.glob(f"{STAGING}*") if path.is_dir()}
    removed = []
    for staging in sorted(locks | folders):
        stays = dry_run and _lock_of(staging).exists()
        try:
            descriptor = lock(_lock_of(staging), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        if not dry_run:
            shutil.rmtree(staging, ignore_errors=True)
        if not stays:
            _lock_of(staging).unlink(missing_ok=True)
        os.close(descriptor)
        removed.append(staging)
    return removed


def _lock_of(staging: Path) -> Path:
    return staging.with_name(f"{staging.name}.lock")


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
