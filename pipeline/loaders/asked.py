"""What the samples of a dataset are asked to hold: which arrays and columns of a store, and how."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from pipeline.errors import StoreError
from pipeline.loaders.checks import whole
from pipeline.loaders.columns import Columns, several
from pipeline.loaders.selection import Fewer
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import IDENTITY, IDENTITY_ROW, SCAN, SCAN_ROW, TABLE_OF, VIEW, Field
from pipeline.types import Array


@dataclass(frozen=True, eq=False)
class Asked:
    """Fields by name, and how samples show them: see `FaceDataset`.

    Raises StoreError, when it is made, for fields, units and numbers that cannot be.
    """

    columns_of: Columns
    fields: tuple[str, ...]
    views: int
    """Of which a sample shows several; 0 = of views, or without."""
    points: int
    units: str
    packed: tuple[str, ...]
    """Fields of bits that stay as they are stored."""

    def __post_init__(self) -> None:
        held = {name: self.row_of(name) for name in self.fields}
        if unknown := [name for name, row_of in held.items() if row_of is None]:
            raise self._store.lacks(unknown, self.columns_of.names())
        if not held:
            raise StoreError(f"{self._store.path}: no fields asked for; name at least one")
        for row_of in TABLE_OF:
            if row_of not in self.reach:
                some = [name for name, of in held.items() if of == row_of]
                if some:
                    raise several(self._store, row_of, self.unit, ", ".join(some))
        self._check_points()
        self._check_units()

    @property
    def unit(self) -> str:
        return self.columns_of.unit

    @property
    def _store(self) -> Store:
        return self.columns_of.store

    @property
    def reach(self) -> Mapping[str, bool]:
        """What a sample has rows of, and whether several."""
        own = {
            SCAN: {SCAN: False, IDENTITY: False},
            IDENTITY: {IDENTITY: False},
            VIEW: {SCAN: False, IDENTITY: False, VIEW: False},
        }[self.unit]
        return {SCAN: True, VIEW: True} | own if self.views else own

    def row_of(self, name: str) -> str | None:
        """What a row of a field or column is of; None of an unknown one."""
        if name in self._store.fields:
            return self._store.fields[name].row_of
        found = self.columns_of.find(name, self.unit)
        return found[0] if found else None

    @cached_property
    def arrays(self) -> dict[str, tuple[str, ...]]:
        """Names of the arrays with a row of each, by what the rows are of."""
        named = [self._store.fields[name] for name in self.fields if name in self._store.fields]
        ones = [field for field in named if not field.group]
        return {
            row_of: tuple(field.name for field in ones if field.row_of == row_of)
            for row_of in dict.fromkeys(field.row_of for field in ones)
        }

    @cached_property
    def points_fields(self) -> tuple[str, ...]:
        fields = self._store.fields
        return tuple(name for name in self.fields if name in fields and fields[name].group)

    @cached_property
    def columns(self) -> dict[str, tuple[str, Array | pa.Array]]:
        """What the rows of each column asked for are of, and its values."""
        names = [name for name in self.fields if name not in self._store.fields]
        return {name: self.column(name) for name in names}

    def column(self, name: str) -> tuple[str, Array | pa.Array]:
        """What its rows are of, and its values. Raises StoreError where there is no such column."""
        row_of, column = self.columns_of.found(name, self.unit)
        values = self.columns_of.shown(row_of, column)
        if self.units == "m" and column.endswith("_mm"):
            return row_of, values / 1000
        return row_of, values

    @cached_property
    def parts(self) -> frozenset[str]:
        """What the fields asked for are of."""
        found = {self.row_of(name) for name in self.fields}
        return frozenset(row_of for row_of in found if row_of is not None)

    @cached_property
    def names(self) -> dict[str, str]:
        """Name of each field in samples."""
        metres = self.units == "m"
        return {
            name: name.removesuffix("mm") + "m" if metres and name.endswith("_mm") else name
            for name in self.fields
        }

    @cached_property
    def bits(self) -> dict[str, int]:
        """Fields that are unpacked -> bits of their last axis."""
        n_vertices = self._store.form.model.n_vertices
        lengths = {"validity": n_vertices, "visibility": n_vertices, "parts": 224}
        asked = {name for names in self.arrays.values() for name in names}
        return {name: n for name, n in lengths.items() if name in asked and name not in self.packed}

    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and type of a sample's arrays, by field."""
        return {
            name: self._shape(self._store.fields[name])
            for name in self.fields
            if name in self._store.fields
        }

    def _shape(self, field: Field) -> tuple[tuple[int, ...], np.dtype[Any]]:
        lead: tuple[int, ...] = (self.views,) if self.reach[field.row_of] else ()
        if field.group:
            lead = *lead, self.points
        if field.name in self.bits:
            return (*lead, *field.shape[:-1], self.bits[field.name]), np.dtype(np.bool_)
        return (*lead, *field.shape), np.dtype(field.dtype)

    def _check_points(self) -> None:
        if bool(self.points_fields) != (self.points > 0):
            raise StoreError(
                f"points={self.points} with the fields {', '.join(self.fields)}: expected a number "
                "of points a scan with points_mm or normals, and 0 without"
            )

    def _check_units(self) -> None:
        if self.units not in ("mm", "m"):
            raise StoreError(f"units {self.units!r}, expected 'mm' or 'm'")
        fields = [self._store.fields[name] for name in self.shapes()]
        lengths = [field for field in fields if field.unit == "mm"]
        if self.units == "m" and (bad := [f.name for f in lengths if not _in_metres(f)]):
            raise StoreError(
                f"{', '.join(bad)}: in millimetres, and not to be turned to metres by name or "
                "type; ask for it with units='mm' and turn it yourself"
            )


def _in_metres(field: Field) -> bool:
    """It can be divided by 1000, and its name says in what it is."""
    return field.name.endswith("_mm") and np.dtype(field.dtype).kind == "f"


def asked_names(store: Store, fields: Any) -> tuple[str, ...]:
    """A name, or several. Raises StoreError for all else."""
    if isinstance(fields, str):
        return (fields,)
    given = tuple(fields) if isinstance(fields, Iterable) else (fields,)
    if all(isinstance(name, str) for name in given):
        return given
    raise StoreError(f"{store.path}: fields: got {fields!r}, expected a name or a list of names")


def opened(store: Any) -> Store:
    """An open store, or the one of a folder or URL. Raises StoreError for all else."""
    if isinstance(store, Store):
        return store
    if isinstance(store, (str, os.PathLike)):
        return open_store(store if isinstance(store, str) else Path(store))
    raise StoreError(f"store: got {store!r}, expected a folder, a URL or an open Store")


def check_unit(store: Store, unit: Any, views: Any, fewer: Any) -> int:
    """`views`. Raises StoreError for samples that the store does not have, FacefoldError for a
    number that is none."""
    if unit not in TABLE_OF:
        raise StoreError(f"unit: got {unit!r}, expected {', '.join(map(repr, TABLE_OF))}")
    if fewer not in get_args(Fewer):
        raise StoreError(
            f"fewer: got {fewer!r}, expected {' or '.join(map(repr, get_args(Fewer)))}"
        )
    n_views = whole("views", views)
    if unit == VIEW and n_views:
        raise StoreError(f"views={n_views} of a view: ask for unit='scan' or unit='identity'")
    for row_of, column in ((VIEW, SCAN_ROW.name), (IDENTITY, IDENTITY_ROW.name)):
        needed = unit == row_of or (row_of == VIEW and n_views)
        if needed and row_of not in store.form.parts:
            raise store.lacks([column])
    return n_views
