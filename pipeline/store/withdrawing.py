"""A version of a store without a person who withdrew consent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.store.documents import content_of, parsed
from pipeline.store.form import Form
from pipeline.store.linking import link_shards
from pipeline.store.paths import PROVENANCE
from pipeline.store.publishing import publish
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import IDENTITY, SCAN, VIEW
from pipeline.store.staging import removed_on_fault, stage
from pipeline.store.subsets import own_columns, rows_of
from pipeline.store.withdrawn import (
    TEXTS,
    WITHDRAWN,
    as_document,
    is_file_of,
    sources_without,
    texts_naming,
    theirs,
)
from pipeline.store.writer import write_shard
from pipeline.types import Array, Withdrawal

UNNAMED = "unnamed-"
"""Begins what stands for a path that may hold anybody's name: the next build says which stay."""


def publish_without(store: Path | str, gone: Withdrawal) -> Path | None:
    """Publishes the store's version again without a person; returns its folder, None where the
    version has nothing of theirs and carries the record.

    Rows that stay keep their places; those of the last rows take the places that are free. Shards
    that held the person are written anew, the others are the same files. Where people have rows of
    their own, an identity with one of the person's scans among its own leaves as a whole: the next
    build makes its row without that scan. Raises StoreError where nobody else is in the store.
    """
    source = open_store(store)
    provenance = parsed(content_of(source.path / PROVENANCE), source.path / PROVENANCE)
    leaving = theirs(source.manifest, gone)
    of_files = ("quarantine", "excluded", "refused_views")
    tables = {name: source.table(name).to_pylist() for name in of_files}
    kept = {n: [r for r in rows if not _may_be_of(gone, r)] for n, rows in tables.items()}
    recorded = as_document(gone) in provenance.get(WITHDRAWN, [])
    people = source.table("identities")
    told = [*texts_naming(source.manifest, gone), *texts_naming(people, gone)]
    if recorded and not leaving.any() and kept == tables and not told:
        return None
    if source.form.identities:  # the rows of people who stay must be made of nothing that leaves
        mixed = source.manifest["identity"].filter(leaving).unique()
        leaving |= pc.is_in(source.manifest["identity"], mixed).to_numpy()
    there = source.manifest["identity"].filter(~leaving).unique()
    order = order_without(leaving)
    order_of_views = order_without(leaving[source.scan_row_of_view])
    if not len(order):
        raise StoreError(f"{source.path}: holds nobody else: delete {store}, all of it")
    said = provenance_without(provenance, gone, bool((order != np.arange(len(order))).any()))
    stay = pc.is_in(people["identity"], there).to_numpy(zero_copy_only=False)
    new = {
        "manifest": _taken(source.manifest, order, gone),
        "identities": _taken(people, order_without(~stay), gone).to_pylist(),
        "views": _taken(source.views, order_of_views, gone).to_pylist(),
        **kept,
    }
    orders = {SCAN: order, IDENTITY: order_without(~stay), VIEW: order_of_views}
    return _published(source, Path(store), orders, new, said)


def _taken(table: pa.Table, order: Array, gone: Withdrawal) -> pa.Table:
    """Rows of a table without what a store says of its own rows, and without names in texts."""
    rows = table.select(own_columns(table.column_names)).take(order)
    for name in TEXTS:
        if name in rows.column_names:
            texts = [t and gone.without_names(t) for t in rows[name].to_pylist()]
            place = rows.column_names.index(name)
            rows = rows.set_column(place, rows.schema.field(place), pa.array(texts, pa.string()))
    return rows


def order_without(leaving: Array) -> Array:
    """(rows that stay,) the old row of each new one; `leaving` is (rows,) bool."""
    stay = np.flatnonzero(~leaving)
    order = np.arange(len(stay))
    order[leaving[: len(stay)]] = stay[stay >= len(stay)]
    return order


def _published(
    source: Store,
    store: Path,
    orders: Mapping[str, Array],
    tables: Mapping[str, Any],
    provenance: dict[str, Any],
) -> Path:
    """A version of the old rows, of scans, of people and of views, in these orders."""
    before = source.form
    numbers = {row_of: len(order) for row_of, order in orders.items()}
    n_people = numbers[IDENTITY] if before.identities else 0
    form = replace(before, rows=numbers[SCAN], identities=n_people, views=numbers[VIEW])
    staging = stage(store, form, source.topology)
    with removed_on_fault(staging):
        receipts = []
        for row_of, part in form.parts.items():
            order, size = orders[row_of], part.rows_per_shard
            same = _unchanged(order, before.part(row_of), part)
            linked = link_shards(staging, source.path, same, row_of)
            receipts += linked
            for shard in sorted({*range(part.n_shards)} - {r.shard for r in linked}):
                rows = rows_of(source, part, order[shard * size : (shard + 1) * size])
                receipts.append(write_shard(staging, shard, rows, form.model.digest, row_of))
        return publish(store, staging, receipts, provenance=provenance, **tables)


def _unchanged(order: Array, before: Form, after: Form) -> list[int]:
    """Shards whose rows are the same, in the same places, neither more nor fewer."""
    size = after.rows_per_shard
    same = order == np.arange(len(order))
    return [
        shard
        for shard in range(after.n_shards)
        if same[shard * size : (shard + 1) * size].all()
        and after.scans(shard) == before.scans(shard)
    ]


def _may_be_of(gone: Withdrawal, row: Mapping[str, Any]) -> bool:
    """Whether a row of these tables may be of the person; the next build brings back
    those that are not."""
    path = (row.get("scan_id") or "").partition(":")[2] or row["path"] or ""
    return (
        path.startswith(UNNAMED) or is_file_of(gone, row) or gone.of_path(str(row["source"]), path)
    )


def provenance_without(
    provenance: Mapping[str, Any], gone: Withdrawal, moved: bool = False
) -> dict[str, Any]:
    """A version's provenance without a person, and with the record of them."""
    said = {name: value for name, value in provenance.items() if name != "assembly"}
    if moved:
        said["row_order"] = "in place"
    said["sources"] = [
        {name: value for name, value in source.items() if name != "content"}
        for source in sources_without(provenance, gone)
    ]
    records = provenance.get(WITHDRAWN, [])
    document = as_document(gone)
    said[WITHDRAWN] = [*records, *([document] if document not in records else [])]
    return said
