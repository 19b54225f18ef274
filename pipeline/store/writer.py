"""Writing a store's arrays: stage, then let each process write whole shards of its own.

staging = create_staging(store, n_rows, model)
receipts = [write_shard(staging, k, rows_of_shard_k, model.digest) for k in …]
publish(store, staging, receipts, …)                                   # publishing.py
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.description import described
from pipeline.store.form import IN_STEPS, Form, at, in_steps, middles_mm
from pipeline.store.locks import claimed, new_staging, removed_on_fault, sweep
from pipeline.store.paths import (
    HEAD,
    VERSIONS,
    Sums,
    current_version,
    form_of,
    is_there,
    path_of,
    row_checksums,
    shard_parts,
    write_file,
    write_parts,
)
from pipeline.store.schema import ROWS_PER_SHARD, SCHEMA_VERSION, ModelTag
from pipeline.store.topology import Topology
from pipeline.types import Array, ShardReceipt

Values: TypeAlias = "Array | Sequence[Array]"
"""Of a field: an array (n, *shape), or n arrays (m_i, *shape) where it is of a group."""
RECEIPTS = ".receipts"
LANES = 2
"""Fields written at once: one waits for the disk while the other is summed."""


def create_staging(
    store: Path | str,
    n_rows: int,
    model: ModelTag,
    rows_per_shard: int = ROWS_PER_SHARD,
    topology: Topology | None = None,
    **form: Any,
) -> Path:
    """A new staging folder inside `store` with all metadata and no shard yet.

    The calling process must live until `publish`: what a dead process leaves is swept by the next
    call. Several stagings may exist at once; each is published whole or not at all.

    rows_per_shard is a multiple of 16; `topology` (`Topology.of(model)`) is stored for those who
    read the version without facefold; `form` gives `profile`, `extras`, `per_scan`, `int16` of the
    store's `Form`.
    Raises StoreError for wrong numbers, where the store was made with another model, and where the
    folder holds what belongs to no store.
    """
    try:
        wanted = Form(n_rows, model, rows_per_shard, **form)
    except StoreError as error:
        raise StoreError(f"{store}: {error}") from error
    return stage(Path(store), wanted, topology)


def stage(store: Path, form: Form, topology: Topology | None = None) -> Path:
    """`create_staging` of a form that is made already."""
    check_model(store, form.model)
    sweep(store)
    staging = new_staging(store)
    with removed_on_fault(staging):
        for path, content in described(replace(form, schema=SCHEMA_VERSION), topology).items():
            write_file(staging / path, content)
    return staging


def check_model(store: Path | str, model: ModelTag) -> None:
    """Raises StoreError where `store` is published and was made with another model."""
    store = Path(store)
    if not is_there(store / HEAD):
        return
    try:
        versions = [current_version(store)]
    except StoreError:  # a damaged HEAD, which publishing mends: the versions are as good a witness
        versions = list((store / VERSIONS).glob("*"))
    for version in versions[:1]:
        published = form_of(version).model
        _same_model(store, published.digest, model.digest, published.name)


def write_shard(
    staging: Path | str, shard: int, rows: Mapping[str, Values], model_digest: str
) -> ShardReceipt:
    """Write one shard of every field: rows shard·rows_per_shard onward, all there are.

    `rows` holds for each field of the store an array (n, *shape) of exactly its dtype; for a field
    of a group, n arrays (m_i, *shape), m_i the same in all fields of the group (where they lie is
    this function's to say). Each file appears whole or not at all. Writing the same rows again
    gives the same receipt, so a killed writer is simply run again.

    Raises StoreError for unknown, missing or ill-shaped fields, values that are not finite, rows
    of another model, a shard that another process is writing, or one that holds other rows.
    """
    staging = Path(staging)
    form = form_of(staging)
    _same_model(staging, form.model.digest, model_digest, form.model.name)
    if not 0 <= shard < form.n_shards:
        raise StoreError(f"{staging}: shard {shard}, expected 0 … {form.n_shards - 1}")
    rows = {**rows, **_derived(form, shard, rows)}
    check_rows(rows, form, form.scans(shard), f"shard {shard}")
    with claimed(staging, shard):
        earlier = staging / RECEIPTS / f"{shard}.json"
        if earlier.exists():
            return _same_rows(earlier, shard, form, rows)
        # the largest first, so that the lanes end together
        names = sorted(form.fields, key=lambda name: -form.fields[name].row_bytes)
        with ThreadPoolExecutor(LANES) as pool:
            written = pool.map(lambda name: _write_field(staging, shard, form, name, rows), names)
            by_name = dict(zip(names, written, strict=True))
        files = {path_of(form, name, shard): by_name[name] for name in form.fields}
        receipt = receipt_of(staging, shard, form, files)
        write_file(earlier, json.dumps(vars(receipt)).encode())
    return receipt


def receipt_of(
    staging: Path, shard: int, form: Form, files: Mapping[str, Mapping[str, Any]]
) -> ShardReceipt:
    """`files` are all of the shard's, field by field in the schema's order."""
    digest = hashlib.sha256("".join(file["sha256"] for file in files.values()).encode())
    return ShardReceipt(staging.name, shard, form.scans(shard), digest.hexdigest(), files)


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
        return in_steps(lengths_mm, name)
    return np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values


def check_rows(rows: Mapping[str, Values], form: Form, n: int, owner: str) -> None:
    """Raise StoreError with every way in which `rows` are not `n` rows of the store's fields."""
    schema = form.fields
    faults = [f"{name}: missing" for name in schema.keys() - rows.keys()]
    faults += [f"{name}: not a stored field" for name in rows.keys() - schema.keys()]
    for name in schema.keys() & rows.keys():
        check = _faults_of_group if schema[name].group else _faults_of_rows
        faults += [f"{name}: {fault}" for fault in check(rows, form, name, n)]
    if faults:
        raise StoreError(f"{owner}: " + "; ".join(sorted(faults)))


def _faults_of_rows(rows: Mapping[str, Values], form: Form, name: str, n: int) -> Iterator[str]:
    field, got = form.fields[name], np.asarray(rows[name])
    if got.shape != (n, *field.shape) or got.dtype != np.dtype(field.dtype):
        wanted = f"{np.dtype(field.dtype).name} {(n, *field.shape)}"
        yield f"got {got.dtype.name} {got.shape}, expected {wanted}"
    elif got.dtype.kind == "f" and not field.optional and not _finite(got):
        bad = np.flatnonzero(~np.isfinite(got.reshape(n, -1)).all(axis=1))
        yield f"rows {bad[:5].tolist()} hold values that are not finite"


def _faults_of_group(rows: Mapping[str, Values], form: Form, name: str, n: int) -> Iterator[str]:
    field, got = form.fields[name], rows[name]
    if len(got) != n:
        yield f"got rows of {len(got)} scans, expected {n}"
        return
    most = form.per_scan[field.group]
    counts = np.asarray(rows[at(field.group)])[:, 1]
    dtype = np.dtype(field.dtype)
    for scan, (some, count) in enumerate(zip(got, counts, strict=True)):
        if some.shape != (count, *field.shape) or some.dtype != dtype or len(some) > most:
            yield (
                f"scan {scan}: got {some.dtype.name} {some.shape}, expected {dtype.name} "
                f"{(int(count), *field.shape)}, at most {most} rows"
            )
        elif dtype.kind == "f" and not field.optional and not _finite(some):
            yield f"scan {scan} holds values that are not finite"


def _finite(values: Array) -> bool:
    """One value that is not finite makes the sum so, which is quicker than to ask each."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def _same_rows(
    receipt_path: Path, shard: int, form: Form, rows: Mapping[str, Values]
) -> ShardReceipt:
    receipt = ShardReceipt(**json.loads(receipt_path.read_bytes()))
    for file in receipt.files.values():
        if row_checksums(_stored(form, file["field"], rows)) != file["row_crc32c"]:
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
