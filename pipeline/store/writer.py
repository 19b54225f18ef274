"""Writing a store's arrays: stage, then let each process write whole shards of its own.

staging = create_staging(store, n_rows, model)
receipts = [write_shard(staging, k, rows_of_shard_k, model.digest) for k in …]
publish(store, staging, receipts, …)                                   # publishing.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.layout import (
    HEAD,
    array_metadata,
    as_json,
    current_version,
    group_attributes,
    group_metadata,
    n_shards,
    row_checksums,
    rows_of_shard,
    shard_index,
    shard_padding,
    shard_path,
    write_file,
)
from pipeline.store.locks import claimed, new_staging, sweep
from pipeline.store.schema import ROWS_PER_CHUNK, ROWS_PER_SHARD, Field, ModelTag, fields
from pipeline.types import Array, ShardReceipt

RECEIPTS = ".receipts"


def create_staging(
    store: Path | str, n_rows: int, model: ModelTag, rows_per_shard: int = ROWS_PER_SHARD
) -> Path:
    """A new staging folder inside `store` with all metadata and no shard yet.

    The calling process must live until `publish`: what a dead process leaves is swept by the next
    call. Several stagings may exist at once; each is published whole or not at all.

    rows_per_shard is a multiple of 16.
    Raises StoreError for wrong numbers, or where the store was made with another model.
    """
    store = Path(store)
    if n_rows < 1:
        raise StoreError(f"{store}: {n_rows} rows, expected at least one; nothing to publish")
    if rows_per_shard < 1 or rows_per_shard % ROWS_PER_CHUNK:
        raise StoreError(
            f"rows_per_shard: got {rows_per_shard}, expected a multiple of {ROWS_PER_CHUNK}"
        )
    check_model(store, model)
    sweep(store)
    staging = new_staging(store)
    for name, field in fields(model.n_vertices).items():
        metadata = array_metadata(field, n_rows, rows_per_shard)
        write_file(staging / name / "zarr.json", as_json(metadata))
    write_file(staging / "zarr.json", as_json(group_metadata(n_rows, rows_per_shard, model)))
    return staging


def check_model(store: Path | str, model: ModelTag) -> None:
    """Raises StoreError where `store` is published and was made with another model."""
    store = Path(store)
    if (store / HEAD).exists():
        published = group_attributes(current_version(store))["model"]
        _same_model(store, published["digest"], model.digest, published["name"])


def write_shard(
    staging: Path | str, shard: int, rows: Mapping[str, Array], model_digest: str
) -> ShardReceipt:
    """Write one shard of every field: rows shard·rows_per_shard onward, all there are.

    `rows` holds for each field of the schema an array (n, *shape) of exactly its dtype. Each file
    appears whole or not at all. Writing the same rows again gives the same receipt, so a killed
    writer is simply run again.

    Raises StoreError for unknown, missing or ill-shaped fields, values that are not finite, rows
    of another model, a shard that another process is writing, or one that holds other rows.
    """
    staging = Path(staging)
    attributes = group_attributes(staging)
    model, total, per_shard = attributes["model"], attributes["rows"], attributes["rows_per_shard"]
    _same_model(staging, model["digest"], model_digest, model["name"])
    if not 0 <= shard < n_shards(total, per_shard):
        last = n_shards(total, per_shard) - 1
        raise StoreError(f"{staging}: shard {shard}, expected 0 … {last}")
    schema = fields(model["n_vertices"])
    n = rows_of_shard(shard, total, per_shard)
    check_rows(rows, schema, n, f"shard {shard}")
    with claimed(staging, shard):
        earlier = staging / RECEIPTS / f"{shard}.json"
        if earlier.exists():
            return _same_rows(earlier, shard, rows)
        files = {
            shard_path(name, shard, len(field.shape)): _write_field(
                staging, shard, field, rows[name], per_shard
            )
            for name, field in schema.items()
        }
        digest = hashlib.sha256("".join(file["sha256"] for file in files.values()).encode())
        receipt = ShardReceipt(staging.name, shard, n, digest.hexdigest(), files)
        write_file(earlier, as_json(asdict(receipt)))
    return receipt


def _write_field(
    staging: Path, shard: int, field: Field, rows: Array, rows_per_shard: int
) -> dict[str, Any]:
    data = np.ascontiguousarray(rows)
    parts = (
        data.reshape(-1).view(np.uint8).data,
        shard_padding(field, len(data)),
        shard_index(field, len(data), rows_per_shard),
    )
    write_file(staging / shard_path(field.name, shard, len(field.shape)), *parts)
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return {
        "field": field.name,
        "bytes": sum(len(part) for part in parts),
        "sha256": sha.hexdigest(),
        "row_crc32c": row_checksums(data),
    }


def check_rows(rows: Mapping[str, Array], schema: Mapping[str, Field], n: int, owner: str) -> None:
    """Raise StoreError with every way in which `rows` are not `n` rows of `schema`."""
    faults = [f"{name}: missing" for name in schema.keys() - rows.keys()]
    faults += [f"{name}: not a stored field" for name in rows.keys() - schema.keys()]
    for name in schema.keys() & rows.keys():
        field, got = schema[name], rows[name]
        if got.shape != (n, *field.shape) or got.dtype != np.dtype(field.dtype):
            wanted = f"{np.dtype(field.dtype).name} {(n, *field.shape)}"
            faults.append(f"{name}: got {got.dtype.name} {got.shape}, expected {wanted}")
        elif got.dtype.kind == "f" and not field.optional and not np.isfinite(got).all():
            bad = np.flatnonzero(~np.isfinite(got.reshape(n, -1)).all(axis=1))
            faults.append(f"{name}: rows {bad[:5].tolist()} hold values that are not finite")
    if faults:
        raise StoreError(f"{owner}: " + "; ".join(sorted(faults)))


def _same_rows(receipt_path: Path, shard: int, rows: Mapping[str, Array]) -> ShardReceipt:
    receipt = ShardReceipt(**json.loads(receipt_path.read_bytes()))
    for file in receipt.files.values():
        if row_checksums(np.ascontiguousarray(rows[file["field"]])) != file["row_crc32c"]:
            raise StoreError(
                f"{receipt.store}: shard {shard} already holds other rows of {file['field']}; "
                "one process owns a shard and writes it once"
            )
    return receipt


def _same_model(where: Path, digest: str, got: str, name: str) -> None:
    if digest != got:
        raise StoreError(
            f"{where}: made with the model {name!r} ({digest[:12]}…), the rows with another "
            f"({got[:12]}…); register them again with that model or choose another store"
        )
