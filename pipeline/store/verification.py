"""Checking a store, in a folder or below a URL."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.store.arrays.compressed import check_places, stored_rows
from pipeline.store.documents import LARGEST, fault_of, parsed, unsealed_content
from pipeline.store.form import Form, at
from pipeline.store.listing import check_shards, fields_held, listing_in
from pipeline.store.paths import (
    FILES,
    RUN,
    VERSIONS,
    attributes_in,
    current_version,
    form_in,
    is_there,
    path_of,
    strangers,
)
from pipeline.store.remote.objects import Place, is_url, published_version
from pipeline.store.schema import TABLES
from pipeline.store.tables import CHECKSUM, SINCE_SCHEMA_1, check_table

FILES_AT_ONCE = 4


class Files(Protocol):
    """What a check needs of a place: `objects.Place` is one, too. Names are relative to it."""

    def sizes(self) -> dict[str, int]: ...

    def read(self, name: str) -> bytes: ...

    def pieces(self, name: str, size: int) -> Iterable[bytes]: ...


class Folder:
    """Files below a folder. What cannot be read is an OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def sizes(self) -> dict[str, int]:
        """Of all that is no folder; -1 of what is no file either: a link, a pipe."""
        sizes = {}
        for path in self.path.rglob("*"):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                size = status.st_size if stat.S_ISREG(status.st_mode) else -1
                sizes[path.relative_to(self.path).as_posix()] = size
        return sizes

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        with (self.path / name).open("rb") as file:
            while piece := file.read(1 << 22):
                yield piece


def verify(store: Path | str) -> list[str]:
    """Every fault of a store's published version, or of one version; empty = sound.

    `store` is a folder or a URL. Reads every byte: finds each flipped bit, truncation, missing and
    foreign file, and names the damaged rows of an array. Raises StoreError where a URL cannot be
    read at all.
    """
    place: Place | Folder = Place(str(store)) if is_url(store) else Folder(Path(store))
    try:
        if isinstance(place, Folder) and not is_there(place.path):
            return [f"{store}: there is no such folder"]
    except StoreError as error:
        return [str(error)]
    names = place.sizes()
    if FILES in names:
        return _faults(place)
    try:
        version = (
            published_version(place)
            if isinstance(place, Place)
            else Folder(current_version(place.path))
        )
    except StoreError as error:
        return [str(error)]
    foreign = strangers({name.partition("/")[0] for name in names})
    return [f"{name}: does not belong to the store" for name in foreign] + _faults(version)


def faults_of_version(
    version: Path, quick: bool = False, unread: Collection[str] = ()
) -> list[str]:
    """Every fault of one version's folder, each beginning with the file it concerns.

    `quick` compares the CRC-32C of those files whose listing has it, in a tenth of the time. Of
    the files `unread` only the size is compared.
    """
    return _faults(Folder(version), quick, unread)


def _faults(version: Files, quick: bool = False, unread: Collection[str] = ()) -> list[str]:
    sizes = version.sizes()
    if FILES not in sizes:
        return [f"{version}/{FILES}: missing; this is no published version of a store"]
    if large := [f for f in (FILES, RUN) if not 0 <= sizes.get(f, 0) <= LARGEST]:
        return [f"{large[0]}: is no regular file of at most {LARGEST:,} bytes"]
    try:
        listing = listing_in(version.read(FILES), f"{version}/{FILES}")
    except StoreError as error:
        return [str(error)]
    faults = []
    where = PurePosixPath(str(version))
    if where.parent.name == VERSIONS and where.name != listing["digest"][:16]:
        faults.append(f"{where.name}: the folder's name is not its content's digest")
    files = listing["files"]
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        check = partial(_faults_of_file, version, sizes, quick, unread)
        found = pool.map(check, files, files.values())
        faults += [fault for some in found for fault in some]
    try:
        if RUN not in sizes:
            faults.append(f"{RUN}: missing")
        else:
            unsealed_content(version.read(RUN), f"{version}/{RUN}")
    except StoreError as error:
        faults.append(str(error))
    foreign = sizes.keys() - files.keys() - {FILES, RUN}
    faults += [f"{name}: does not belong to the version" for name in sorted(foreign)]
    return faults or ([] if quick else _contradictions(version, files))


def _contradictions(version: Files, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where files that are as they were listed say what cannot be: whoever lists them can seal
    anything."""
    try:
        form = form_in(attributes_in(version.read("zarr.json"), "zarr.json"), "zarr.json")
        check_shards(form, files, FILES)
        parsed(version.read("provenance.json"), "provenance.json")
        for name in TABLES:
            table = _table(version, f"{name}.parquet")
            fields = fields_held(form, files) if name == "manifest" else ()
            check_table(name, table.schema, f"{name}.parquet", fields)
            for column in SINCE_SCHEMA_1[name]:
                if table[column].null_count:
                    raise StoreError(f"{name}.parquet: column {column!r} has empty places")
            if name == "manifest":
                _check_order(table, form)
        if isinstance(version, Folder):
            _check_rows(version.path, form, fields_held(form, files))
    except (OSError, StoreError) as error:
        return [str(error)]
    return []


def _table(version: Files, name: str) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(version.read(name)))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"{name}: unreadable ({fault_of(error)})") from error


def _check_order(manifest: pa.Table, form: Form) -> None:
    """Raise StoreError unless row i of the manifest is that of the arrays."""
    rows = np.arange(form.rows) if len(manifest) == form.rows else np.zeros(0)
    for column, wanted in (("row", rows), ("shard", rows // form.rows_per_shard)):
        if not np.array_equal(manifest[column].to_numpy(), wanted):
            raise StoreError(
                f"manifest.parquet: {len(manifest):,} rows, of which {column!r} is not that of the "
                f"{form.rows:,} rows of the arrays"
            )
    if len(manifest["scan_id"].unique()) < form.rows:
        raise StoreError("manifest.parquet: a scan_id comes twice")


def _check_rows(version: Path, form: Form, names: Iterable[str]) -> None:
    """Raise StoreError unless each shard's index is one, and scans have the rows that they name."""
    rows, scans = {}, np.arange(form.rows)
    for name in names:
        paths = [f"{version}/{path_of(form, name, shard)}" for shard in range(form.n_shards)]
        rows[name] = stored_rows(form, name, paths)
    for name in rows:
        if group := form.fields[name].group:
            places = rows[at(group)].take(scans)
            check_places(version, form, name, rows[name].held, scans, places)


def _faults_of_file(
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
    """ " (rows …)" where the manifest's checksums can tell, else nothing."""
    if "field" not in entry:
        return ""
    try:
        form = form_in(attributes_in(version.read("zarr.json"), "zarr.json"), "zarr.json")
        field = form.stored(entry["field"])
        if form.profile != "training" or field.group:
            return ""
        manifest = pa.BufferReader(version.read("manifest.parquet"))
        column = CHECKSUM + entry["field"]
        expected = pq.read_table(manifest, columns=[column])[column].to_numpy()
    except (StoreError, OSError, ValueError, LookupError, TypeError, pa.ArrowException):
        return ""  # they are damaged as well, and have a fault of their own
    first = entry["shard"] * form.rows_per_shard
    expected = expected[first : first + form.rows_per_shard]
    rows = _split(version.pieces(name, entry["bytes"]), field.row_bytes)
    got = [google_crc32c.value(row) for row, _ in zip(rows, expected, strict=False)]
    bad = (first + np.flatnonzero(np.asarray(got) != expected)).tolist()
    return f" (rows {bad})" if bad else " (outside its rows)"


def _split(pieces: Iterable[bytes], n_bytes: int) -> Iterator[bytes]:
    """Pieces of any lengths -> pieces of `n_bytes`."""
    held = b""
    for piece in pieces:
        held += piece
        whole = len(held) // n_bytes * n_bytes
        yield from (held[i : i + n_bytes] for i in range(0, whole, n_bytes))
        held = held[whole:]
