"""The people of a store that a model of heads may be made of, those it may be tried on, and the
rest with the reasons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.loaders.columns import Columns
from pipeline.loaders.selection import matching_rows
from pipeline.store.reader import Store, open_store
from pipeline.store.remote.objects import is_url
from pipeline.store.schema import NON_METRIC, SCAN
from pipeline.store.table_reading import coded
from pipeline.types import Array

OF_PEOPLE, OF_SCANS = "identity_neutral_mm", "neutral_mm"
UNSAID = "not stated"
"""In place of a licence's name."""
IN_SPLIT = "in the split "
HELD_BACK = "held back for a benchmark"
WITHOUT_SIZE = "a scan of no true size is in the head"
NO_SCAN = "no usable scan"
NOT_ASKED = "no scan fits --where"


@dataclass(frozen=True, eq=False)
class Heads:
    """Heads at rest of people, read from the store when they are asked for; may be pickled."""

    store: str
    """Folder of the version, or the URL."""
    version: str
    field: str
    """OF_PEOPLE, or OF_SCANS of a store whose people have no rows."""
    rows: tuple[Array, ...]
    """Of the field, each person's: of several the mean head is taken."""

    def __len__(self) -> int:
        return len(self.rows)

    def some(self, people: slice | Array) -> Heads:
        """Those of some people."""
        places = np.arange(len(self))[people]
        return Heads(self.store, self.version, self.field, tuple(self.rows[i] for i in places))

    def read(self) -> Array:
        """(n,V,3) float64 mm. Raises StoreError where the store is not there, or another one."""
        store = _opened(self.store)
        if store.version != self.version:
            raise StoreError(
                f"{self.store}: of version {store.version}, expected {self.version}: another was "
                "published meanwhile; run it again"
            )
        counts = np.array([len(rows) for rows in self.rows])
        heads: Array = store.read_rows(self.field, np.concatenate(self.rows)).astype(np.float64)
        if (counts == 1).all():
            return heads
        starts = np.cumsum(counts) - counts
        return np.asarray(np.add.reduceat(heads, starts) / counts[:, None, None])

    def blocks(self, size: int) -> Iterator[tuple[slice, Array]]:
        """Places of people, and their heads, so many at a time."""
        for start in range(0, len(self), size):
            places = slice(start, min(start + size, len(self)))
            yield places, self.some(places).read()


@lru_cache(maxsize=2)
def _opened(store: str) -> Store:
    return open_store(store)


@dataclass(frozen=True, eq=False)
class People:
    """Whom a model is made of, and whom not."""

    used: tuple[str, ...]
    heads: Heads
    held_out: tuple[str, ...]
    """Of other splits: the model never sees them, and is tried on them."""
    held_out_heads: Heads
    left_out: Mapping[str, tuple[str, ...]]
    """Reason -> the people."""
    licences: tuple[Mapping[str, Any], ...]
    """Of the scans that the heads are made of: licence, sources, people, scans, and whether it
    allows commercial use and redistribution."""
    expected_error_mm: float | None
    """Root mean square over people and vertices; None where the store does not say."""


def people_of(path: str, store: Store, split: str, where: str = "") -> People:
    """The people of a split, of whom a scan fits `where` (see `store.query`).

    Left out, and named, are people who are held back for a benchmark, whose head was made with a
    scan of no true size, or of no usable scan. Raises StoreError for a question or split that no
    scan fits.
    """
    if split.endswith(NON_METRIC):
        raise StoreError(
            f"--split {split}: its scans have no true size, which is part of a head's shape; name "
            f"{split.removesuffix(NON_METRIC)}"
        )
    columns = Columns(store, SCAN)
    fits = np.zeros(store.n_rows, bool)
    fits[matching_rows(columns, SCAN, None, where)] = True
    matching_rows(columns, SCAN, split, where)  # says which splits there are
    names, person = _persons(store)
    reasons = _reasons(store, names, person, fits, split)
    used = np.flatnonzero(reasons == "")
    held_out = np.flatnonzero(np.char.startswith(reasons, IN_SPLIT))
    left_out: dict[str, list[str]] = defaultdict(list)
    for place in np.flatnonzero(reasons != ""):
        left_out[str(reasons[place])].append(names[place])
    folder = path if is_url(path) else str(store.path)
    return People(
        tuple(names[i] for i in used),
        _heads(folder, store, person, fits, used),
        tuple(names[i] for i in held_out),
        _heads(folder, store, person, fits, held_out),
        {reason: tuple(found) for reason, found in sorted(left_out.items())},
        _licences(store, np.isin(person, used), person),
        _expected_error(store, used),
    )


def _persons(store: Store) -> tuple[list[str], Array]:
    """Names of people, and (n_rows,) the place of each scan's among them."""
    if store.form.identities:
        return store.table("identities")["identity"].to_pylist(), store.identity_row
    codes, names = coded(store.columns("identity")["identity"])
    return [str(name) for name in names], np.asarray(codes)


def _reasons(store: Store, names: list[str], person: Array, fits: Array, split: str) -> Array:
    """(people,) text: why each is left out, "" of those who are used."""
    codes, splits = coded(store.columns("split")["split"])
    reasons = np.full(len(names), NOT_ASKED, dtype="<U200")
    for code, name in enumerate(splits):
        own = np.unique(person[fits & (codes == code)])
        metric = not name.endswith(NON_METRIC)
        if name == split or metric:
            reasons[own] = "" if name == split else f"{IN_SPLIT}{name}"
    reasons[_some(person, len(names), _without_size(store))] = WITHOUT_SIZE
    # whoever a benchmark tests on may still be among those that a model is tried on
    reasons[_held_back(store, person, len(names)) & (reasons == "")] = HELD_BACK
    if store.form.identities:
        scans = store.read_identities("identity_scans", slice(None))
        reasons[scans == 0] = NO_SCAN
    return reasons


def _some(person: Array, n: int, rows: Array) -> Array:
    """(n,) bool: people who have one of the rows."""
    found = np.zeros(n, bool)
    found[person[rows]] = True
    return found


def _without_size(store: Store) -> Array:
    codes, splits = coded(store.columns("split")["split"])
    without = np.isin(codes, [i for i, s in enumerate(splits) if s.endswith(NON_METRIC)])
    return without | ~_column(store, "metric", True)


def _held_back(store: Store, person: Array, n: int) -> Array:
    """(n,) bool: a benchmark tests on them, or perhaps does."""
    held = np.zeros(n, bool)
    if "benchmark" in store.column_names:
        codes, names = coded(store.columns("benchmark")["benchmark"])
        held = _some(person, n, np.isin(codes, [i for i, name in enumerate(names) if name]))
    table = store.table("identities")
    if "held_back" in table.column_names:
        who = set(table.filter(pc.is_valid(table["held_back"]))["identity"].to_pylist())
        codes, names = coded(store.columns("identity")["identity"])
        held |= _some(person, n, np.isin(codes, [i for i, x in enumerate(names) if x in who]))
    return held


def _column(store: Store, name: str, unknown: bool) -> Array:
    """(n_rows,) bool; `unknown` where a row, or the whole store, does not say."""
    if name not in store.column_names:
        return np.full(store.n_rows, unknown)
    return np.asarray(pc.fill_null(store.columns(name)[name], unknown).to_numpy())


def _heads(path: str, store: Store, person: Array, fits: Array, who: Array) -> Heads:
    """Of people by their places. A label is of all of a person's scans; without labels it is the
    mean of those scans that fit."""
    if store.form.identities:
        return Heads(path, store.version, OF_PEOPLE, tuple(who[:, None]))
    rows = np.flatnonzero(fits)
    rows = rows[np.argsort(person[rows], kind="stable")]
    first = np.searchsorted(person[rows], who)
    last = np.searchsorted(person[rows], who, side="right")
    own = tuple(rows[a:b] for a, b in zip(first, last, strict=True))
    return Heads(path, store.version, OF_SCANS, own)


def _licences(store: Store, rows: Array, person: Array) -> tuple[Mapping[str, Any], ...]:
    """What is not stated is not allowed."""
    codes, names = coded(store.columns("licence")["licence"])
    uses = {name: _column(store, name, False) for name in ("commercial", "redistribution")}
    of, sources = coded(store.columns("source")["source"])
    found = []
    for code in np.unique(codes[rows]):
        own = rows & (codes == code)
        found.append(
            {
                "licence": (names[code] if code >= 0 else "") or UNSAID,
                "sources": sorted(sources[i] for i in np.unique(of[own])),
                "people": len(np.unique(person[own])),
                "scans": int(own.sum()),
                **{name: bool(allowed[own].all()) for name, allowed in uses.items()},
            }
        )
    return tuple(
        sorted(found, key=lambda one: (one["commercial"], one["redistribution"], one["licence"]))
    )


def _expected_error(store: Store, who: Array) -> float | None:
    if not store.form.identities or not len(who):
        return None
    squares = 0.0
    for start in range(0, len(who), 1024):
        error = store.read_identities("identity_expected_error_mm", who[start : start + 1024])
        squares += float(np.square(error, dtype=np.float64).mean(1).sum())
    return float(np.sqrt(squares / len(who)))
