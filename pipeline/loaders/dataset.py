"""A map-style torch dataset over a published store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from pipeline.loaders.asked import Asked, asked_names, check_unit, opened
from pipeline.loaders.checks import whole
from pipeline.loaders.columns import Columns, several, words
from pipeline.loaders.selection import Fewer, as_lists, select
from pipeline.store.form import at
from pipeline.store.reader import Store
from pipeline.store.schema import IDENTITY, SCAN, VIEW
from pipeline.store.table_reading import coded
from pipeline.store.validity_bits import unpack_validity
from pipeline.types import Array

if TYPE_CHECKING:
    from pipeline.loaders.transforms import Draw

Unit = Literal["scan", "view", "identity"]
Sample = dict[str, Any]
"""Field → tensor; text columns of the manifest stay str (a batch: list of str)."""


class FaceDataset(Dataset[Sample]):
    """Scans, views or people of a store, as samples of the fields asked for.

    `store` is the dataset's folder or URL, one version of it, or an open `Store`. `split` and
    `where` ({column: value or list of values; None or "" is what is not known}, or a question such
    as "coverage > 0.6 and not benchmark", see `pipeline.store.query`) choose the rows by the
    manifest. `fields` are stored arrays (`vertices_mm` (5023,3) float32 …; those of identities,
    such as `identity_neutral_mm`, give each scan the row of its person) and columns of the
    manifest: numbers and truth values become tensors, text stays str, `identity` and `source`
    become int64 codes into `.identities` and `.sources`, which are the same for every split of one
    version. `manifest.<column>` names a column for certain: `expression` are the coefficients,
    `manifest.expression` is the source's word for it.

    A sample is a scan, or with `unit="view"` a view: a picture of a scan, which comes with its
    scan's and its person's fields; `where` may ask for the views' columns too. A bare name is of
    the samples' own table if that has it; `views.<column>` and `identities.<column>` name one for
    certain. `views=K` shows K different views of each scan, fields of views being (K, …), or with
    `unit="identity"` K of each person, with the fields of their scans beside them (K, …) and those
    of the person once. `where` then says which views count. Plain indexing gives the first K, a
    `FaceLoader` others each epoch. Who has fewer is left out and counted (`.left_out`), or with
    `fewer="repeat"` shows views again, which `view_repeated` (K,) bool says.

    `validity` and `visibility` are (5023,) bool masks, `parts` (8,224,224); `unpack_validity=False`
    leaves the former as the stored (628,) uint8, `unpack_parts=False` the latter as (8,224,28).
    `points_mm` and `normals` are a scan's first `points` ones, which are a random sample of all
    (`Store.read_points`). Absent landmarks are NaN, their confidence 0. What the tables do not
    know is NaN, "" or False.

    Lengths are millimetres. With `units="m"` every field and column whose name ends in `_mm` is in
    metres and its name ends in `_m`: `vertices_mm` is asked for, `vertices_m` is in the sample.

    `dataset[i]` is a sample, `dataset[[i, j, …]]` and `dataset[i:j]` are whole batches, gathered
    at once; `DataLoader(dataset, sampler=BatchSampler(…), batch_size=None)` uses the latter. It
    works in worker processes however they start (fork, forkserver, spawn).

    Raises StoreError for an unknown field or column, one of which a sample has any number, where no
    row is left, and where a file of the store is missing or damaged.
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
        unit: Unit = "scan",
        views: int = 0,
        fewer: Fewer = "drop",
        unpack_parts: bool = True,
    ) -> None:
        self.store = opened(store)
        self.fields = asked_names(self.store, fields)
        self.unit, self.fewer = unit, fewer
        self.views = check_unit(self.store, unit, views, fewer)
        self.points, self.units = whole("points", points), units
        self.unpack_validity, self.unpack_parts = bool(unpack_validity), bool(unpack_parts)
        columns = Columns(self.store, unit)
        self._holds = Asked(columns, self.fields, self.views, self.points, units, self._packed)
        self.split, self.where = split, where if isinstance(where, str) else as_lists(where)
        self.selection = select(columns, self.views, fewer, split, self.where)
        self.rows = self.selection.rows
        names = [name for name in self.fields if name in self.store.fields]
        places = {at(self.store.fields[name].group) for name in self._holds.points_fields}
        self.store.map(*names, *places)
        _ = self._holds.columns  # read now, so that damage shows before training

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # the question, not the rows that answer it
        asked = self.store, self.split, self.fields, self.where, self.unpack_validity
        names = ("units", "points", "unit", "views", "fewer", "unpack_parts")
        return partial(FaceDataset, **{name: getattr(self, name) for name in names}), asked

    @property
    def _packed(self) -> tuple[str, ...]:
        """Fields of bits that stay so."""
        masks = () if self.unpack_validity else ("validity", "visibility")
        return masks if self.unpack_parts else (*masks, "parts")

    @property
    def n_vertices(self) -> int:
        """Of the template."""
        return self.store.form.model.n_vertices

    @property
    def left_out(self) -> int:
        """Scans, or people, that have views asked for, but fewer than `views`."""
        return self.selection.left_out

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        said = [f"split={self.split!r}"] * (self.split is not None)
        said += [f"where={self.where!r}"] * bool(self.where)
        said += [f"fields={self.fields!r}", f"units={self.units!r}"]
        said += [f"unit={self.unit!r}"] * (self.unit != SCAN)
        said += [f"views={self.views}"] * bool(self.views)
        held = f"{len(self)} samples"
        if self.left_out:
            held += f", {self.left_out} of fewer than {self.views} views left out"
        return f"FaceDataset({str(self.store.path)!r}, {', '.join(said)}; {held})"

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
        """(len(self),) a column of the samples' rows: codes, numbers, or str objects."""
        row_of, values = self._holds.column(name)
        rows = self._rows_of(row_of, name)
        if isinstance(values, np.ndarray):
            return values[rows]
        return np.array(words(values.take(pa.array(rows))), object)

    def classes(self, *columns: str) -> tuple[Array, list[tuple[Any, ...]]]:
        """(len(self),) int64 codes of what the columns hold together, and each code's values.

        Null is a value as any other, None: rows of which it is not known are one class.
        """
        codes = np.zeros(len(self), np.int64)
        classes: list[tuple[Any, ...]] = [()]
        for name in columns:
            row_of, column = self._holds.columns_of.found(name, self.unit)
            here, values = coded(self._holds.columns_of.held(row_of, column))
            held = [*values, None]  # null has the code -1
            both = codes * len(held) + here[self._rows_of(row_of, name)] % len(held)
            both, codes = np.unique(both, return_inverse=True)
            classes = [(*classes[b // len(held)], held[b % len(held)]) for b in both.tolist()]
        return codes, classes

    def has_column(self, name: str) -> bool:
        """One of which each sample has one value."""
        found = self._holds.columns_of.find(name, self.unit)
        return found is not None and self._holds.reach.get(found[0]) is False

    def _rows_of(self, row_of: str, name: str) -> Array:
        """(len(self),) rows of the table of `row_of`, of which each sample has one."""
        if self._holds.reach.get(row_of) is not False:
            raise several(self.store, row_of, self.unit, name)
        return self._places(np.arange(len(self)), None, {row_of})[row_of]

    def array_shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and type of a sample's arrays, by field."""
        return self._holds.shapes()

    @property
    def unpacked(self) -> tuple[str, ...]:
        """Fields of bits that samples hold as bool."""
        return tuple(self._holds.bits)

    def gather(
        self,
        indices: Array,
        out: Mapping[str, Array] | None = None,
        views: Array | None = None,
    ) -> Sample:
        """The batch of samples (n,) int64; `out` may give memory for arrays, by field, and `views`
        (n,K) say which views of theirs samples show, if not the first."""
        holds, into = self._holds, dict(out or {})
        masks = {name: into.pop(name, None) for name in holds.bits}
        if views is None and self.selection.views is not None:
            views = self.selection.views.first(indices, self.views)
        places = self._places(indices, views, holds.parts)
        arrays: dict[str, Array] = {}
        for row_of, names in holds.arrays.items():
            arrays |= self._read(row_of, names, places[row_of], into)
        if holds.points_fields:
            arrays |= self._read_points(places[SCAN], into)
        for name, mask in masks.items():
            arrays[name] = _copied(unpack_validity(arrays[name], holds.bits[name]), mask)
        if self.units == "m":
            for name in arrays:
                if name.endswith("_mm"):
                    arrays[name] /= 1000
        batch: Sample = {}
        for name, shown in holds.names.items():
            if name in arrays:
                batch[shown] = torch.from_numpy(arrays[name])
            else:
                row_of, values = holds.columns[name]
                batch[shown] = _picked(values, places[row_of])
        if self.fewer == "repeat" and (groups := self.selection.views) is not None:
            again = np.arange(self.views) >= groups.size[indices][:, None]
            batch["view_repeated"] = torch.from_numpy(again)
        return batch

    def drawn_views(self, draw: Draw, seed: int) -> Array | None:
        """(B,K) rows of views that samples show at their places in an epoch; None without."""
        groups = self.selection.views
        return None if groups is None else groups.drawn(draw.samples, self.views, draw, seed)

    def _places(self, indices: Array, views: Array | None, wanted: Set[str]) -> dict[str, Array]:
        """Rows of samples (n,), or (n,K) where each has several, by what they are of."""
        places: dict[str, Array] = {self.unit: self.rows[indices]}
        if views is not None:
            places[VIEW] = views
        if SCAN not in places and VIEW in places and wanted != {VIEW}:
            places[SCAN] = self.store.scan_row_of_view[places[VIEW]]
        if IDENTITY not in places and IDENTITY in wanted:
            places[IDENTITY] = self.store.identity_row[places[SCAN]]
        return places

    def _read(
        self, row_of: str, names: Sequence[str], places: Array, into: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Arrays (*places.shape, *field.shape), in those of `into` where it has them."""
        if places.ndim == 1:
            return self._read_rows(row_of, names, places, into)
        shapes = {name: self.store.fields[name].shape for name in names}
        out = {name: into[name].reshape(-1, *shapes[name]) for name in names if name in into}
        taken = self._read_rows(row_of, names, places.ravel(), out)
        # what was lent must be what the batch refers to, not another array of its memory
        return {
            name: into[name] if name in into else values.reshape(*places.shape, *shapes[name])
            for name, values in taken.items()
        }

    def _read_rows(
        self, row_of: str, names: Sequence[str], rows: Array, out: Mapping[str, Array]
    ) -> dict[str, Array]:
        if row_of == SCAN:
            return self.store.read_fields(names, rows, out)
        read = self.store.read_views if row_of == VIEW else self.store.read_identities
        return {name: read(name, rows, out.get(name)) for name in names}

    def _read_points(self, scans: Array, into: Mapping[str, Array]) -> dict[str, Array]:
        taken = self.store.read_points(self._holds.points_fields, scans.ravel(), self.points)
        return {
            name: _copied(values.reshape(*scans.shape, *values.shape[1:]), into.get(name))
            for name, values in taken.items()
        }


def _copied(values: Array, out: Array | None) -> Array:
    if out is None:
        return values
    out[...] = values
    return out


def _picked(values: Array | pa.Array, places: Array) -> torch.Tensor | list[Any]:
    """Numbers as a tensor of the places' shape; text as a list, of lists where a sample has
    several."""
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values[places])
    picked = words(values.take(pa.array(places.ravel())))
    if places.ndim == 1:
        return picked
    k = places.shape[1]
    return [picked[i * k : (i + 1) * k] for i in range(len(places))]
