"""A version of a store with fields that somebody attached: added, or standard ones replaced.

All shards but theirs are the earlier version's files under a second name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.arrays.int16 import IN_STEPS
from pipeline.store.attached import Attached, replaces
from pipeline.store.documents import content_of, parsed
from pipeline.store.form import Form
from pipeline.store.head import current_version
from pipeline.store.linking import link_shards
from pipeline.store.paths import PROVENANCE
from pipeline.store.publishing import publish
from pipeline.store.reader import Store, open_store
from pipeline.store.remote.objects import is_url
from pipeline.store.schema import Field
from pipeline.store.staging import removed_on_fault, stage
from pipeline.store.subsets import own_columns, rows_of
from pipeline.store.writer import write_shard
from pipeline.types import Array, ShardReceipt

ATTACHED = "attached"
"""Key of a version's provenance: field -> where its values come from."""


def with_fields(
    store: Path | str,
    fields: Mapping[str, tuple[Field | None, Array]],
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Publishes the store's version again with fields replaced or added; returns its folder.

    `fields` maps each name to its declaration, None for a field that the store has already, and to
    its values (n, *shape) of all rows that it is of, in their order: scans, people or views as
    `row_of` says. What replaces a standard field has its dtype, shape, unit and finite values, but
    perhaps a meaning of its own. An `Attached` says besides what later builds put into rows that
    are new or changed; of others without it, these builds leave the field out, or take their own
    values for all rows. `provenance` says where the values come from, JSON; what lies under its key
    "run" is kept apart, as in `publish`.

    All else is linked, not copied. Raises StoreError for a URL, for values that are not the
    field's, and where another version is published meanwhile.
    """
    source = open_store(folder_of(store))
    wanted = {name: _declared(source, name, field) for name, (field, _) in fields.items()}
    values = {name: np.asarray(array) for name, (_, array) in fields.items()}
    others = tuple(one for one in source.form.attached if one.name not in wanted)
    form = replace(source.form, attached=(*others, *wanted.values()))
    for name, field in wanted.items():
        _check_values(form, field, values[name])
    staging = stage(Path(store), form, source.topology)
    with removed_on_fault(staging):
        receipts = [
            receipt
            for row_of, part in form.parts.items()
            for receipt in _receipts(source, staging, part, _of(wanted, values, row_of))
        ]
        said = _said(source, tuple(wanted), dict(provenance or {}))
        return publish(
            store, staging, receipts, provenance=said, instead_of=source.path, **tables_of(source)
        )


def folder_of(store: Path | str) -> Path:
    """The version that HEAD names. Raises StoreError for a URL."""
    if is_url(store):
        raise StoreError(
            f"{store}: fields are attached to a store in a folder: pull it (facefold pull), attach "
            "there, and push it"
        )
    return current_version(store)


def _declared(source: Store, name: str, field: Field | None) -> Attached:
    if field is None:
        standard = replaces(name)
        field = source.fields.get(name) or standard
    if field is None:
        raise StoreError(f"{source.path}: no field {name}; a new one needs unit and meaning")
    if field.name != name:
        raise StoreError(f"field {name}: the declaration is of {field.name}")
    if isinstance(field, Attached):
        return field
    return Attached(**{key: getattr(field, key) for key in asdict(field)})


def _check_values(form: Form, field: Attached, values: Array) -> None:
    rows, dtype = form.part(field.row_of).rows, np.dtype(field.dtype)
    if values.shape != (rows, *field.shape) or values.dtype != dtype:
        raise StoreError(
            f"field {field.name}: got {values.dtype.name} {values.shape}, expected {dtype.name} "
            f"{(rows, *field.shape)}: a row for each {field.row_of}"
        )


def _of(
    wanted: Mapping[str, Attached], values: Mapping[str, Array], row_of: str
) -> dict[str, Array]:
    return {name: values[name] for name, field in wanted.items() if field.row_of == row_of}


def _receipts(
    source: Store, staging: Path, part: Form, values: Mapping[str, Array]
) -> list[ShardReceipt]:
    """Of all shards of a part: those fields written, the others linked, or copied where they cannot
    be."""
    before, row_of = source.form.part(part.row_of), part.row_of
    middles = {IN_STEPS.get(name) for name in values if part.int16}
    but = {*values, *(middle for middle in middles if middle)}
    shards = range(part.n_shards)
    linked = {r.shard: r for r in link_shards(staging, source.path, shards, row_of, but)}
    if not values and len(linked) == part.n_shards:
        return list(linked.values())
    receipts = []
    for shard in shards:
        start = shard * part.rows_per_shard
        index = np.arange(start, start + part.scans(shard))
        rows: dict[str, Any] = {name: array[index] for name, array in values.items()}
        if shard not in linked:
            rows = {**rows_of(source, before, index), **rows}
        elif not values:
            receipts.append(linked[shard])
            continue
        beside, digest = linked.get(shard), part.model.digest
        receipts.append(write_shard(staging, shard, rows, digest, row_of, beside))
    return receipts


def _said(source: Store, names: tuple[str, ...], record: dict[str, Any]) -> dict[str, Any]:
    """The version's provenance, with what is said of the values of these fields."""
    said = parsed(content_of(source.path / PROVENANCE), source.path / PROVENANCE)
    run = record.pop("run", {})
    said[ATTACHED] = {**said.get(ATTACHED, {}), **dict.fromkeys(names, record)}
    return said | {"run": run}


def tables_of(source: Store) -> dict[str, Any]:
    """A version's tables as `publish` takes them."""
    names = ("manifest", "quarantine", "excluded", "identities", "views", "refused_views")
    read = {name: source.table(name) for name in names}
    tables = {name: table.select(own_columns(table.column_names)) for name, table in read.items()}
    return {
        name: table if name == "manifest" else table.to_pylist() for name, table in tables.items()
    }
