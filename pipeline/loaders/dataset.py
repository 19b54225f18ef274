"""A map-style torch dataset over a published store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from pipeline.errors import StoreError
from pipeline.loaders.checks import whole
from pipeline.loaders.selection import as_lists, select, shown, words
from pipeline.store.form import at
from pipeline.store.reader import Store, open_store
from pipeline.store.table_reading import coded, codes_of, said_columns
from pipeline.store.validity_bits import unpack_validity
from pipeline.types import Array

CODED = ("identity", "source")
"""Columns that samples hold as integers, `.identities` and `.sources` naming them."""

PREFIX = "manifest."
"""Before a column's name where an array has the same."""

Sample = dict[str, Any]
"""Field → tensor; text columns of the manifest stay str (a batch: list of str)."""


class FaceDataset(Dataset[Sample]):
    """Rows of a store, as samples of the fields asked for.

    `store` is the dataset's folder or URL, one version of it, or an open `Store`. `split` and
    `where` ({column: value or list of values; None or "" is what is not known}, or a question such
    as "coverage > 0.6 and not benchmark", see `pipeline.store.query`) choose the rows by the
    manifest. `fields` are stored
    arrays (`vertices_mm` (5023,3) float32 …; those of identities, such as `identity_neutral_mm`,
    give each scan the row of its person) and columns of the manifest: numbers and truth values
    become tensors, text stays str, `identity` and `source` become int64 codes into `.identities`
    and `.sources`, which are the same for every split of one version. `manifest.<column>` names a
    column for certain: `expression` are the coefficients, `manifest.expression` is the source's
    word for it.

    `validity` is a (5023,) bool mask; with `unpack_validity=False` the stored (628,) uint8.
    `points_mm` and `normals` are a scan's first `points` ones, which are a random sample of all
    (`Store.read_points`). Absent landmarks are NaN, their confidence 0. What the manifest does not
    know is NaN, "" or False.

    Lengths are millimetres. With `units="m"` every field and column whose name ends in `_mm` is in
    metres and its name ends in `_m`: `vertices_mm` is asked for, `vertices_m` is in the sample.

    `dataset[i]` is a sample, `dataset[[i, j, …]]` and `dataset[i:j]` are whole batches, gathered
    at once; `DataLoader(dataset, sampler=BatchSampler(…), batch_size=None)` uses the latter. It
    works in worker processes however they start (fork, forkserver, spawn).

    Raises StoreError for an unknown field or column, where no row is left, and where a file of
    the store is missing or damaged.
    """

    def __init__(
        self,
        store: Path | str | Store,
        split: str | Sequence[str] | None = None,
        fields: str | Sequence[str] = ("vertices_mm", "shape", "identity"),
        where: Mapping[str, Any] | str | None = None,
        unpack_validity: bool = True,
        *,
        units: Literal["mm", "m"] = "mm",
        points: int = 0,
    ) -> None:
        self.store = _opened(store)
        self.fields = _names(self.store, fields)
        self.unpack_validity, self.units = bool(unpack_validity), units
        self.points = whole("points", points)
        self.n_vertices: int = self.store.model["n_vertices"]
        _check_fields(self.store, self.fields)
        self.split, self.where = split, where if isinstance(where, str) else as_lists(where)
        self._asked = (self.store, split, self.fields, self.where, unpack_validity), units, points
        self.rows = select(self.store, split, self.where)
        stored = {name: self.store.fields.get(name) for name in self.fields}
        self._arrays = tuple(name for name, field in stored.items() if field and not field.group)
        self._points = tuple(name for name, field in stored.items() if field and field.group)
        self._columns = {name: self._shown(name) for name, field in stored.items() if not field}
        self._names = {name: self._name_in_samples(name) for name in self.fields}
        self._check_points_and_units()
        places = {at(self.store.fields[name].group) for name in self._points}
        self.store.map(*self._arrays, *self._points, *places)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        asked, units, points = self._asked  # the question, not the rows that answer it
        return partial(FaceDataset, units=units, points=points), asked

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        said = [f"split={self.split!r}"] * (self.split is not None)
        said += [f"where={self.where!r}"] * bool(self.where)
        said += [f"fields={self.fields!r}", f"units={self.units!r}"]
        return f"FaceDataset({str(self.store.path)!r}, {', '.join(said)}; {len(self)} samples)"

    def __getitem__(self, index: int | slice | Sequence[int] | Array | torch.Tensor) -> Sample:
        positions = self._positions(index)
        return self.gather(positions) if positions.ndim else self._one(int(positions))

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """The samples of a batch in one gather; DataLoader calls it where it is there."""
        batch = self.gather(self._positions(indices))
        return [{name: values[i] for name, values in batch.items()} for i in range(len(indices))]

    def _positions(self, index: Any) -> Array:
        """int64 in 0 … len - 1, () or (n,), of an index, several, a slice or a mask.

        Raises IndexError for what is none of these, or out of range.
        """
        n = len(self)
        found = np.arange(n)[index] if isinstance(index, slice) else np.asarray(index)
        if found.dtype == np.bool_ and found.shape == (n,):
            return np.flatnonzero(found)
        if found.shape == (0,):
            return np.zeros(0, np.int64)
        if found.dtype.kind not in "iu" or found.ndim > 1:
            raise IndexError(
                f"index: got {found.dtype} {found.shape}, expected an integer, a list of them, a "
                f"slice, or a mask ({n},)"
            )
        low, high = found.min(), found.max()
        if not -n <= low <= high < n:
            sample = f"sample {low}" if not found.ndim else f"samples {low} … {high}"
            raise IndexError(f"{sample}, expected 0 … {n - 1}")
        found = found.astype(np.int64)
        return np.asarray(found % n) if low < 0 else found

    def __iter__(self) -> Iterator[Sample]:
        return (self._one(i) for i in range(len(self)))

    def _one(self, i: int) -> Sample:
        return {name: values[0] for name, values in self.gather(np.array([i])).items()}

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """Names of the codes of `identity`."""
        return tuple(coded(self.store.columns("identity")["identity"])[1])

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the codes of `source`."""
        return tuple(coded(self.store.columns("source")["source"])[1])

    def column(self, name: str) -> Array:
        """(len(self),) a manifest column of the rows: codes, numbers, or str objects."""
        _check_fields(self.store, (PREFIX + name.removeprefix(PREFIX),))
        values = self._shown(name)
        return values if isinstance(values, np.ndarray) else np.array(words(values), object)

    def classes(self, *columns: str) -> tuple[Array, list[tuple[Any, ...]]]:
        """(len(self),) int64 codes of what the columns hold together, and each code's values.

        Null is a value as any other, None: rows of which it is not known are one class.
        """
        codes = np.zeros(len(self), np.int64)
        classes: list[tuple[Any, ...]] = [()]
        for name in columns:
            column = name.removeprefix(PREFIX)
            here, values = coded(self.store.columns(column)[column])
            held = [*values, None]  # null has the code -1
            both = codes * len(held) + here[self.rows] % len(held)
            both, codes = np.unique(both, return_inverse=True)
            classes = [(*classes[b // len(held)], held[b % len(held)]) for b in both.tolist()]
        return codes, classes

    def array_shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and type of a sample's arrays, by field."""
        fields = self.store.fields
        held = {name: (fields[name].shape, np.dtype(fields[name].dtype)) for name in self._arrays}
        if self.unpack_validity and "validity" in held:
            held["validity"] = (self.n_vertices,), np.dtype(np.bool_)
        for name in self._points:
            held[name] = (self.points, *fields[name].shape), np.dtype(fields[name].dtype)
        return held

    def gather(self, indices: Array, out: Mapping[str, Array] | None = None) -> Sample:
        """The batch of samples (n,) int64; `out` may give memory for arrays, by field."""
        rows, into = self.rows[indices], dict(out or {})
        mask = into.pop("validity", None) if self.unpack_validity else None
        arrays = self.store.read_fields(self._arrays, rows, into)
        if self._points:
            for name, values in self.store.read_points(self._points, rows, self.points).items():
                arrays[name] = _copied(values, into.get(name))
        if self.unpack_validity and "validity" in arrays:
            mask_now = unpack_validity(arrays["validity"], self.n_vertices)
            arrays["validity"] = _copied(mask_now, mask)
        if self.units == "m":
            for name in arrays:
                if name.endswith("_mm"):
                    arrays[name] /= 1000
        return {
            shown: torch.from_numpy(arrays[name])
            if name in arrays
            else _picked(self._columns[name], indices)
            for name, shown in self._names.items()
        }

    def _shown(self, name: str) -> Array | pa.Array:
        column = name.removeprefix(PREFIX)
        held = self.store.columns(column)[column]
        if column in CODED:
            return codes_of(held)[self.rows]
        values = shown(held, self.rows)
        in_metres = self.units == "m" and column.endswith("_mm")
        return values / 1000 if in_metres else values

    def _name_in_samples(self, name: str) -> str:
        in_metres = self.units == "m" and name.endswith("_mm")
        return name.removesuffix("mm") + "m" if in_metres else name

    def _check_points_and_units(self) -> None:
        if self.units not in ("mm", "m"):
            raise StoreError(f"units {self.units!r}, expected 'mm' or 'm'")
        views = [name for name in self._points if self.store.fields[name].group != "point"]
        if views:
            raise StoreError(
                f"{self.store.path}: a scan has any number of {', '.join(views)}; read them with "
                "store.read_ragged"
            )
        if bool(self._points) != (self.points > 0):
            raise StoreError(
                f"points={self.points} with the fields {', '.join(self.fields)}: expected a number "
                "of points a scan with points_mm or normals, and 0 without"
            )
        if self.units == "m" and "source_to_canonical" in self._arrays:
            raise StoreError(
                "source_to_canonical leads to millimetres; ask for it with units='mm' and turn "
                "it yourself"
            )


def _opened(store: Any) -> Store:
    if isinstance(store, Store):
        return store
    if isinstance(store, (str, os.PathLike)):
        return open_store(store if isinstance(store, str) else Path(store))
    raise StoreError(f"store: got {store!r}, expected a folder, a URL or an open Store")


def _names(store: Store, fields: Any) -> tuple[str, ...]:
    if isinstance(fields, str):
        return (fields,)
    given = tuple(fields) if isinstance(fields, Iterable) else (fields,)
    if all(isinstance(name, str) for name in given):
        return given
    raise StoreError(f"{store.path}: fields: got {fields!r}, expected a name or a list of names")


def _check_fields(store: Store, names: Sequence[str]) -> None:
    known = {*store.fields, *store.column_names, *(PREFIX + name for name in store.column_names)}
    if unknown := [name for name in names if name not in known]:
        raise store.lacks(unknown, said_columns(store.column_names))
    if not names:
        raise StoreError(f"{store.path}: no fields asked for; name at least one")


def _copied(values: Array, out: Array | None) -> Array:
    if out is None:
        return values
    out[...] = values
    return out


def _picked(values: Array | pa.Array, indices: Array) -> torch.Tensor | list[str]:
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values[indices])
    return words(values.take(pa.array(indices)))
