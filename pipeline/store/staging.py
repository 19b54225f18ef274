"""Staging a version: a folder of its own inside the store, with all metadata and no shard yet.

A staging `.staging-<id>` is alive while anyone holds `.staging-<id>.lock` shared; the lock file
exists before the folder does and goes after it, so a folder without one is abandoned, and swept.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.store.description import described
from pipeline.store.documents import fault_of, shown
from pipeline.store.durable_files import disk_faults_told, write_file
from pipeline.store.form import Form, form_of
from pipeline.store.head import current_version
from pipeline.store.locks import lock
from pipeline.store.paths import HEAD, VERSIONS, is_there, strangers
from pipeline.store.schema import ROWS_PER_SHARD, SCHEMA_VERSION, ModelTag
from pipeline.store.topology import Topology

STAGING, CLAIMS = ".staging-", ".claims"
_owned: dict[Path, int] = {}
"""Stagings this process made, locked until they are published or the process ends."""


def create_staging(
    store: Path | str,
    n_rows: int,
    model: ModelTag,
    rows_per_shard: int = ROWS_PER_SHARD,
    topology: Topology | None = None,
    **form: Any,
) -> Path:
    """A new staging folder inside `store` with all metadata and no shard yet.

    The calling process must live until `publish`: what a dead process leaves is swept by the next
    call. Several stagings may exist at once; each is published whole or not at all.

    rows_per_shard is a multiple of 16; `topology` (`Topology.of(model)`) is stored for those who
    read the version without facefold; `form` gives `profile`, `extras`, `per_scan`, `int16`,
    `identities`, `views`, `attached` of the store's `Form`.
    Raises StoreError for wrong numbers, where the store was made with another model, and where the
    folder holds what belongs to no store.
    """
    try:
        wanted = Form(n_rows, model, rows_per_shard, **form)
    except StoreError as error:
        raise StoreError(f"{store}: {error}") from error
    return stage(Path(store), wanted, topology)


def stage(store: Path, form: Form, topology: Topology | None = None) -> Path:
    """`create_staging` of a form that is made already."""
    check_model(store, form.model)
    sweep(store)
    staging = new_staging(store)
    with removed_on_fault(staging):
        for path, content in described(replace(form, schema=SCHEMA_VERSION), topology).items():
            write_file(staging / path, content)
    return staging


def check_model(store: Path | str, model: ModelTag) -> None:
    """Raises StoreError where `store` is published and was made with another model."""
    store = Path(store)
    if not is_there(store / HEAD):
        return
    try:
        versions = [current_version(store)]
    except StoreError:  # a damaged HEAD, which publishing mends: the versions are as good a witness
        versions = list((store / VERSIONS).glob("*"))
    for version in versions[:1]:
        published = form_of(version).model
        same_model(store, published.digest, model.digest, published.name)


def same_model(where: Path, digest: str, got: str, name: str) -> None:
    if digest != got:
        raise StoreError(
            f"{where}: made with the model {name!r} ({digest[:12]}…), the rows with another "
            f"({got[:12]}…); register them again with that model or choose another store"
        )


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
def claimed(staging: Path, shard: str) -> Iterator[None]:
    """Own a shard. Raises StoreError where another process does."""
    with alive(staging):
        (staging / CLAIMS).mkdir(exist_ok=True)
        try:
            claim = lock(staging / CLAIMS / shard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"{staging}: {shard} is being written by another process; one owns a shard"
            ) from error
        try:
            yield
        finally:
            os.close(claim)


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
