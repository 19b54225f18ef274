"""Reading a store: `open_store(path).read("vertices_mm", rows)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import StoreError
from pipeline.store.arrays.int16 import IN_STEPS, InSteps
from pipeline.store.arrays.mapped import MappedField
from pipeline.store.arrays.rows import Rows, RowsOfPeople, check_places, gone
from pipeline.store.arrays.stored import stored_rows
from pipeline.store.form import at, form_in, group_attributes
from pipeline.store.head import current_version
from pipeline.store.listing import check_shards, check_sizes, listing_of, version_of
from pipeline.store.paths import FILES, MANIFEST, is_there, table_file
from pipeline.store.remote.mirror import CACHE_BYTES, is_mirror, mirrored
from pipeline.store.remote.mirrored_field import MirroredField
from pipeline.store.remote.objects import is_url
from pipeline.store.schema import (
    FIELDS_OF,
    IDENTITY,
    IDENTITY_ROW,
    SCAN,
    SCAN_ROW,
    TABLE_OF,
    VIEW,
    tables_of,
)
from pipeline.store.table_reading import (
    RENAMED,
    added_columns,
    check_table,
    empty_table,
    read_table,
    said_columns,
    schema_of,
)
from pipeline.store.topology import Topology, read_topology
from pipeline.types import Array


class Store:
    """One published version, read-only. Make it with `open_store`.

    It may be pickled (the other process opens the same version again) and used after a fork:
    reading is plain memory access, without threads or locks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attributes = group_attributes(path)
        self.form = form_in(self.attributes, path)
        self.listing = listing_of(path)
        self.version = version_of(self.listing)
        check_shards(self.form, self.listing["files"], path / FILES)
        check_sizes(path, self.listing["files"])
        self._added = added_columns(self.form, self.listing["files"])
        self._schemas = {
            TABLE_OF[row_of]: self._schema(TABLE_OF[row_of], part.rows)
            for row_of, part in self.form.parts.items()
        }
        self.n_rows = self.form.rows
        self.fields = self.form.all_fields
        self._rows: dict[str, Rows] = {}
        self._columns: dict[str, pa.ChunkedArray] = {}

    def __len__(self) -> int:
        return self.n_rows

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Store, (self.path,)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {self.n_rows} rows, model {self.model['name']!r})"

    @property
    def model(self) -> dict[str, Any]:
        """name, digest, is_stand_in and n_vertices of the face model of all rows."""
        return asdict(self.form.model)

    @property
    def coefficient_model(self) -> dict[str, Any]:
        """The same of the model whose `shape`, `expression`, `pose`, `translation_mm` and
        `offset_mm` they are: `model`, unless another was fitted since (`facefold refit`)."""
        others = (field.model for field in self.form.attached if field.model)
        return asdict(next(others, self.form.model))

    @cached_property
    def topology(self) -> Topology | None:
        """The template's triangles and regions; None in stores of schema 1 and 2."""
        return read_topology(self.path, self.attributes, self.form.model.n_vertices)

    @property
    def faces(self) -> Array:
        """(F,3) int32, the template's triangles. Raises StoreError where the store has none."""
        if self.topology is None:
            raise StoreError(
                f"{self.path}: of schema {self.form.schema}, which holds no triangles; "
                "take those of the model it was made with"
            )
        return self.topology.faces

    @cached_property
    def manifest(self) -> pa.Table:
        """One row a scan, in the arrays' order. Raises StoreError where unreadable."""
        return self._read_manifest(None)

    def _schema(self, table: str, rows: int) -> pa.Schema:
        """Raises StoreError where the table has other columns, or another number of rows."""
        path = self.path / table_file(table)
        schema = schema_of(path, rows)
        check_table(table, schema, path, self._added[table])
        return schema

    def _read_manifest(self, columns: Sequence[str] | None) -> pa.Table:
        manifest = read_table(self.path / MANIFEST, columns)
        if len(manifest) != self.n_rows:
            raise StoreError(
                f"{self.path}: the manifest has {len(manifest)} rows, the arrays {self.n_rows}"
            )
        return manifest

    @property
    def column_names(self) -> tuple[str, ...]:
        """Of the manifest, which is not read for it."""
        return tuple(RENAMED.get(name, name) for name in self._schemas["manifest"].names)

    def columns(self, *names: str) -> pa.Table:
        """Columns of the manifest, each read once and only when asked for.

        Those that name classes (`table_reading.CLASSES`) come as dictionary arrays: a code a row.
        Raises StoreError for a column that is not there.
        """
        if unknown := [name for name in names if name not in self.column_names]:
            raise StoreError(
                f"{self.path}: no column {', '.join(unknown)}; the manifest has "
                + ", ".join(said_columns(self.column_names))
            )
        missing = [name for name in names if name not in self._columns]
        if missing:
            table = self._read_manifest(missing)
            self._columns |= dict(zip(missing, table.columns, strict=True))
        return pa.table({name: self._columns[name] for name in names})

    def table(self, name: str) -> pa.Table:
        """One of `schema.TABLES`; without rows where the version's schema has none such.

        Raises StoreError where it is damaged.
        """
        if name == "manifest":
            return self.manifest
        if name not in tables_of(self.form.schema):
            return empty_table(name)
        path = self.path / table_file(name)
        table = read_table(path)
        check_table(name, table.schema, path, self._added[name])
        return table

    @cached_property
    def views(self) -> pa.Table:
        """One row a view, in the order of their arrays. Raises StoreError where it is damaged."""
        return self.table("views")

    def view_columns(self, *names: str) -> pa.Table:
        """Columns of the views, of which nothing else is read; classes come as in `columns`.

        Raises StoreError for a column that is not there.
        """
        held = self._schemas["views"].names if self.form.views else self.views.column_names
        if unknown := [name for name in names if name not in held]:
            raise StoreError(
                f"{self.path}: no column {', '.join(unknown)}; the views have "
                + ", ".join(said_columns(held))
            )
        if self.form.views:
            return read_table(self.path / table_file("views"), names)
        return self.views.select(names)

    def map(self, *names: str) -> None:
        """Map fields now, so that damage to their shards' indices shows before the first read."""
        for name in names:
            self._field(name)

    def row(self, name: str, row: int) -> Array:
        """One scan's row (*field.shape), read-only, without a copy where it is stored so; of a
        field of identities that of its person."""
        if not 0 <= row < self.n_rows:
            raise IndexError(f"row {row}, expected 0 … {self.n_rows - 1}")
        return self._one_a_scan(name).row(row)

    def read_ragged(self, name: str, row: int, n: int | None = None) -> Array:
        """(m, *field.shape), a copy of a scan's rows of a field of a group: all, or the first `n`.

        Raises StoreError for another field, IndexError for a scan outside 0 … n_rows - 1.
        """
        first, count = self._places(name, self._index([row]))[0]
        wanted = count if n is None else min(count, n)
        return np.array(self._field(name).span(int(first), int(wanted)))

    def read_points(
        self, names: Sequence[str], rows: slice | Sequence[int] | Array, n: int
    ) -> dict[str, Array]:
        """`n` points of each scan (rows, n, *field.shape): its first ones, which are a fair sample.

        Scans of fewer points repeat theirs from the first on, those of none are NaN.
        """
        index = self._index(rows)
        return {name: self._points(name, index, n) for name in names}

    def _points(self, name: str, index: Array, n: int) -> Array:
        places, field = self._places(name, index), self.fields[name]
        if not n:
            return np.empty((len(index), 0, *field.shape), field.dtype)
        result = np.empty((len(index), n, *field.shape), field.dtype)
        source = self._field(name)
        for out, (first, count) in zip(result, places.tolist(), strict=True):
            held = min(count, n)
            out[:held] = source.span(first, held)
            if held < n:
                out[held:] = np.resize(out[:held], (n - held, *field.shape)) if held else np.nan
        return result

    def _places(self, name: str, index: Array) -> Array:
        """(n,2) first row and number of rows of scans in a field of a group."""
        group = self.fields[name].group if name in self.fields else ""
        if not group:
            grouped = [other for other, field in self.fields.items() if field.group]
            raise StoreError(
                f"{self.path}: {name!r} is no field of several rows a scan; "
                f"it has {', '.join(grouped) or 'none'}"
            )
        places = self._field(at(group)).take(index)
        check_places(self.path, self.form, name, self._field(name).held, index, places)
        return places

    def read(self, name: str, rows: slice | Sequence[int] | Array) -> Array:
        """A copy of the scans' rows (n, *field.shape), in the order asked for; a bool array is a
        mask. Of a field of identities it is for each scan the row of its person.

        Raises StoreError for an unknown field, IndexError for a row outside 0 … n_rows - 1.
        """
        return self.read_fields((name,), rows)[name]

    def read_fields(
        self,
        names: Sequence[str],
        rows: slice | Sequence[int] | Array,
        out: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """`read` of several fields at once: in small batches the checks are half the time.

        `out` gives arrays (n, *field.shape) of the fields' types to copy into, by field.
        """
        index, into = self._index(rows), out or {}
        taken: dict[str, Array] = {}
        places: dict[int, Array] = {}
        for name in names:
            field = self._one_a_scan(name)
            if isinstance(field, MappedField):  # most share their slots' length, and the places
                length = field.rows_per_slot
                if length not in places:
                    places[length] = field.places(index)
                taken[name] = field.at(places[length], into.get(name))
            else:
                taken[name] = field.take(index, into.get(name))
        return taken

    def read_identities(
        self,
        name: str,
        rows: slice | Sequence[int] | Array,
        out: Array | None = None,
    ) -> Array:
        """A copy of people's rows (n, *field.shape) of a field of identities, by their own
        numbers: row i is of row i of `table("identities")`; in `out` if given.

        Raises StoreError for another field, IndexError for a row outside 0 … identities - 1.
        """
        if name in self.fields and self.fields[name].row_of != IDENTITY:
            raise StoreError(f"{self.path}: {name} has a row a scan, none a person; use read")
        return self._field(name).take(self._index(rows, self.form.identities), out)

    def read_views(
        self,
        name: str,
        rows: slice | Sequence[int] | Array,
        out: Array | None = None,
    ) -> Array:
        """A copy of views' rows (n, *field.shape) of a field of views, by their own numbers: row i
        is of row i of `views`; in `out` if given.

        Raises StoreError for another field, IndexError for a row outside 0 … form.views - 1.
        """
        if name in self.fields and self.fields[name].row_of != VIEW:
            raise StoreError(f"{self.path}: {name} has no row a view; use read")
        return self._field(name).take(self._index(rows, self.form.views), out)

    def read_rows(self, name: str, rows: slice | Sequence[int] | Array) -> Array:
        """A copy of rows (n, *field.shape) of a field, by the numbers of what it has rows of:
        scans, people or views. Raises as `read`."""
        if name not in self.fields or self.fields[name].row_of == SCAN:
            return self.read(name, rows)
        of_people = self.fields[name].row_of == IDENTITY
        return (self.read_identities if of_people else self.read_views)(name, rows)

    @cached_property
    def scan_row_of_view(self) -> Array:
        """(form.views,) int64, the row of each view's scan in the fields of scans.

        Raises StoreError where the column is damaged.
        """
        if not self.form.views:
            return np.zeros(0, np.int64)
        return self._rows_named(SCAN_ROW.name, VIEW, self.n_rows)

    @cached_property
    def identity_row(self) -> Array:
        """(n_rows,) int64, the row of each scan's person in the fields of identities.

        Raises StoreError where the version has no such fields, or the column is damaged.
        """
        return self._rows_named(IDENTITY_ROW.name, SCAN, self.form.identities)

    def _rows_named(self, column: str, row_of: str, n: int) -> Array:
        """A column of scans, or of views, that names rows of others, of which there are `n`."""
        rows = (self.columns if row_of == SCAN else self.view_columns)(column)[column]
        found = np.asarray(rows.to_numpy())
        if rows.null_count or found.min() < 0 or found.max() >= n:
            raise StoreError(
                f"{self.path / table_file(TABLE_OF[row_of])}: {column}: expected 0 … {n - 1} of "
                f"every {row_of}; verify the store"
            )
        return found

    def _index(self, rows: slice | Sequence[int] | Array, n: int | None = None) -> Array:
        """(k,) int64, each in 0 … n - 1, n_rows if not given."""
        n = self.n_rows if n is None else n
        index = np.asarray(rows) if not isinstance(rows, slice) else np.arange(n)[rows]
        if index.dtype == np.bool_ and index.shape == (n,):
            index = np.flatnonzero(index)
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise IndexError(f"rows: got {index.dtype} {index.shape}, expected a list of integers")
        index = index.astype(np.int64, copy=False)
        if index.size and index.view(np.uint64).max() >= n:  # negative ones are huge
            raise IndexError(f"rows {index.min()} … {index.max()}, expected 0 … {n - 1}")
        return index

    def _one_a_scan(self, name: str) -> Rows:
        if name in self.fields and self.fields[name].group:
            raise StoreError(
                f"{self.path}: {name} holds any number of rows a scan; use read_ragged or "
                "read_points"
            )
        if name in self.fields and self.fields[name].row_of == VIEW:
            raise StoreError(f"{self.path}: {name} has a row a view, none a scan; use read_views")
        rows = self._field(name)
        return rows if name in self.form.fields else RowsOfPeople(rows, self.identity_row)

    def _field(self, name: str) -> Rows:
        if name not in self._rows:
            if name not in self.fields:
                raise self.lacks([name])
            try:
                rows = self._opened(name)
            except FileNotFoundError as error:
                raise gone(error) from error
            if self.form.in_steps(name):
                middle = IN_STEPS[name]
                rows = InSteps(rows, self._field(middle) if middle else None)
            self._rows[name] = rows
        return self._rows[name]

    def lacks(self, names: Sequence[str], columns: Sequence[str] = ()) -> StoreError:
        """That it has no such fields, and no such `columns` either where these may be asked for."""
        of_people = {IDENTITY_ROW.name, *(field.name for field in FIELDS_OF[IDENTITY])}
        of_views = {SCAN_ROW.name, "embeddings", *(field.name for field in FIELDS_OF[VIEW])}
        remedy = ""
        if not self.form.identities and of_people.intersection(names):
            remedy = "; its people have no rows of their own: build it again"
        elif not self.form.views and of_views.intersection(names):
            remedy = (
                "; it has no views: say in the registries which there are (`views`), and build it "
                "again"
            )
        held = ", ".join([*self.fields, *columns])
        return StoreError(f"{self.path}: no field {', '.join(names)}; it has {held}{remedy}")

    def _opened(self, name: str) -> Rows:
        if not is_mirror(self.path):
            return stored_rows(self.path, self.form, name)
        group = self.fields[name].group
        if not group:
            return MirroredField(self.path, self.form, name)
        index = np.arange(self.n_rows)
        places = self._field(at(group)).take(index)
        rows = MirroredField(self.path, self.form, name, places)
        check_places(self.path, self.form, name, rows.held, index, places)
        return rows


def open_store(
    path: Path | str, cache: Path | str | None = None, cache_bytes: int = CACHE_BYTES
) -> Store:
    """Open a dataset's folder, at the version its HEAD names, or one version's folder.

    `path` may be a URL such as s3://bucket/prefix: rows are then fetched when they are first asked
    for, and kept in `cache`, up to `cache_bytes` (`remote.mirror.mirrored`).

    What the version says of itself is checked first, and every file of it must exist with its size:
    nothing is allocated for what is not there. Raises StoreError naming the file where one is
    missing or cut short or contradicts the others, where there is no store, where it is of a newer
    schema, or where its arrays are not in the layout this reader maps.
    """
    if is_url(path):
        return Store(mirrored(str(path), cache, cache_bytes))
    path = Path(path).absolute()
    return Store(path if is_there(path / FILES) else current_version(path))
