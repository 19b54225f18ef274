"""Bytes and paths of a store: a Zarr v3 group of sharded arrays.

    STORE/HEAD                          name of the published version
    STORE/versions/<name>/zarr.json     the group; its attributes are the version's `Form`
    STORE/versions/<name>/<field>/zarr.json, c/<shard>/0/0
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
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from pipeline.errors import StoreError
from pipeline.store.form import IN_STEPS, STEP_MM, Form
from pipeline.types import Array

FILES, RUN, HEAD, VERSIONS = "files.json", "run.json", "HEAD", "versions"
MOST_NAME = 64
"""Letters of a version's name; it has 16."""
ABSENT = 2**64 - 1
"""Offset and length, in a shard's index, of a chunk that is not there."""
ZSTD_LEVEL = 3
BLOCK = 1 << 21
"""Of a write: a huge page, which the page cache keeps as one. In smaller ones, rows that have just
been written are gathered from the map a fifth more slowly."""


def group_metadata(form: Form) -> dict[str, Any]:
    """The group's `zarr.json`, which repeats its arrays'."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": form.attributes(),
        # so that Zarr libraries need not list the folder, and do not wonder at the tables in it
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {name: array_metadata(form, name) for name in form.fields},
        },
    }


def array_metadata(form: Form, name: str) -> dict[str, Any]:
    """The array's `zarr.json`. Floats are filled with NaN, so that no reader takes a missing
    shard for data."""
    field = form.stored(name)
    dtype = np.dtype(field.dtype)
    endian = {"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {}
    packing = [
        {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
        {"name": "crc32c"},
    ]
    sharding = {
        "chunk_shape": [form.chunk_rows(name), *field.shape],
        "codecs": [{"name": "bytes", **endian}, *packing * (form.profile == "archive")],
        "index_codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
        "index_location": "end",
    }
    relative = {"relative_to": IN_STEPS[name]} if IN_STEPS.get(name) else {}
    steps = {"scale_factor": STEP_MM, "add_offset": 0.0, **relative} if form.in_steps(name) else {}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [form.length(name), *field.shape],
        "data_type": dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [form.shard_rows(name), *field.shape]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN" if dtype.kind == "f" else int(_fill(dtype)),
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {
            "unit": field.unit,
            "meaning": field.meaning,
            "stage": field.stage,
            **steps,
        },
        "dimension_names": [field.group or "scan", *field.dims],
        "storage_transformers": [],
    }


def _fill(dtype: np.dtype[Any]) -> Any:
    """NaN, the lowest of the steps, or 0: what stands where no chunk is."""
    return np.nan if dtype.kind == "f" else -32768 if dtype == np.int16 else 0


def shard_path(field: str, shard: int, n_dims: int) -> str:
    """Where Zarr looks for a shard of an array whose rows have `n_dims` dimensions."""
    return "/".join([field, "c", str(shard), *["0"] * n_dims])


def shard_parts(form: Form, name: str, rows: Array) -> list[bytes | memoryview]:
    """The bytes of a shard, in order: its chunks, the last one padded, and their index.

    rows (n, *shape) of the stored dtype, n up to the shard's room.
    """
    rows, per_chunk = np.ascontiguousarray(rows), form.chunk_rows(name)
    n_chunks = -(-len(rows) // per_chunk)
    missing = n_chunks * per_chunk - len(rows)
    padding = np.full((missing, *rows.shape[1:]), _fill(rows.dtype), rows.dtype)
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
    content: bytes = _zstd().decompress(without_checksum(chunk, owner), n_bytes, asbytes=True)
    return content


def row_checksums(rows: Iterable[Array]) -> list[int]:
    """CRC-32C of the bytes of each scan's row, or rows."""
    return [int(google_crc32c.value(np.asarray(row).tobytes())) for row in rows]


def as_json(document: Any) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def sealed(document: dict[str, Any]) -> bytes:
    """JSON that holds the SHA-256 of its own content as "digest"."""
    return as_json({**document, "digest": hashlib.sha256(as_json(document)).hexdigest()})


def unsealed(path: Path) -> dict[str, Any]:
    """The document `sealed` made. Raises StoreError where one bit of it differs."""
    try:
        return unsealed_content(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; this is no published version of a store") from error


def unsealed_content(content: bytes, owner: Path | str) -> dict[str, Any]:
    """`unsealed` of a file that has been read."""
    try:
        document = json.loads(content)
        digest = document.pop("digest")
    except (ValueError, KeyError, AttributeError) as error:
        raise StoreError(f"{owner}: damaged ({error}); restore it or publish again") from error
    # all but the digest's line was sealed; writing the document anew would take 30 times as long
    line = f' "digest": "{digest}"'.encode()
    before, line_found, after = content.partition(line + b",\n")
    if not line_found:  # the last of its lines
        before, line_found, after = content.partition(b",\n" + line)
    if not line_found or hashlib.sha256(before + after).hexdigest() != digest:
        raise StoreError(f"{owner}: does not match its own digest; restore it or publish again")
    return {**document, "digest": digest}


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
    try:
        return dict(json.loads((version / "zarr.json").read_bytes())["attributes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{version / 'zarr.json'}: unreadable ({error})") from error


def form_of(version: Path) -> Form:
    """How a version's or staging's arrays lie. Raises StoreError where that cannot be read."""
    attributes = group_attributes(version)
    try:
        return Form.of(attributes)
    except StoreError as error:
        raise StoreError(f"{version}: {error}") from error
    except (KeyError, TypeError) as error:
        raise StoreError(f"{version / 'zarr.json'}: unreadable ({error})") from error


def current_version(store: Path | str) -> Path:
    """The published version a store's HEAD names.

    Raises StoreError where there is no store or nothing has been published.
    """
    store = Path(store)
    try:
        with (store / HEAD).open("rb") as file:
            name = file.read(2 * MOST_NAME).decode("ascii").strip()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{store}: holds no published store (no {HEAD} file)") from error
    except (ValueError, IsADirectoryError) as error:
        raise StoreError(f"{store / HEAD}: damaged; name one of {VERSIONS}/ in it") from error
    version = store / VERSIONS / name[:MOST_NAME]
    if not name or "/" in name or len(name) > MOST_NAME or not version.is_dir():
        raise StoreError(
            f"{store / HEAD}: names version {name[:MOST_NAME]!r}, which is not in {VERSIONS}/; "
            "name one that is, or publish again"
        )
    if not (version / FILES).is_file():
        raise StoreError(f"{version / FILES}: missing; restore it, or publish again")
    return version
