"""Removing what nobody needs any more: old versions, and what killed processes left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store.durable_files import disk_faults_told, sync_folder
from pipeline.store.head import current_version
from pipeline.store.locks import publishing
from pipeline.store.paths import VERSIONS
from pipeline.store.staging import sweep
from pipeline.store.versions import Version, bytes_freed, list_versions

PRUNED = ".pruned-"
"""Begins the name of a version that is being removed: no reader takes it for one."""


@dataclass(frozen=True)
class Pruned:
    """What `prune` removed, or would remove."""

    versions: tuple[Version, ...]
    """The latest first."""
    leftovers: tuple[Path, ...]
    """Abandoned stagings, and versions that a killed prune did not finish."""
    bytes: int
    """That are free then: versions may have shards in common."""


def prune(store: Path | str, keep: int, dry_run: bool = False) -> Pruned:
    """Removes all versions of a store but the published one and the `keep` latest of the others.

    Abandoned stagings go, too. A version leaves its place in one step before its files are
    deleted: whoever opens it meanwhile gets a StoreError, and what a reader has mapped stays. A
    killed prune is completed by the next one. `dry_run` removes nothing. Raises StoreError where
    nothing has been published, and where HEAD does not name a version that is there.
    """
    if keep < 0:
        raise StoreError(f"keep: got {keep}, expected 0 or more versions")
    return _pruned(Path(store), lambda others: others[keep:], dry_run)


def prune_holding(
    store: Path | str, holds: Callable[[Path], bool], dry_run: bool = False
) -> Pruned:
    """`prune` of the versions for whose folder `holds`, whatever their age."""

    def chosen(others: Sequence[Version]) -> Sequence[Version]:
        return [version for version in others if holds(version.path)]

    return _pruned(Path(store), chosen, dry_run)


def _pruned(
    store: Path, chosen: Callable[[Sequence[Version]], Sequence[Version]], dry_run: bool
) -> Pruned:
    current_version(store)  # first of all: a folder that is no store stays as it is
    with disk_faults_told(store), publishing(store):
        others = [version for version in list_versions(store) if not version.is_current]
        old = tuple(chosen(others))
        unfinished = sorted(store.glob(f"{PRUNED}*"))
        leftovers = (*unfinished, *sweep(store, dry_run=True))
        size = bytes_freed([*(version.path for version in old), *leftovers])
        if not dry_run:
            _delete(unfinished)
            removed = [version.path.rename(store / f"{PRUNED}{version.name}") for version in old]
            sync_folder(store / VERSIONS)
            _delete(removed)
            sweep(store)
    return Pruned(old, leftovers, size)


def _delete(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder)
