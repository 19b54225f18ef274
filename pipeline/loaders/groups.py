"""Rows that have something in common, and some of each drawn without replacement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.loaders.permutation import draws
from pipeline.types import Array

if TYPE_CHECKING:
    from pipeline.loaders.transforms import Draw


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows by group: those of group g are `rows[start[g] : start[g] + size[g]]`."""

    rows: Array  # (n,) int64
    code: Array  # (G,) int64, ascending
    start: Array  # (G,) int64
    size: Array  # (G,) int64

    @classmethod
    def of(cls, codes: Array) -> Groups:
        """Of each row's code (n,), each group's in ascending order; negative is unknown, and such
        rows are in no group."""
        known = np.flatnonzero(codes >= 0)
        rows = known[np.argsort(codes[known], kind="stable")]
        ordered = codes[rows].astype(np.int64)
        start = np.flatnonzero(np.diff(ordered, prepend=-1))
        return cls(rows, ordered[start], start, np.diff(np.r_[start, len(ordered)]))

    def of_at_least(self, least: int) -> Groups:
        """Those groups alone."""
        kept = np.flatnonzero(self.size >= least)
        return Groups(self.rows, self.code[kept], self.start[kept], self.size[kept])

    def first(self, groups: Array, k: int) -> Array:
        """(B,) groups -> (B,k) rows: each one's first `k`, over again where it has fewer."""
        return self._at(groups, np.arange(k) % self.size[groups][:, None])

    def drawn(self, groups: Array, k: int, draw: Draw, seed: int) -> Array:
        """(B,) groups -> (B,k) rows of each: any `k` different ones are as likely as others.

        A function of the seed and of each sample's epoch and position. Groups of fewer show all of
        theirs, then the same over again.
        """
        size = self.size[groups]
        bits = draws((seed, draw.epoch, k), draw.positions[:, None] * k + np.arange(k))
        chosen = np.zeros((len(groups), k), np.int64)
        for i in range(k):
            # the i-th of those that are left: count past those that are taken, lowest first
            left = np.maximum(size - i, 1).astype(np.uint64)
            place = (bits[:, i] % left).astype(np.int64)
            for taken in np.sort(chosen[:, :i], axis=1).T:
                place += place >= taken
            chosen[:, i] = place
        again = np.arange(k) % size[:, None]
        return self._at(groups, np.take_along_axis(chosen, again, axis=1))

    def _at(self, groups: Array, places: Array) -> Array:
        found: Array = self.rows[self.start[groups][:, None] + places]
        return found
