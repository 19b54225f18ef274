"""Which row of the store each scan gets: its old one where it can, so that shards stay as they are.

A shard holds a fixed number of rows. In the order of people one scan more would move all rows after
it, and every shard would be written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.build.config import BuildConfig
from pipeline.build.stages import Work
from pipeline.errors import StoreError
from pipeline.store.documents import as_json
from pipeline.store.form import Form, group_attributes
from pipeline.store.head import current_version
from pipeline.store.paths import MANIFEST
from pipeline.store.schema import ModelTag
from pipeline.store.table_reading import read_table
from pipeline.types import Array

STAYING = 0.5
"""Share of the published shards that has to stay as it is, or rows are put in order again."""


@dataclass(frozen=True, eq=False)
class RowOrder:
    """The rows of a version to be published, and which of its shards are there already."""

    works: list[Work]
    """Of each row, its scan."""
    by_identity: bool
    """A person's scans stand together, people by name."""
    before: Path | None = None
    unchanged: tuple[int, ...] = ()
    """Shards that are those of the version `before`, byte for byte."""


def row_order(
    config: BuildConfig, works: Sequence[Work], identity: Mapping[str, str], model: ModelTag
) -> RowOrder:
    """The rows of `works`, the scans that are kept; `identity` says whose each scan id is.

    A scan that the store's published version has keeps its row; new ones, by identity, take the
    rows of those that left, and the rows after the last. Rows are ordered by identity instead where
    nothing is published, where less than STAYING of the published shards would stay as they are,
    and with `sort_rows`.
    """
    by_identity = sorted(works, key=lambda w: (identity[w.record.scan_id], w.record.scan_id))
    if not works:
        return RowOrder([], True)
    form = config.form(len(works), model)
    published = _published(config.store_folder, form)
    if published is None:
        return RowOrder(by_identity, True)
    before, rows = published
    if not config.sort_rows:
        in_place = _in_place(by_identity, rows)
        unchanged = _unchanged(in_place, rows, form)
        if len(unchanged) >= STAYING * replace(form, rows=len(rows)).n_shards:
            return RowOrder(in_place, in_place == by_identity, before, unchanged)
    return RowOrder(by_identity, True, before, _unchanged(by_identity, rows, form))


def written_rows(order: RowOrder, form: Form) -> list[Work]:
    """The scans of the shards that have to be written."""
    there, size = set(order.unchanged), form.rows_per_shard
    return [work for row, work in enumerate(order.works) if row // size not in there]


def _published(store: Path, form: Form) -> tuple[Path, pa.Table] | None:
    """The published version and its rows' scan_id and result_key; None where there is none of this
    form, or it is damaged."""
    try:
        version = current_version(store)
        found = group_attributes(version)
        rows = read_table(version / MANIFEST, ["scan_id", "result_key"])
    except StoreError:
        return None
    wanted = form.attributes() | {"rows": len(rows)}
    told = {name: found.get(name) for name in wanted}
    return (version, rows) if as_json(told) == as_json(wanted) else None


def _in_place(works: Sequence[Work], published: pa.Table) -> list[Work]:
    """`works` with each published scan in its row. Where fewer are left than there were, those of
    the last rows move forward."""
    scan_ids = pa.array([work.record.scan_id for work in works], pa.string())
    place = pc.index_in(published["scan_id"].combine_chunks(), value_set=scan_ids)
    row = np.full(max(len(works), len(place)), -1)
    row[: len(place)] = pc.fill_null(place, -1).to_numpy(zero_copy_only=False)
    row = row[: len(works)]
    row[row < 0] = np.setdiff1d(np.arange(len(works)), row)
    return [works[i] for i in row.tolist()]


def _unchanged(works: Sequence[Work], published: pa.Table, form: Form) -> tuple[int, ...]:
    """Shards whose rows are the same results in the same places, neither more nor fewer."""
    keys = pa.array([work.keys.register for work in works], pa.string())
    both = min(len(works), len(published))
    old = published["result_key"].combine_chunks()
    same: Array = pc.equal(keys[:both], old[:both]).to_numpy(zero_copy_only=False)
    starts = range(0, both, form.rows_per_shard)
    return tuple(
        shard
        for shard, start in enumerate(starts)
        if same[start : start + form.rows_per_shard].all()
        and min(start + form.rows_per_shard, len(works))
        == min(start + form.rows_per_shard, len(published))
    )
