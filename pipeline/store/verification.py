"""Checking a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from pipeline.errors import StoreError
from pipeline.store.layout import (
    FILES,
    HEAD,
    RUN,
    VERSIONS,
    current_version,
    file_digest,
    form_of,
    unsealed,
)
from pipeline.store.tables import CHECKSUM, read_table


def verify(store: Path | str) -> list[str]:
    """Every fault of a store's published version, or of one version's folder; empty = sound.

    Reads every byte: finds each flipped bit, truncation, missing and foreign file, and names the
    damaged rows of an array.
    """
    store = Path(store)
    if (store / FILES).exists():
        return faults_of_version(store)
    try:
        version = current_version(store)
    except StoreError as error:
        return [str(error)]
    strangers = sorted(
        path.name
        for path in store.iterdir()
        if path.name not in (HEAD, VERSIONS) and not path.name.startswith(".")
    )
    return [f"{name}: does not belong to the store" for name in strangers] + faults_of_version(
        version
    )


def faults_of_version(version: Path) -> list[str]:
    """Every fault of one version's folder, each beginning with the file it concerns."""
    try:
        listing = unsealed(version / FILES)
    except StoreError as error:
        return [str(error)]
    faults = []
    if version.parent.name == VERSIONS and version.name != listing["digest"][:16]:
        faults.append(f"{version.name}: the folder's name is not its content's digest")
    files = listing["files"]
    for name, entry in files.items():
        faults += _faults_of_file(version, name, entry)
    try:
        if (version / RUN).exists():
            unsealed(version / RUN)
    except StoreError as error:
        faults.append(str(error))
    known = files.keys() | {FILES, RUN}
    present = (path for path in version.rglob("*") if not path.is_dir())
    strangers = {path.relative_to(version).as_posix() for path in present} - known
    return faults + [f"{name}: does not belong to the version" for name in sorted(strangers)]


def _faults_of_file(version: Path, name: str, entry: dict[str, Any]) -> list[str]:
    path = version / name
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return [f"{name}: {size} bytes, expected {entry['bytes']}"]
        if file_digest(path) == entry["sha256"]:
            return []
    except OSError as error:
        return [f"{name}: {error.strerror or error}"]
    return [f"{name}: content differs from its SHA-256" + _damaged_rows(version, path, entry)]


def _damaged_rows(version: Path, path: Path, entry: dict[str, Any]) -> str:
    """ " (rows …)" where the manifest's checksums can tell, else nothing."""
    if "field" not in entry:
        return ""
    try:
        form = form_of(version)
        field = form.stored(entry["field"])
        if form.profile != "training" or field.group:
            return ""
        manifest = read_table(version / "manifest.parquet")
        expected = manifest[CHECKSUM + entry["field"]].to_numpy()
    except (StoreError, KeyError):
        return ""
    first = entry["shard"] * form.rows_per_shard
    expected = expected[first : first + form.rows_per_shard]
    with path.open("rb") as file:
        got = [google_crc32c.value(file.read(field.row_bytes)) for _ in expected]
    rows = (first + np.flatnonzero(np.asarray(got) != expected)).tolist()
    return f" (rows {rows})" if rows else " (outside its rows)"
