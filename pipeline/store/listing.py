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
from pipeline.store.checksums import file_digest
from pipeline.store.documents import content_of, is_sha256, shown, unsealed_content, whole
from pipeline.store.form import Form
from pipeline.store.paths import FILES, TABLES_AND_METADATA, shard_path, table_file
from pipeline.store.schema import Field, tables_of

Files: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Path within the version -> bytes, sha256, and of a shard its field, number and crc32c."""
_PATH = re.compile(r"(?!.{200})\w+(\.[a-z]+)?(/\w+(\.[a-z]+)?){0,9}", re.ASCII)
_MOST = {"bytes": 1 << 62, "shard": 1 << 40, "crc32c": (1 << 32) - 1}


def listing_of(version: Path) -> dict[str, Any]:
    """{"files": Files, "digest": …}. Raises StoreError where that is not what is there."""
    path = version / FILES
    return listing_in(content_of(path), path)


def version_of(listing: Mapping[str, Any]) -> str:
    """The name of the version with this listing: sixteen hexadecimal digits of its digest, which
    name what it holds wherever it lies."""
    return str(listing["digest"])[:16]


def listing_in(content: bytes, owner: Path | str) -> dict[str, Any]:
    """`listing_of` of a file that has been read."""
    listing = unsealed_content(content, owner, keys_once=False)
    files = listing.get("files")
    if not isinstance(files, dict):
        raise StoreError(f"{owner}: files: got {shown(files)}, expected a JSON object")
    if not _are_entries(files):
        for name, entry in files.items():
            _check_entry(str(owner), name, entry)
    # names and values hold none of these signs, so that a key which comes twice is one too many
    if content.count(b'": ') != len(listing) + len(files) + sum(map(len, files.values())):
        raise StoreError(f"{owner}: lists a file twice, or says what no listing does")
    if missing := [name for name in TABLES_AND_METADATA if name not in files]:
        raise StoreError(f"{owner}: does not list {missing[0]}; publish again")
    return listing


def _are_entries(files: Mapping[str, Any]) -> bool:
    """`_check_entry` of all of them at once, of which there may be thousands."""
    entries = list(files.values())
    if any(type(entry) is not dict for entry in entries):
        return False
    columns = {
        "bytes": [entry.get("bytes") for entry in entries],
        "shard": [entry.get("shard", 0) for entry in entries],
        "crc32c": [entry.get("crc32c", 0) for entry in entries],
    }
    for name, numbers in columns.items():
        if any(type(number) is not int for number in numbers):
            return False
        if numbers and not 0 <= min(numbers) <= max(numbers) <= _MOST[name]:
            return False
    fields = [entry.get("field", "") for entry in entries]
    digests = [entry.get("sha256") for entry in entries]
    return (
        all(map(_PATH.fullmatch, files))
        and all(type(field) is str for field in fields)
        and all(map(is_sha256, digests))
    )


def _check_entry(owner: str, name: str, entry: Any) -> None:
    """Raises StoreError with what is wrong."""
    if not _PATH.fullmatch(name):
        raise StoreError(
            f"{owner}: names {shown(name)}, which is no file of a version; publish again"
        )
    owner = f"{owner}: {name}"
    if not isinstance(entry, dict):
        raise StoreError(f"{owner}: got {shown(entry)}, expected a JSON object")
    if not isinstance(entry.get("field", ""), str):
        raise StoreError(f"{owner}: field: got {shown(entry['field'])}, expected a name")
    if not is_sha256(entry.get("sha256")):
        raise StoreError(f"{owner}: sha256: got {shown(entry.get('sha256'))}, expected a SHA-256")
    whole(f"{owner}: bytes", entry.get("bytes"), 0, _MOST["bytes"])
    for number in ("shard", "crc32c"):
        whole(f"{owner}: {number}", entry.get(number, 0), 0, _MOST[number])


def check_shards(form: Form, files: Files, owner: Path | str) -> None:
    """Raise StoreError unless the tables of the form's schema are listed, and its shards, as long
    as its rows."""
    if missing := [name for name in tables_of(form.schema) if table_file(name) not in files]:
        raise StoreError(f"{owner}: does not list {table_file(missing[0])}; publish again")
    parts = {row_of: (part, fields_held(part, files)) for row_of, part in form.parts.items()}
    listed = sum("field" in entry for entry in files.values())
    if listed != sum(part.n_shards * len(held) for part, held in parts.values()):
        said = " and ".join(
            f"{part.rows:,} rows of {row_of} in shards of {part.rows_per_shard:,} make "
            f"{part.n_shards:,} of each of {len(held)} fields"
            for row_of, (part, held) in parts.items()
        )
        raise StoreError(
            f"{owner}: lists {listed:,} shards, but {said}; restore it or publish again"
        )
    for part, held in parts.values():
        _check_shards_of(part, held, files, owner)


def _check_shards_of(
    form: Form, held: Mapping[str, Field], files: Files, owner: Path | str
) -> None:
    last = form.n_shards - 1
    for name, field in held.items():
        array, n_dims, fits = form.array(name), len(field.shape), _sizes(form, name)
        for shard in range(form.n_shards):
            path = shard_path(array, shard, n_dims)
            entry = files.get(path, {})
            if entry.get("field") != name or entry.get("shard") != shard:
                raise StoreError(f"{owner}: does not list {path} as shard {shard} of {name}")
            if entry["bytes"] not in fits[shard == last]:
                raise StoreError(
                    f"{owner}: {path}: {entry['bytes']:,} bytes cannot be {form.scans(shard):,} "
                    f"rows of {name}; restore it or publish again"
                )


def _sizes(form: Form, name: str) -> tuple[range, range]:
    """What a shard's bytes can be, and what those of the last one can."""
    index, per_chunk = form.index_bytes(name), form.chunk_rows(name)
    chunk = per_chunk * form.stored(name).row_bytes
    if form.compressed:  # compressed: the index says how long
        anything = range(index, _MOST["bytes"])
        return anything, anything
    if form.fields[name].group:
        room = range(index, index + form.shard_rows(name) // per_chunk * chunk + 1, chunk)
        return room, room
    whole_shard, last = (
        index + -(-scans // per_chunk) * chunk
        for scans in (form.rows_per_shard, form.scans(form.n_shards - 1))
    )
    return range(whole_shard, whole_shard + 1), range(last, last + 1)


def fields_held(form: Form, files: Files) -> dict[str, Field]:
    """The form's fields; of schema 1, to which some came later, those that are listed."""
    if form.schema > 1:
        return form.fields
    listed = {entry.get("field") for entry in files.values()}
    return {name: field for name, field in form.fields.items() if name in listed}


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


def file_entry(path: Path) -> dict[str, Any]:
    """What `files.json` says of a file."""
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}
