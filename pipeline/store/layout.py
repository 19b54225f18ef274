"""Bytes and paths of a store: a Zarr v3 group of uncompressed, sharded arrays.

    STORE/HEAD                          name of the published version
    STORE/versions/<name>/zarr.json     the group; its attributes name model, units, schema
    STORE/versions/<name>/<field>/zarr.json, c/<shard>/0/0
    STORE/versions/<name>/manifest.parquet, quarantine.parquet, excluded.parquet,
                          identities.parquet, provenance.json
    STORE/versions/<name>/files.json    size and SHA-256 of all of these; its digest names it
    STORE/versions/<name>/run.json      when, where and how long: outside the digest

A shard is its chunks of 16 rows back to back, then the index of the Zarr v3 sharding codec
(ZEP 2): an (offset, length) pair of uint64 a chunk and their CRC-32C.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from pipeline.errors import StoreError
from pipeline.store.schema import ROWS_PER_CHUNK, SCHEMA_VERSION, Field, ModelTag, fields
from pipeline.types import Array

FILES, RUN, HEAD, VERSIONS = "files.json", "run.json", "HEAD", "versions"
PROFILE = "training"


def group_metadata(n_rows: int, rows_per_shard: int, model: ModelTag) -> dict[str, Any]:
    """The group's `zarr.json`, which repeats its arrays'."""
    attributes = {
        "facefold_schema": SCHEMA_VERSION,
        "profile": PROFILE,
        "rows": n_rows,
        "rows_per_shard": rows_per_shard,
        "model": {
            "name": model.name,
            "digest": model.digest,
            "is_stand_in": model.is_stand_in,
            "n_vertices": model.n_vertices,
        },
        "units": {"length": "mm", "angle": "rad"},
        "frame": "right-handed, +y up, +z out of the face, +x to the subject's left",
    }
    arrays = {
        name: array_metadata(field, n_rows, rows_per_shard)
        for name, field in fields(model.n_vertices).items()
    }
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        # so that Zarr libraries need not list the folder, and do not wonder at the tables in it
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": arrays,
        },
    }


def array_metadata(field: Field, n_rows: int, rows_per_shard: int) -> dict[str, Any]:
    """The array's `zarr.json`. Floats are filled with NaN, so that no reader takes a missing
    shard for data."""
    dtype = np.dtype(field.dtype)
    endian = {"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {}
    sharding = {
        "chunk_shape": [ROWS_PER_CHUNK, *field.shape],
        "codecs": [{"name": "bytes", **endian}],
        "index_codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [n_rows, *field.shape],
        "data_type": dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [rows_per_shard, *field.shape]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN" if dtype.kind == "f" else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {"unit": field.unit, "meaning": field.meaning, "stage": field.stage},
        "dimension_names": ["scan", *field.dims],
        "storage_transformers": [],
    }


def shard_path(field: str, shard: int, n_dims: int) -> str:
    """Where Zarr looks for a shard of an array whose rows have `n_dims` dimensions."""
    return "/".join([field, "c", str(shard), *["0"] * n_dims])


def n_shards(n_rows: int, rows_per_shard: int) -> int:
    return -(-n_rows // rows_per_shard)


def rows_of_shard(shard: int, n_rows: int, rows_per_shard: int) -> int:
    return min(rows_per_shard, n_rows - shard * rows_per_shard)


def data_bytes(field: Field, rows: int) -> int:
    """Bytes before the index of a shard of `rows`: whole chunks, the last one padded."""
    return -(-rows // ROWS_PER_CHUNK) * ROWS_PER_CHUNK * field.row_bytes


def shard_padding(field: Field, rows: int) -> bytes:
    """What fills the last chunk behind the last row: the fill value."""
    fill = np.nan if np.dtype(field.dtype).kind == "f" else 0
    missing = -rows % ROWS_PER_CHUNK
    return np.full((missing, *field.shape), fill, field.dtype).tobytes()


def shard_index(field: Field, rows: int, rows_per_shard: int) -> bytes:
    """The index behind the data; chunks past the last row are marked absent by all ones."""
    used, chunk_bytes = -(-rows // ROWS_PER_CHUNK), ROWS_PER_CHUNK * field.row_bytes
    index = np.full((rows_per_shard // ROWS_PER_CHUNK, 2), 2**64 - 1, "<u8")
    index[:used, 0] = np.arange(used, dtype=np.uint64) * np.uint64(chunk_bytes)
    index[:used, 1] = chunk_bytes
    body = index.tobytes()
    return body + int(google_crc32c.value(body)).to_bytes(4, "little")


def row_checksums(rows: Array) -> list[int]:
    """CRC-32C of each row's bytes."""
    return [int(google_crc32c.value(row.tobytes())) for row in rows]


def as_json(document: Any) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def sealed(document: dict[str, Any]) -> bytes:
    """JSON that holds the SHA-256 of its own content as "digest"."""
    return as_json({**document, "digest": hashlib.sha256(as_json(document)).hexdigest()})


def unsealed(path: Path) -> dict[str, Any]:
    """The document `sealed` made. Raises StoreError where one bit of it differs."""
    try:
        content = path.read_bytes()
        document = json.loads(content)
        digest = document.pop("digest")
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; this is no published version of a store") from error
    except (ValueError, KeyError, AttributeError) as error:
        raise StoreError(f"{path}: damaged ({error}); restore it or publish again") from error
    if sealed(document) != content:
        raise StoreError(f"{path}: does not match its own digest; restore it or publish again")
    return {**document, "digest": digest}


def write_file(path: Path, *parts: bytes | memoryview) -> None:
    """Write whole or not at all: a temporary file beside it, fsync, rename, fsync the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
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


def group_attributes(version: Path) -> dict[str, Any]:
    """The attributes of a version's or staging's group. Raises StoreError where unreadable."""
    try:
        return dict(json.loads((version / "zarr.json").read_bytes())["attributes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{version / 'zarr.json'}: unreadable ({error})") from error


def current_version(store: Path | str) -> Path:
    """The published version a store's HEAD names.

    Raises StoreError where there is no store or nothing has been published.
    """
    store = Path(store)
    try:
        name = (store / HEAD).read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise StoreError(f"{store}: holds no published store (no {HEAD} file)") from error
    except ValueError as error:
        raise StoreError(f"{store / HEAD}: damaged; name one of {VERSIONS}/ in it") from error
    version = store / VERSIONS / name
    if not name or "/" in name or not (version / FILES).is_file():
        raise StoreError(
            f"{store / HEAD}: names version {name!r}, which is not in {VERSIONS}/; "
            "name one that is, or publish again"
        )
    return version
