"""The bytes of a shard.

A shard is its chunks back to back, then the index of the Zarr v3 sharding codec (ZEP 2): an
(offset, length) pair of uint64 a chunk and their CRC-32C. Those of the training profile are made
here, those of the archive profile by zarr-python (docs/explanation/adr/0002-own-zarr-writer.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.store.arrays.int16 import STEPS
from pipeline.store.checksums import with_checksum
from pipeline.store.form import Form
from pipeline.store.paths import path_of
from pipeline.types import Array

if TYPE_CHECKING:
    import zarr

ABSENT = 2**64 - 1
"""Offset and length, in a shard's index, of a chunk that is not there."""
ZSTD_LEVEL = 3


def fill_value(dtype: np.dtype[Any]) -> Any:
    """NaN, the lowest of the steps, or 0: what stands where no chunk is. With NaN, no reader takes
    a missing shard for data."""
    return np.nan if dtype.kind == "f" else np.iinfo(STEPS).min if dtype == STEPS else 0


def shard_parts(form: Form, name: str, rows: Array) -> list[bytes | memoryview]:
    """The bytes of a shard, in order. Chunks behind the last row are absent.

    rows (n, *shape) of the stored dtype, n up to the shard's room.
    """
    rows, per_chunk = np.ascontiguousarray(rows), form.chunk_rows(name)
    if form.compressed and len(rows):
        return [packed(form, name, rows)]
    n_chunks = -(-len(rows) // per_chunk)
    missing = n_chunks * per_chunk - len(rows)
    padding = np.full((missing, *rows.shape[1:]), fill_value(rows.dtype), rows.dtype)
    chunk_bytes = per_chunk * form.stored(name).row_bytes
    data: memoryview = rows.reshape(-1).view(np.uint8).data
    return [data, padding.tobytes(), shard_index(form, name, [chunk_bytes] * n_chunks)]


def packed(form: Form, name: str, rows: Array) -> memoryview:
    """A shard as zarr-python makes it, in memory: what reaches the disk is whole."""
    import zarr
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    array = zarr_array(zarr.create_group(MemoryStore(files)), form, name, form.shard_rows(name))
    array[: len(rows)] = rows
    shard: Array = files[path_of(form, name, 0)].as_numpy_array()
    return shard.data


def zarr_array(
    group: zarr.Group, form: Form, name: str, length: int, **told: Any
) -> zarr.Array[Any]:
    """The array of a field in a group: `length` rows, in chunks and shards as the form has them."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    field = form.stored(name)
    dtype = np.dtype(field.dtype)
    return group.create_array(
        form.array(name),
        shape=(length, *field.shape),
        dtype=dtype,
        chunks=(form.chunk_rows(name), *field.shape),
        shards=(form.shard_rows(name), *field.shape),
        compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()] if form.compressed else None,
        fill_value=fill_value(dtype),
        config={"write_empty_chunks": True},  # chunks of nothing but NaN are rows as well
        **told,
    )


def shard_index(form: Form, name: str, chunk_bytes: Sequence[int]) -> bytes:
    """The index behind chunks of these lengths; those past the last row are absent."""
    index = np.full((form.shard_rows(name) // form.chunk_rows(name), 2), ABSENT, "<u8")
    used = len(chunk_bytes)
    index[:used, 1] = chunk_bytes
    index[:used, 0] = np.cumsum([0, *chunk_bytes], dtype=np.uint64)[:-1]
    return with_checksum(index.tobytes())
