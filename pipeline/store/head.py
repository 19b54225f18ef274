"""HEAD, the file of a store that names its published version."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store.documents import content_of, shown
from pipeline.store.durable_files import write_file
from pipeline.store.paths import FILES, HEAD, VERSIONS, is_there


def current_version(store: Path | str) -> Path:
    """The published version a store's HEAD names.

    Raises StoreError where there is no store or nothing has been published.
    """
    store = Path(store)
    if not is_there(store / HEAD):
        raise StoreError(f"{store}: holds no published store (no {HEAD} file)")
    name = version_name(store / HEAD, content_of(store / HEAD))
    version = store / VERSIONS / name
    if not version.is_dir():
        raise StoreError(
            f"{store / HEAD}: names version {name!r}, which is not in {VERSIONS}/; "
            "name one that is, or publish again"
        )
    if not (version / FILES).is_file():
        raise StoreError(f"{version / FILES}: missing; restore it, or publish again")
    return version


def version_name(head: Path | str, content: bytes) -> str:
    """What a HEAD says. Raises StoreError where that is no version's name."""
    name = content[:1000].decode("ascii", "replace").strip()
    if not re.fullmatch("[0-9a-f]{16}", name):
        raise StoreError(
            f"{head}: damaged, says {shown(name)}; name one of {VERSIONS}/ in it, or publish again"
        )
    return name


def move_head(store: Path, version: Path) -> None:
    """Readers see this version from now on; whoever calls holds `locks.publishing`."""
    write_file(store / HEAD, version.name.encode() + b"\n")
