"""Who is at work in a store: advisory file locks, which die with their process however it dies.

A staging `.staging-<id>` is alive while anyone holds `.staging-<id>.lock` shared; the lock file
exists before the folder does and goes after it, so a folder without one is abandoned.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store.layout import HEAD, VERSIONS, disk_faults_told

STAGING, CLAIMS = ".staging-", ".claims"
_owned: dict[Path, int] = {}
"""Stagings this process made, locked until they are published or the process ends."""


def new_staging(store: Path) -> Path:
    """An empty staging folder, alive while this process is. The lock is held before it has its
    name, so that no sweep takes it in between."""
    attempt = uuid.uuid4().hex
    staging = store / f"{STAGING}{attempt}"
    with disk_faults_told(store):
        store.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(store)
        unnamed = store / f".new-{attempt}"
        _owned[staging] = lock(unnamed, fcntl.LOCK_SH)
        unnamed.rename(_lock_of(staging))
        staging.mkdir()
    return staging


def _refuse_foreign(store: Path) -> None:
    """Raises StoreError for a folder with files in it that nothing was ever published in: it is
    likely another one than was meant."""
    with os.scandir(store) as entries:
        names = {entry.name for entry in entries}
    foreign = sorted(name for name in names if not name.startswith("."))
    if foreign and HEAD not in names and VERSIONS not in names:
        raise StoreError(
            f"{store}: is no store, and holds {foreign[0]}; name a new folder, or an empty one"
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
    """A descriptor of the file that holds the lock (fcntl.LOCK_SH …) until it is closed."""
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
    try:
        fcntl.flock(descriptor, kind)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            error.filename = str(path)  # the system does not say it
        raise
    return descriptor
