"""Whether a file is what was listed of it, to the last bit, and which rows are not."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.store.checks.file_places import Files
from pipeline.store.form import attributes_in, form_in
from pipeline.store.paths import GROUP, table_file
from pipeline.store.schema import CHECKSUM, SCAN, TABLE_OF


def faults_of_file(
    version: Files,
    sizes: dict[str, int],
    quick: bool,
    unread: Collection[str],
    name: str,
    entry: dict[str, Any],
) -> list[str]:
    if name not in sizes:
        return [f"{name}: missing"]
    if sizes[name] < 0:
        return [f"{name}: is no regular file"]
    if sizes[name] != entry["bytes"]:
        return [f"{name}: {sizes[name]} bytes, expected {entry['bytes']}"]
    if name in unread:
        return []
    by_crc32c = quick and "crc32c" in entry
    try:
        if by_crc32c and content_crc32c(version, name, entry["bytes"]) == entry["crc32c"]:
            return []
        if not by_crc32c and content_digest(version, name, entry["bytes"]) == entry["sha256"]:
            return []
    except OSError as error:
        return [f"{name}: {error.strerror or error}"]
    kind = "CRC-32C" if by_crc32c else "SHA-256"
    return [f"{name}: content differs from its {kind}" + _damaged_rows(version, name, entry)]


def content_digest(place: Files, name: str, size: int) -> str:
    """SHA-256 of a file, read in pieces."""
    sha = hashlib.sha256()
    for piece in place.pieces(name, size):
        sha.update(piece)
    return sha.hexdigest()


def content_crc32c(place: Files, name: str, size: int) -> int:
    crc = 0
    for piece in place.pieces(name, size):
        crc = google_crc32c.extend(crc, piece)
    return crc


def _damaged_rows(version: Files, name: str, entry: dict[str, Any]) -> str:
    """ " (rows …)" where the checksums of rows can tell, else nothing."""
    if "field" not in entry:
        return ""
    try:
        form = form_in(attributes_in(version.read(GROUP), GROUP), GROUP)
        form = form.holding(entry["field"])
        field, column = form.stored(entry["field"]), CHECKSUM + entry["field"]
        if form.compressed or field.group:
            return ""
        table = pa.BufferReader(version.read(table_file(TABLE_OF[form.row_of])))
        expected = pq.read_table(table, columns=[column])[column].to_numpy()
    except (StoreError, OSError, ValueError, LookupError, TypeError, pa.ArrowException):
        return ""  # they are damaged as well, and have a fault of their own
    first = entry["shard"] * form.rows_per_shard
    expected = expected[first : first + form.rows_per_shard]
    rows = split(version.pieces(name, entry["bytes"]), field.row_bytes)
    got = [google_crc32c.value(row) for row, _ in zip(rows, expected, strict=False)]
    bad = (first + np.flatnonzero(np.asarray(got) != expected)).tolist()
    whose = "rows" if form.row_of == SCAN else f"{form.row_of} rows"
    return f" ({whose} {bad})" if bad else " (outside its rows)"


def split(pieces: Iterable[bytes], n_bytes: int) -> Iterator[bytes]:
    """Pieces of any lengths -> pieces of `n_bytes`."""
    held = b""
    for piece in pieces:
        held += piece
        whole = len(held) // n_bytes * n_bytes
        yield from (held[i : i + n_bytes] for i in range(0, whole, n_bytes))
        held = held[whole:]
