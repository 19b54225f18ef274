"""Columns of a store's tables by name, as numbers; text becomes objects only when shown."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.store.paths import table_file
from pipeline.store.reader import Store
from pipeline.store.schema import IDENTITY, SCAN, TABLE_OF, VIEW
from pipeline.store.table_reading import codes_of, read_table, said_columns, schema_of
from pipeline.types import Array

CODED = ("identity", "source")
"""Columns that samples hold as integers, `.identities` and `.sources` naming them."""
PREFIXES = {row_of: f"{table}." for row_of, table in TABLE_OF.items()}
"""What a row is of -> what stands before a column's name to say for certain that it is of these."""


class Columns:
    """The columns of the tables of scans, people and views, as far as these have arrays.

    A bare name is the column of the table in question, or else of the first of manifest, identities
    and views that has it; `manifest.`, `identities.` and `views.` say of which.
    """

    def __init__(self, store: Store, unit: str) -> None:
        self.store, self.unit = store, unit
        self._names = {
            row_of: tuple(self._names_of(row_of))
            for row_of in TABLE_OF
            if row_of in store.form.parts
        }
        self._held: dict[tuple[str, str], pa.ChunkedArray] = {}

    def _names_of(self, row_of: str) -> list[str]:
        if row_of == SCAN:
            return list(self.store.column_names)
        path = self.store.path / table_file(TABLE_OF[row_of])
        return list(schema_of(path, self.store.form.part(row_of).rows).names)

    def find(self, name: str, of: str) -> tuple[str, str] | None:
        """What its rows are of, and the column's name in their table; `of` is in question."""
        for row_of, prefix in PREFIXES.items():
            if name.startswith(prefix):
                column = name.removeprefix(prefix)
                return (row_of, column) if column in self._names.get(row_of, ()) else None
        for row_of in sorted(self._names, key=lambda row_of: row_of != of):
            if name in self._names[row_of]:
                return row_of, name
        return None

    def found(self, name: str, of: str) -> tuple[str, str]:
        """As `find`. Raises StoreError where no table has it."""
        if (found := self.find(name, of)) is None:
            held = "; ".join(
                f"the {TABLE_OF[row_of]} {'has' if row_of == SCAN else 'have'} "
                + ", ".join(said_columns(names))
                for row_of, names in self._names.items()
            )
            raise StoreError(f"{self.store.path}: no column {name}; {held}")
        return found

    def names(self) -> list[str]:
        """Every column's, once, but those of checksums."""
        return said_columns(
            [*dict.fromkeys(name for some in self._names.values() for name in some)]
        )

    def held(self, row_of: str, column: str) -> pa.ChunkedArray:
        """As the table has it, read when first asked for."""
        if row_of == SCAN:
            return self.store.columns(column)[column]
        if (row_of, column) not in self._held:
            path = self.store.path / table_file(TABLE_OF[row_of])
            self._held[row_of, column] = read_table(path, [column])[column]
        return self._held[row_of, column]

    def shown(self, row_of: str, column: str) -> Array | pa.Array:
        """As samples show it, of each row of its table: codes of CODED, numbers with NaN for null,
        truth values with False, or text."""
        if column in CODED:
            return self._codes(row_of, column)
        held = self.held(row_of, column)
        kind = held.type
        if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
            return held.cast(pa.large_string()).combine_chunks()
        if pa.types.is_boolean(kind):
            return pc.fill_null(held, False).to_numpy()
        return held.to_numpy()

    def _codes(self, row_of: str, column: str) -> Array:
        """The same for every table: those of the manifest."""
        of_scans = codes_of(self.held(SCAN, column))
        if row_of == IDENTITY:
            of_people = np.full(self.store.form.identities, -1)
            of_people[self.store.identity_row] = of_scans
            return of_people
        return of_scans[self.store.scan_row_of_view] if row_of == VIEW else of_scans

    def rows(self, of: str, row_of: str) -> Array | None:
        """For each row of the table `of` its row in that of `row_of`; None if they are the same.

        Raises StoreError where there may be several.
        """
        if of == row_of:
            return None
        if of == VIEW:
            scans = self.store.scan_row_of_view
            return scans if row_of == SCAN else np.asarray(self.store.identity_row[scans])
        if (of, row_of) == (SCAN, IDENTITY):
            return self.store.identity_row
        raise several(self.store, row_of, self.unit)


def several(store: Store, row_of: str, unit: str, names: str = "") -> StoreError:
    """That a sample has any number of scans or views."""
    what = f"{names}: " * bool(names)
    other = "view" if row_of == VIEW else "scan"
    person = "person" if unit == IDENTITY else unit
    return StoreError(
        f"{store.path}: {what}a {person} has any number of {other}s; ask for views=K of each, or "
        f"for unit={other!r}"
    )


def words(text: pa.Array) -> list[str]:
    """With "" for null."""
    return [word or "" for word in text.to_pylist()]
