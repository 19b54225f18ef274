"""Which row of the store each scan, person and view gets: its old one where it can, so that shards
stay as they are.

A shard holds a fixed number of rows. In the order of people one scan more would move all rows after
it, and every shard would be written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.build.attached_rows import Carried
from pipeline.build.config import BuildConfig
from pipeline.build.stages import Work
from pipeline.errors import StoreError
from pipeline.store.form import Form, form_in, group_attributes
from pipeline.store.head import current_version
from pipeline.store.paths import table_file
from pipeline.store.schema import IDENTITY, NAME_OF, SCAN, TABLE_OF, VIEW, ModelTag
from pipeline.store.table_reading import read_table
from pipeline.types import Array

STAYING = 0.5
"""Share of the published shards that has to stay as it is, or rows are put in order again."""
Names: TypeAlias = "Sequence[str] | pa.Array"


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


@dataclass(frozen=True)
class PeopleOrder:
    """The rows of the arrays of people, and which of their shards are there already."""

    people: list[str]
    """Of each row, its identity."""
    before: Path | None = None
    unchanged: tuple[int, ...] = ()


class ViewsOrder(NamedTuple):
    """The rows of the arrays of views, and which of their shards are there already."""

    order: list[int]
    """Of each row, which of the given views it holds."""
    before: Path | None = None
    unchanged: tuple[int, ...] = ()


def row_order(
    config: BuildConfig,
    works: Sequence[Work],
    identity: Mapping[str, str],
    model: ModelTag,
    carried: Carried | None = None,
) -> RowOrder:
    """The rows of `works`, the scans that are kept; `identity` says whose each scan id is.

    A scan that the store's published version has keeps its row; new ones, by identity, take the
    rows of those that left, and the rows after the last. Rows are ordered by identity instead where
    nothing is published, where less than STAYING of the published shards would stay as they are,
    and with `sort_rows`. `carried` is what the version to be published takes over.
    """
    by_identity = sorted(works, key=lambda w: (identity[w.record.scan_id], w.record.scan_id))
    if not works:
        return RowOrder([], True)
    form = config.form(len(works), model, attached=carried.fields if carried else ())
    published = _published(config.store_folder, form, SCAN)
    ids = [work.record.scan_id for work in by_identity]
    keys = [work.keys.register for work in by_identity]
    placed = _placed(ids, keys, published, form.rows_per_shard, config.sort_rows)
    in_place = [by_identity[i] for i in placed.order]
    before = published.version if published else None
    return RowOrder(in_place, in_place == by_identity, before, placed.unchanged)


def people_order(config: BuildConfig, result_key: Mapping[str, str], form: Form) -> PeopleOrder:
    """The rows of the arrays of people; `result_key` says of each identity what its row is made of.

    They keep their places from version to version as scans do (`row_order`); else they are in the
    order of their names. `form` is that of the version to be published.
    """
    names = sorted(result_key)
    published = _published(config.store_folder, form, IDENTITY)
    keys = [result_key[name] for name in names]
    placed = _placed(names, keys, published, form.rows_per_shard, config.sort_rows)
    before = published.version if published else None
    return PeopleOrder([names[i] for i in placed.order], before, placed.unchanged)


def views_order(config: BuildConfig, result_key: Mapping[str, str], form: Form) -> ViewsOrder:
    """The rows of the arrays of views; `result_key` says of each view's id, in the order of scans,
    what its row is made of.

    They keep their places from version to version as scans do (`row_order`), so that those of one
    scan may lie apart; else they are in the given order.
    """
    size = form.part(VIEW).rows_per_shard
    published = _published(config.store_folder, form, VIEW)
    given = list(result_key), list(result_key.values())
    placed = _placed(*given, published, size, config.sort_rows)
    return ViewsOrder(placed.order, published.version if published else None, placed.unchanged)


def written_rows(order: RowOrder, form: Form) -> list[Work]:
    """The scans of the shards that have to be written."""
    there, size = set(order.unchanged), form.rows_per_shard
    return [work for row, work in enumerate(order.works) if row // size not in there]


def kept_places(ids: Names, old_ids: Names) -> list[int]:
    """Of each new row the index into `ids` of what it holds, all different.

    What is among `old_ids`, the rows that are published, keeps its row. Others take, as they come
    in `ids`, the rows of those that left, then the ones after the last. Where fewer are left than
    there were, those of the last rows move forward.
    """
    place = pc.index_in(_text(old_ids), value_set=_text(ids))
    row = np.full(max(len(ids), len(place)), -1)
    row[: len(place)] = pc.fill_null(place, -1).to_numpy(zero_copy_only=False)
    row = row[: len(ids)]
    row[row < 0] = np.setdiff1d(np.arange(len(ids)), row)
    found: list[int] = row.tolist()
    return found


def unchanged_shards(keys: Names, old_keys: Names, rows_per_shard: int) -> tuple[int, ...]:
    """Shards whose rows have the same keys in the same places, neither more nor fewer."""
    new, old = _text(keys), _text(old_keys)
    both = min(len(new), len(old))
    equal = pc.fill_null(pc.equal(new[:both], old[:both]), False)
    same: Array = equal.to_numpy(zero_copy_only=False)
    starts = range(0, both, rows_per_shard)
    return tuple(
        shard
        for shard, start in enumerate(starts)
        if same[start : start + rows_per_shard].all()
        and min(start + rows_per_shard, len(new)) == min(start + rows_per_shard, len(old))
    )


def _text(names: Names) -> pa.Array:
    return names if isinstance(names, pa.Array) else pa.array(names, pa.string())


class _Placed(NamedTuple):
    order: list[int]
    """Of each row, which of the given it holds."""
    unchanged: tuple[int, ...]


def _placed(
    ids: Sequence[str],
    keys: Sequence[str],
    published: _Published | None,
    rows_per_shard: int,
    sort: bool,
) -> _Placed:
    """In place, or as they are given: see `row_order`."""
    given = list(range(len(ids)))
    if published is None:
        return _Placed(given, ())
    if not sort:
        order = kept_places(ids, published.ids)
        unchanged = unchanged_shards([keys[i] for i in order], published.keys, rows_per_shard)
        if len(unchanged) >= STAYING * -(-len(published.ids) // rows_per_shard):
            return _Placed(order, unchanged)
    return _Placed(given, unchanged_shards(keys, published.keys, rows_per_shard))


class _Published(NamedTuple):
    version: Path
    ids: pa.Array
    """Of its rows of scans, people or views."""
    keys: pa.Array
    """The result_key of each."""


def _published(store: Path, form: Form, row_of: str) -> _Published | None:
    """None where nothing is published in this form, but for numbers of rows, or it is damaged, or
    has no such rows."""
    try:
        version = current_version(store)
        attributes = group_attributes(version)
        found = form_in(attributes, version)
        rows = read_table(version / table_file(TABLE_OF[row_of]), [NAME_OF[row_of], "result_key"])
    except StoreError:
        return None
    wanted = form.attributes()
    if row_of not in found.parts or any(attributes.get(one) != wanted[one] for one in _WRITER):
        return None
    if _alone(found, row_of) != _alone(form, row_of):
        return None
    return _Published(version, *(column.combine_chunks() for column in rows.columns))


_WRITER = ("facefold_schema", "written_by", "readable_from")


def _alone(form: Form, row_of: str) -> Form:
    """A part of the form, without numbers of rows."""
    return replace(form.part(row_of), rows=1, identities=0, views=0)
