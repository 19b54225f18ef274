"""From the views of scans to rows of the store: their table, and where the arrays of each lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.build.result_files import (
    ScanViews,
    embeddings_path,
    load_view_arrays,
    views_path,
)
from pipeline.build.stages import Work
from pipeline.errors import StoreError
from pipeline.store.schema import EXTRA_FIELDS, VIEW_FIELDS, view_id
from pipeline.types import Array

Row = dict[str, Any]


class ViewRow(NamedTuple):
    """Where the arrays of a view lie: a row of a file of its scan."""

    key: str
    embedding_key: str
    """"": it has no embedding."""
    number: int


class SeenViews(NamedTuple):
    """The views of many scans."""

    rows: list[Row]
    """Of the table of views."""
    lie: list[ViewRow]
    """Of each of them."""
    refused: list[Row]
    """Of the table of views that could not be made."""

    @property
    def embedded(self) -> bool:
        return any(row.embedding_key for row in self.lie)

    def keys(self) -> dict[str, str]:
        """View id -> key of its result."""
        return {row["view_id"]: row["result_key"] for row in self.rows}

    def in_order(self, order: Sequence[int]) -> SeenViews:
        rows = [self.rows[i] for i in order]
        return self._replace(rows=rows, lie=[self.lie[i] for i in order])


def seen_views(works: Iterable[Work], views: Mapping[str, ScanViews]) -> SeenViews:
    """The views of these scans, in their order; `views` is by scan id."""
    seen = SeenViews([], [], [])
    for work in works:
        scan_id = work.record.scan_id
        if (found := views.get(scan_id)) is None:
            continue
        for number, row in enumerate(found.rows):
            named = {"scan_id": scan_id, "view_id": view_id(scan_id, row["view"])}
            seen.rows.append({**row, **named, "result_key": f"{found.result_key}#{row['view']}"})
            seen.lie.append(ViewRow(found.key, found.embedding_key, number))
        seen.refused.extend(found.refused)
    return seen


def view_arrays(work: Path | str, rows: Sequence[ViewRow], embedded: bool) -> dict[str, Array]:
    """The arrays of these views from the files below a build's work folder, as `write_shard` takes
    them; `embedded`: with embeddings, NaN where there are none.

    Raises FileNotFoundError where a file is missing, StoreError where it is damaged.
    """
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.key, []).append(place)
    found: dict[str, Array] = {}
    embeddings = EXTRA_FIELDS["embeddings"]
    if embedded:
        found[embeddings.name] = np.full((len(rows), *embeddings.shape), np.nan, embeddings.dtype)
    for key, own in places.items():
        arrays = _of_scan(work, key)
        if embedding_key := rows[own[0]].embedding_key:
            arrays |= load_view_arrays(embeddings_path(work, embedding_key))
        numbers = [rows[place].number for place in own]
        for name, values in arrays.items():
            if name not in found:
                found[name] = np.empty((len(rows), *values.shape[1:]), values.dtype)
            found[name][own] = values[numbers]
    return found


def _of_scan(work: Path | str, key: str) -> dict[str, Array]:
    path = views_path(work, key)
    arrays = load_view_arrays(path)
    if missing := [field.name for field in VIEW_FIELDS if field.name not in arrays]:
        raise StoreError(
            f"{path}: holds no {', '.join(missing)}; delete it, and the next build makes it again"
        )
    return arrays
