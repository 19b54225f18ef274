"""Writing a store's arrays: stage, then let each process write whole shards of its own.

staging = create_staging(store, n_rows, model)
receipts = [write_shard(staging, k, rows_of_shard_k, model.digest) for k in …]
receipts += [write_shard(staging, k, people_of_shard_k, model.digest, "identity") for k in …]
publish(store, staging, receipts, …)                                   # publishing.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.arrays.int16 import IN_STEPS, middles_mm, to_steps
from pipeline.store.arrays.shards import shard_parts
from pipeline.store.checks.rows import Values, check_rows
from pipeline.store.checksums import Sums, row_checksums
from pipeline.store.durable_files import write_file, write_parts
from pipeline.store.form import Form, at, form_of
from pipeline.store.paths import path_of
from pipeline.store.schema import SCAN
from pipeline.store.staging import claimed, same_model
from pipeline.types import Array, ShardReceipt

RECEIPTS = ".receipts"
LANES = 2
"""Fields written at once: one waits for the disk while the other is summed."""


def write_shard(
    staging: Path | str,
    shard: int,
    rows: Mapping[str, Values],
    model_digest: str,
    row_of: str = SCAN,
    beside: ShardReceipt | None = None,
) -> ShardReceipt:
    """Write one shard of every field of scans, identities or views: rows shard·rows_per_shard
    onward, all there are. `beside` is the receipt of the fields that `link_shards` put there
    already, which `rows` then leaves out.

    `rows` holds for each of these fields an array (n, *shape) of exactly its dtype; for a field of
    a group, n arrays (m_i, *shape), m_i the same in all fields of the group (where they lie is this
    function's to say). Each file appears whole or not at all. Writing the same rows again
    gives the same receipt, so a killed writer is simply run again.

    Raises StoreError for unknown, missing or ill-shaped fields, values that are not finite, rows
    of another model, a shard that another process is writing, or one that holds other rows.
    """
    staging = Path(staging)
    form = form_of(staging).part(row_of)
    same_model(staging, form.model.digest, model_digest, form.model.name)
    name = f"shard {shard}" if row_of == SCAN else f"{row_of} shard {shard}"
    if not 0 <= shard < form.n_shards:
        raise StoreError(f"{staging}: {name}, expected 0 … {form.n_shards - 1}")
    linked = _linked(beside)
    derived = _derived(form, shard, rows)
    rows = {**rows, **{name: v for name, v in derived.items() if name not in linked}}
    check_rows(rows, form, form.scans(shard), name, but=linked)
    with claimed(staging, name):
        earlier = staging / RECEIPTS / f"{name}.json"
        if earlier.exists():
            return _same_rows(earlier, name, form, rows)
        # the largest first, so that the lanes end together
        names = sorted(rows, key=lambda name: -form.fields[name].row_bytes)
        with ThreadPoolExecutor(LANES) as pool:
            written = pool.map(lambda name: _write_field(staging, shard, form, name, rows), names)
            by_name = dict(zip(names, written, strict=True)) | linked
        files = {path_of(form, name, shard): by_name[name] for name in form.fields}
        receipt = receipt_of(staging, shard, form, files)
        write_file(earlier, json.dumps(vars(receipt)).encode())
    return receipt


def _linked(beside: ShardReceipt | None) -> dict[str, dict[str, Any]]:
    """Field -> what a receipt says of its file, marked as an earlier version's."""
    return {
        file["field"]: {**file, "row_crc32c": np.asarray(file["row_crc32c"]).tolist()}
        | {"linked": True}
        for file in (beside.files.values() if beside else ())
    }


def receipt_of(
    staging: Path, shard: int, form: Form, files: Mapping[str, Mapping[str, Any]]
) -> ShardReceipt:
    """`files` are all of the shard's, field by field in the schema's order."""
    digest = hashlib.sha256("".join(file["sha256"] for file in files.values()).encode())
    return ShardReceipt(
        staging.name, shard, form.scans(shard), digest.hexdigest(), files, form.row_of
    )


def _derived(form: Form, shard: int, rows: Mapping[str, Values]) -> dict[str, Array]:
    """What the writer says itself: where each scan's rows of a group begin, and how many they are
    (`points_at`, `views_at`); the middle of each head where lengths are in steps."""
    derived = {}
    for group in form.per_scan:
        name = next(name for name, field in form.fields.items() if field.group == group)
        counts = np.array([len(some) for some in rows.get(name, ())], np.int64)
        starts = np.cumsum(counts) - counts + shard * form.shard_rows(name)
        derived[at(group)] = np.stack([starts, counts], axis=-1)
    for name, middle in IN_STEPS.items():
        vertices = rows.get(name)
        if form.int16 and middle and isinstance(vertices, np.ndarray) and vertices.ndim == 3:
            derived[middle] = middles_mm(vertices)
    return derived


def _write_field(
    staging: Path, shard: int, form: Form, name: str, rows: Mapping[str, Values]
) -> dict[str, Any]:
    by_scan = _stored(form, name, rows)
    grouped = bool(form.fields[name].group)
    parts = shard_parts(form, name, np.concatenate(by_scan) if grouped else np.asarray(by_scan))
    path, sums = path_of(form, name, shard), Sums()
    write_parts(staging / path, sums.passing(parts))
    return {"field": name, **sums.taken(), "row_crc32c": row_checksums(by_scan)}


def _stored(form: Form, name: str, rows: Mapping[str, Values]) -> Values:
    """The rows of each scan as they lie in the files."""
    values = rows[name]
    if form.in_steps(name):
        middle = IN_STEPS[name]
        lengths_mm = np.asarray(values)
        if middle:
            lengths_mm = lengths_mm - np.asarray(rows[middle])[:, None]
        return to_steps(lengths_mm, name)
    return np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values


def _same_rows(
    receipt_path: Path, shard: str, form: Form, rows: Mapping[str, Values]
) -> ShardReceipt:
    receipt = ShardReceipt(**json.loads(receipt_path.read_bytes()))
    for file in receipt.files.values():
        if file.get("linked"):
            continue
        if row_checksums(_stored(form, file["field"], rows)) != file["row_crc32c"]:
            raise StoreError(
                f"{receipt.store}: {shard} already holds other rows of {file['field']}; "
                "one process owns a shard and writes it once"
            )
    return receipt
