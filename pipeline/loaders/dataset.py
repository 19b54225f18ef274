"""A map-style torch dataset over a published store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import Dataset

from pipeline.errors import StoreError
from pipeline.store.packing import unpack_validity
from pipeline.store.query import matching
from pipeline.store.reader import Store, open_store
from pipeline.store.tables import said_columns
from pipeline.types import Array

CODED = ("identity", "source")
"""Columns that samples hold as integers, `.identities` and `.sources` naming them."""

PREFIX = "manifest."
"""Before a column's name where an array has the same."""

Sample = dict[str, Any]
"""Field → tensor; text columns of the manifest stay str (a batch: list of str)."""


class FaceDataset(Dataset[Sample]):
    """Rows of a store, as samples of the fields asked for.

    `store` is the dataset's folder, one version of it, or an open `Store`. `split` and `where`
    ({column: value or list of values}, or a question such as "coverage > 0.6 and not benchmark",
    see `pipeline.store.query`) choose the rows by the manifest. `fields` are stored arrays
    (`vertices_mm` (5023,3) float32 …, all lengths in millimetres) and columns of the manifest:
    numbers and truth values become tensors, text stays str, `identity` and `source` become int64
    codes into `.identities` and `.sources`, which are the same for every split of one version.
    `manifest.<column>` names a column for certain: `expression` are the coefficients,
    `manifest.expression` is the source's word for it.
    `validity` is a (5023,) bool mask; with `unpack_validity=False` the stored (628,) uint8.
    Absent landmarks are NaN, their confidence 0. What the manifest does not know is NaN, "" or
    False.

    `dataset[i]` is a sample, `dataset[[i, j, …]]` and `dataset[i:j]` are whole batches, gathered
    at once; `DataLoader(dataset, sampler=BatchSampler(…), batch_size=None)` uses the latter. It
    works in worker processes however they start (fork, forkserver, spawn).

    Raises StoreError for an unknown field or column, where no row is left, and where a file of
    the store is missing or damaged.
    """

    def __init__(
        self,
        store: Path | str | Store,
        split: str | None = None,
        fields: Sequence[str] = ("vertices_mm", "shape", "identity"),
        where: Mapping[str, Any] | str | None = None,
        unpack_validity: bool = True,
    ) -> None:
        self.store = store if isinstance(store, Store) else open_store(store)
        self.fields = tuple(fields)
        self.unpack_validity = unpack_validity
        manifest = self.store.manifest
        _check_fields(self.store, self.fields)
        wanted, question = ({}, where) if isinstance(where, str) else (dict(where or {}), "")
        if split is not None:
            wanted["split"] = split
        self.rows = _select(manifest, wanted, question, self.store.path)
        self.identities = _names(manifest, "identity")
        self.sources = _names(manifest, "source")
        self._arrays = tuple(name for name in self.fields if name in self.store.fields)
        others = (name for name in self.fields if name not in self._arrays)
        self._columns = {name: self.column(name) for name in others}
        self.store.map(*self._arrays)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice | Sequence[int] | Array | torch.Tensor) -> Sample:
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"sample {index}, expected 0 … {len(self) - 1}")
            return self._one(int(index) % len(self))
        if isinstance(index, slice):
            index = np.arange(len(self))[index]
        positions = np.asarray(index)
        if positions.dtype == np.bool_:
            positions = np.flatnonzero(positions)
        return self.gather(positions.astype(np.int64))

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """The samples of a batch in one gather; DataLoader calls it where it is there."""
        batch = self.gather(np.asarray(indices, np.int64))
        return [{name: batch[name][i] for name in self.fields} for i in range(len(indices))]

    def __iter__(self) -> Iterator[Sample]:
        return (self._one(i) for i in range(len(self)))

    def _one(self, i: int) -> Sample:
        return {name: values[0] for name, values in self.gather(np.array([i])).items()}

    def column(self, name: str) -> Array:
        """(len(self),) a manifest column of the rows, as samples show it; codes, numbers or str."""
        _check_fields(self.store, (PREFIX + name.removeprefix(PREFIX),))
        return _values(self.store.manifest, name.removeprefix(PREFIX))[self.rows]

    def array_shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and type of a sample's stored arrays, by field."""
        held = ((name, self.store.fields[name]) for name in self._arrays)
        return {name: (field.shape, np.dtype(field.dtype)) for name, field in held}

    def gather(self, indices: Array, out: Mapping[str, Array] | None = None) -> Sample:
        """The batch of samples (n,) int64; `out` may give the stored arrays' memory, by field."""
        arrays = self.store.read_fields(self._arrays, self.rows[indices], out)
        if self.unpack_validity and "validity" in arrays:
            n_vertices = self.store.model["n_vertices"]
            arrays["validity"] = unpack_validity(arrays["validity"], n_vertices)
        return {
            name: torch.from_numpy(arrays[name])
            if name in arrays
            else _tensor(self._columns[name][indices])
            for name in self.fields
        }


def _check_fields(store: Store, names: Sequence[str]) -> None:
    known = {*store.fields, *store.manifest.column_names}
    known |= {PREFIX + name for name in store.manifest.column_names}
    if unknown := [name for name in names if name not in known]:
        shown = ", ".join([*store.fields, *said_columns(store.manifest.column_names)])
        raise StoreError(f"{store.path}: no field {', '.join(unknown)}; it has {shown}")
    if not names:
        raise StoreError(f"{store.path}: no fields asked for; name at least one")


def _select(manifest: pa.Table, wanted: Mapping[str, Any], question: str, store: Path) -> Array:
    """Ascending rows whose columns hold a wanted value and that fit the question."""
    chosen = matching(manifest, question) if question else np.ones(len(manifest), bool)
    for column, value in wanted.items():
        if column not in manifest.column_names:
            raise StoreError(
                f"{store}: no column {column!r} to choose by; the manifest has "
                + ", ".join(said_columns(manifest.column_names))
            )
        values = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
        present = manifest[column].unique().to_pylist()
        if not set(values) & set(present):
            held = ", ".join(sorted(str(v) for v in present)[:10])
            raise StoreError(f"{store}: no row has {column} in {values}; it has {held}")
        options = pa.array(values, manifest[column].type)
        chosen &= pc.is_in(manifest[column], options).to_numpy()
    if not chosen.any():
        asked = [dict(wanted)] * bool(wanted) + [question] * bool(question)
        raise StoreError(
            f"{store}: no row satisfies all of {' and '.join(map(str, asked))}; ask for less"
        )
    return np.flatnonzero(chosen)


def _names(manifest: pa.Table, column: str) -> tuple[str, ...]:
    return tuple(sorted(manifest[column].unique().to_pylist()))


def _values(manifest: pa.Table, column: str) -> Array:
    """A column as samples show it: codes, numbers with NaN for null, or str objects."""
    if column in CODED:
        names = np.array(_names(manifest, column), dtype=object)
        return np.searchsorted(names, manifest[column].to_numpy())
    values = manifest[column].combine_chunks()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return pc.fill_null(values, "").to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(values.type):
        return pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return values.to_numpy(zero_copy_only=False)


def _tensor(values: Array) -> torch.Tensor | list[str]:
    if values.dtype.kind == "O":
        return list(values)
    return torch.from_numpy(np.ascontiguousarray(values))
