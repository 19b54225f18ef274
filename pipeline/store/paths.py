"""Bytes and paths of a store: a Zarr v3 group of sharded arrays.

    STORE/HEAD                          name of the published version
    STORE/versions/<name>/zarr.json     the group; its attributes are the version's `Form`
    STORE/versions/<name>/<field>/zarr.json, c/<shard>/0/0
    STORE/versions/<name>/faces, region, region_mask, scan_id: `description.py`
    STORE/versions/<name>/manifest.parquet, quarantine.parquet, excluded.parquet,
                          identities.parquet, provenance.json
    STORE/versions/<name>/files.json    size and SHA-256 of all of these; its digest names it
    STORE/versions/<name>/run.json      when, where and how long: outside the digest

A shard is its chunks back to back, then the index of the Zarr v3 sharding codec (ZEP 2): an
(offset, length) pair of uint64 a chunk and their CRC-32C.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from pipeline.errors import StoreError
from pipeline.store.documents import content_of, fault_of, parsed, shown
from pipeline.store.form import Form
from pipeline.types import Array

FILES, RUN, HEAD, VERSIONS = "files.json", "run.json", "HEAD", "versions"
ABSENT = 2**64 - 1
"""Offset and length, in a shard's index, of a chunk that is not there."""
ZSTD_LEVEL = 3
BLOCK = 1 << 21
"""Of a write: a huge page, which the page cache keeps as one. In smaller ones, rows that have just
been written are gathered from the map a fifth more slowly."""


def fill_value(dtype: np.dtype[Any]) -> Any:
    """NaN, the lowest of the steps, or 0: what stands where no chunk is. With NaN, no reader takes
    a missing shard for data."""
    return np.nan if dtype.kind == "f" else -32768 if dtype == np.int16 else 0


def shard_path(array: str, shard: int, n_dims: int) -> str:
    """Where Zarr looks for a shard of an array whose rows have `n_dims` dimensions."""
    return "/".join([array, "c", str(shard), *["0"] * n_dims])


def path_of(form: Form, name: str, shard: int) -> str:
    """A shard's file, within the version."""
    return shard_path(form.array(name), shard, len(form.fields[name].shape))


def shard_parts(form: Form, name: str, rows: Array) -> list[bytes | memoryview]:
    """The bytes of a shard, in order: its chunks, the last one padded, and their index.

    rows (n, *shape) of the stored dtype, n up to the shard's room.
    """
    rows, per_chunk = np.ascontiguousarray(rows), form.chunk_rows(name)
    n_chunks = -(-len(rows) // per_chunk)
    missing = n_chunks * per_chunk - len(rows)
    padding = np.full((missing, *rows.shape[1:]), fill_value(rows.dtype), rows.dtype)
    if form.profile == "training":
        chunk_bytes = per_chunk * form.stored(name).row_bytes
        data: memoryview = rows.reshape(-1).view(np.uint8).data
        return [data, padding.tobytes(), shard_index(form, name, [chunk_bytes] * n_chunks)]
    padded = np.concatenate([rows, padding]) if missing else rows
    packed: list[bytes | memoryview] = [
        with_checksum(_zstd().compress(padded[i * per_chunk :][:per_chunk].tobytes(), asbytes=True))
        for i in range(n_chunks)
    ]
    return [*packed, shard_index(form, name, [len(chunk) for chunk in packed])]


def shard_index(form: Form, name: str, chunk_bytes: Sequence[int]) -> bytes:
    """The index behind chunks of these lengths; those past the last row are absent."""
    index = np.full((form.shard_rows(name) // form.chunk_rows(name), 2), ABSENT, "<u8")
    used = len(chunk_bytes)
    index[:used, 1] = chunk_bytes
    index[:used, 0] = np.cumsum([0, *chunk_bytes], dtype=np.uint64)[:-1]
    return with_checksum(index.tobytes())


def with_checksum(content: bytes) -> bytes:
    """Zarr's crc32c codec: the checksum's four bytes follow the content."""
    return content + int(google_crc32c.value(content)).to_bytes(4, "little")


def without_checksum(content: bytes, owner: str) -> bytes:
    """Raises StoreError where the checksum is not that of the content."""
    if with_checksum(content[:-4]) != content:
        raise StoreError(f"{owner}: damaged; verify the store, then restore it")
    return content[:-4]


def _zstd() -> pa.Codec:
    return pa.Codec("zstd", compression_level=ZSTD_LEVEL)


def unpacked(chunk: bytes, n_bytes: int, owner: str) -> bytes:
    """A chunk of the archive profile -> its `n_bytes`. Raises StoreError where it is damaged."""
    packed = without_checksum(chunk, owner)
    if unpacked_bytes(packed) != n_bytes:  # before so many are allocated
        raise StoreError(f"{owner}: does not hold {n_bytes:,} bytes; verify the store")
    try:
        content: bytes = _zstd().decompress(packed, n_bytes, asbytes=True)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{owner}: damaged; verify the store, then restore it") from error
    return content


def unpacked_bytes(frame: bytes) -> int:
    """The content's size as a Zstandard frame says it (RFC 8878, 3.1.1.1); -1 where it does not."""
    if frame[:4] != b"\x28\xb5\x2f\xfd" or len(frame) < 5:
        return -1
    flags = frame[4]
    single, size_flag = flags >> 5 & 1, flags >> 6
    start = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    length = (single, 2, 4, 8)[size_flag]
    size = int.from_bytes(frame[start : start + length], "little")
    return size + 256 * (size_flag == 1) if length else -1


def row_checksums(rows: Iterable[Array]) -> list[int]:
    """CRC-32C of the bytes of each scan's row, or rows."""
    return [int(google_crc32c.value(np.asarray(row).tobytes())) for row in rows]


class Sums:
    """Length, SHA-256 and CRC-32C of what passes through: taken while it is in the cache."""

    def __init__(self) -> None:
        self.bytes, self._crc32c, self._sha256 = 0, 0, hashlib.sha256()

    def passing(self, parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        for part in parts:
            for start in range(0, len(part), BLOCK):
                block = bytes(part[start : start + BLOCK])
                self.bytes += len(block)
                self._sha256.update(block)
                self._crc32c = google_crc32c.extend(self._crc32c, block)
                yield block

    def taken(self) -> dict[str, int | str]:
        return {
            "bytes": self.bytes,
            "crc32c": self._crc32c,
            "sha256": self._sha256.hexdigest(),
        }


DISK_FAULTS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
)


@contextmanager
def disk_faults_told(where: Path) -> Iterator[None]:
    """A full, read-only or failing disk is a StoreError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        raise StoreError(
            f"{where}: {error.strerror}; what is published is as it was. Make room, or make the "
            "folder writable, and run it again"
        ) from error


def write_file(path: Path, *parts: bytes | memoryview) -> None:
    """`write_parts` of some that are at hand."""
    write_parts(path, parts)


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write whole or not at all: a temporary file beside it, fsync, rename, fsync the folder.

    Raises StoreError where the disk is full, read-only or fails.
    """
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with disk_faults_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames within `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            sha.update(piece)
    return sha.hexdigest()


def file_entry(path: Path) -> dict[str, Any]:
    """What `files.json` says of a file."""
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


def group_attributes(version: Path) -> dict[str, Any]:
    """The attributes of a version's or staging's group. Raises StoreError where unreadable."""
    return attributes_in(content_of(version / "zarr.json"), version / "zarr.json")


def attributes_in(content: bytes, owner: Path | str) -> dict[str, Any]:
    """`group_attributes` of a file that has been read."""
    attributes = parsed(content, owner).get("attributes")
    if not isinstance(attributes, dict):
        raise StoreError(f"{owner}: attributes: got {shown(attributes)}, expected a JSON object")
    return attributes


def form_of(version: Path) -> Form:
    """How a version's or staging's arrays lie. Raises StoreError where that cannot be read."""
    return form_in(group_attributes(version), version)


def form_in(attributes: dict[str, Any], owner: Path | str) -> Form:
    """What the attributes of a group say. Raises StoreError where they are of no version."""
    try:
        return Form.of(attributes)
    except StoreError as error:
        raise StoreError(f"{owner}: {error}") from error


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


def is_there(path: Path) -> bool:
    """Raises StoreError for what cannot be a path: too long, or with a NUL."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise StoreError(f"{shown(str(path))}: unreadable ({fault_of(error)})") from error
    return True


def strangers(names: Iterable[str]) -> list[str]:
    """Those names of a store's folder that belong to no store; hidden ones may be anybody's."""
    ours = {HEAD, VERSIONS, "lost+found"}
    return sorted(name for name in names if name not in ours and not name.startswith("."))
