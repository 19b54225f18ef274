"""What a version lists of its files, checked before anything is allocated for what it says: a store
may come from a stranger, and whoever can write one can seal it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.errors import StoreError
from pipeline.store.documents import content_of, is_sha256, shown, unsealed_content, whole
from pipeline.store.form import Form
from pipeline.store.layout import FILES
from pipeline.store.schema import TABLES, Field

Files: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Path within the version -> bytes, sha256, and of a shard its field, number and crc32c."""
TABLES_AND_METADATA = ("zarr.json", "provenance.json", *(f"{name}.parquet" for name in TABLES))
"""Files that every version has."""
_PATH = re.compile(r"[A-Za-z0-9_]+(\.[a-z]+)?(/[A-Za-z0-9_]+(\.[a-z]+)?){0,9}")
_MOST_BYTES, _MOST_SHARDS = 1 << 62, 1 << 32


def listing_of(version: Path) -> dict[str, Any]:
    """{"files": Files, "digest": …}. Raises StoreError where that is not what is there."""
    path = version / FILES
    return listing_in(content_of(path), path)


def listing_in(content: bytes, owner: Path | str) -> dict[str, Any]:
    """`listing_of` of a file that has been read."""
    listing = unsealed_content(content, owner)
    files = listing.get("files")
    if not isinstance(files, dict):
        raise StoreError(f"{owner}: files: got {shown(files)}, expected a JSON object")
    for name, entry in files.items():
        if not _PATH.fullmatch(name) or len(name) > 200:
            raise StoreError(
                f"{owner}: names {shown(name)}, which is no file of a version; publish again"
            )
        if not _is_entry(entry):
            _check_entry(f"{owner}: {name}", entry)
    if missing := [name for name in TABLES_AND_METADATA if name not in files]:
        raise StoreError(f"{owner}: does not list {missing[0]}; publish again")
    return listing


def _is_entry(entry: Any) -> bool:
    """What nearly all are, as quickly as can be: there may be thousands."""
    return (
        type(entry) is dict
        and type(entry.get("bytes")) is int
        and 0 <= entry["bytes"] <= _MOST_BYTES
        and is_sha256(entry.get("sha256"))
        and type(entry.get("field", "")) is str
        and type(entry.get("shard", 0)) is int
        and type(entry.get("crc32c", 0)) is int
        and 0 <= entry.get("crc32c", 0) < 1 << 32
    )


def _check_entry(owner: str, entry: Any) -> None:
    """Raises StoreError with what is wrong."""
    if not isinstance(entry, dict):
        raise StoreError(f"{owner}: got {shown(entry)}, expected a JSON object")
    whole(f"{owner}: bytes", entry.get("bytes"), 0, _MOST_BYTES)
    if not is_sha256(entry.get("sha256")):
        raise StoreError(f"{owner}: sha256: got {shown(entry.get('sha256'))}, expected a SHA-256")
    if not isinstance(entry.get("field", ""), str):
        raise StoreError(f"{owner}: field: got {shown(entry['field'])}, expected a name")
    whole(f"{owner}: shard", entry.get("shard", 0), 0, _MOST_SHARDS)
    whole(f"{owner}: crc32c", entry.get("crc32c", 0), 0, (1 << 32) - 1)


def check_shards(form: Form, files: Files, owner: Path | str) -> None:
    """Raise StoreError unless the shards listed are those of the form, and as long as its rows."""
    held = fields_held(form, files)
    listed = sum("field" in entry for entry in files.values())
    if listed != form.n_shards * len(held):
        raise StoreError(
            f"{owner}: lists {listed:,} shards, but {form.rows:,} rows in shards of "
            f"{form.rows_per_shard:,} make {form.n_shards:,} of each of {len(held)} fields; "
            "restore it or publish again"
        )
    for name, field in held.items():
        least, chunk = form.index_bytes(name), form.chunk_rows(name) * form.stored(name).row_bytes
        array, rest = form.array(name), "/0" * len(field.shape)
        for shard in range(form.n_shards):
            path = f"{array}/c/{shard}{rest}"  # of which there may be thousands
            entry = files.get(path, {})
            if entry.get("field") != name or entry.get("shard") != shard:
                raise StoreError(f"{owner}: does not list {path} as shard {shard} of {name}")
            if not _fits(form, name, shard, entry["bytes"] - least, chunk):
                raise StoreError(
                    f"{owner}: {path}: {entry['bytes']:,} bytes cannot be {form.scans(shard):,} "
                    f"scans of {name}; restore it or publish again"
                )


def fields_held(form: Form, files: Files) -> dict[str, Field]:
    """The form's fields; of schema 1, to which some came later, those that are listed."""
    if form.schema > 1:
        return form.fields
    listed = {entry.get("field") for entry in files.values()}
    return {name: field for name, field in form.fields.items() if name in listed}


def _fits(form: Form, name: str, shard: int, data: int, chunk: int) -> bool:
    """`data` bytes of chunks can be the shard's rows."""
    if form.profile == "archive":  # compressed: the index says how long
        return data >= 0
    if form.fields[name].group:
        return 0 <= data <= form.shard_rows(name) * (chunk // form.chunk_rows(name)) and (
            data % chunk == 0
        )
    return data == -(-form.scans(shard) // form.chunk_rows(name)) * chunk


def check_sizes(version: Path, files: Files) -> None:
    """Raise StoreError unless every file is there, is a file, and has its size."""
    for name, entry in files.items():
        try:
            status = os.lstat(f"{version}/{name}")
        except OSError as error:
            raise StoreError(f"{version / name}: missing; restore it or publish again") from error
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{version / name}: is no regular file; restore it or publish again")
        if status.st_size != entry["bytes"]:
            raise StoreError(
                f"{version / name}: {status.st_size} bytes, expected {entry['bytes']}; "
                "restore it or publish again"
            )
