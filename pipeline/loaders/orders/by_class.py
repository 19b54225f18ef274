"""Orders by what samples have in common: a source, a person, an expression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.loaders.checks import class_codes, number, whole
from pipeline.loaders.groups import Groups
from pipeline.loaders.orders.protocol import Exact
from pipeline.loaders.permutation import draws, permuted
from pipeline.types import Array


@dataclass(frozen=True, eq=False, repr=False)
class Mixed(Exact):
    """Classes of samples in given shares, each class shuffled, and begun again when through.

    `codes` (n,) is each sample's class, `shares` what a class gets of the `length` samples of an
    epoch. Every ROUND positions hold the shares to within one sample.
    """

    codes: Array
    shares: Mapping[int, float]
    length: int
    seed: int = 0
    group = 1
    ROUND = 4096

    def __post_init__(self) -> None:
        class_codes("codes", self.codes)
        whole("length", self.length, 1), whole("seed", self.seed)
        for share in self.shares.values():
            number("shares", share, -math.inf)
        empty = [c for c, rows in zip(self.shares, self._members, strict=True) if not len(rows)]
        if empty or min(self.shares.values(), default=0) <= 0:
            raise FacefoldError(
                f"shares {dict(self.shares)}: expected positive numbers of classes that have "
                f"samples; classes {empty} have none"
            )
        if (never := np.diff(self._ends, prepend=0) == 0).any():
            raise FacefoldError(
                f"{never.sum()} of {len(never)} classes would never be shown: a share must be more "
                f"than one in {self.ROUND}; ask for fewer classes"
            )

    def size(self, epoch: int) -> int:
        return self.length

    def at(self, epoch: int, positions: Array) -> Array:
        # epochs follow each other without a gap, so that no class begins anew with each
        place = np.asarray(positions, np.int64) + epoch * self.length
        turn, within = np.divmod(place, self.ROUND)
        slot = np.empty_like(within)
        for one in np.unique(turn):
            here = turn == one
            slot[here] = permuted(within[here], self.ROUND, (self.seed, 1, int(one)))
        kind = np.searchsorted(self._ends, slot, side="right")
        counts = np.diff(self._ends, prepend=0)[kind]
        drawn = turn * counts + slot - (self._ends[kind] - counts)
        result = np.empty_like(place)
        for k in np.unique(kind):
            rows = self._members[k]
            passes, left = np.divmod(drawn, len(rows))
            for one in np.unique(passes[kind == k]):
                here = (kind == k) & (passes == one)
                key = (self.seed, 2, int(k), int(one))
                result[here] = rows[permuted(left[here], len(rows), key)]
        return result

    @property
    def n(self) -> int:
        return len(self.codes)

    @cached_property
    def _members(self) -> list[Array]:
        return [np.flatnonzero(self.codes == code) for code in self.shares]

    @cached_property
    def _ends(self) -> Array:
        """(classes,) where each class ends among ROUND slots, by largest remainders."""
        wanted = np.array(list(self.shares.values()), np.float64)
        wanted *= self.ROUND / wanted.sum()
        counts = np.floor(wanted).astype(np.int64)
        counts[np.argsort(counts - wanted, kind="stable")[: self.ROUND - counts.sum()]] += 1
        return np.cumsum(counts)


@dataclass(frozen=True, eq=False, repr=False)
class Identities(Exact):
    """P identities times K scans: K of one person's scans in a row, each person once an epoch.

    `codes` (n,) is each sample's identity, negative if unknown: those are left out. A batch of P·K
    holds P different people, and further epochs show a person's other scans. People of fewer than
    `k` scans are left out (`fewer="drop"`), or their scans are repeated (`fewer="repeat"`).
    """

    codes: Array
    k: int
    seed: int = 0
    fewer: Literal["drop", "repeat"] = "drop"

    def __post_init__(self) -> None:
        class_codes("codes", self.codes)
        whole("k", self.k, 1), whole("seed", self.seed)
        if self.fewer not in ("drop", "repeat"):
            raise FacefoldError(f'fewer: got {self.fewer!r}, expected "drop" or "repeat"')
        if not len(self._people):
            raise FacefoldError(
                f"k {self.k}: expected an identity of so many scans; the largest "
                f'has {self._groups.size.max(initial=0)}; ask for fewer, or say fewer="repeat"'
            )

    @property
    def group(self) -> int:
        return self.k

    @property
    def n(self) -> int:
        return len(self.codes)

    def size(self, epoch: int) -> int:
        return len(self._people) * self.k

    def at(self, epoch: int, positions: Array) -> Array:
        turn, which = np.divmod(np.asarray(positions, np.int64), self.k)
        begins = np.diff(turn, prepend=-1) != 0  # a person's scans follow each other: look up once
        person = self._people[permuted(turn[begins], len(self._people), (self.seed, epoch))]
        size = self._groups.size[person]
        step = _coprime(draws((self.seed, 2), person), size)
        start = (draws((self.seed, 1), person) % size.astype(np.uint64)).astype(np.int64)
        of = np.cumsum(begins) - 1
        # neighbours on a circle of the person's own: K different scans wherever there are so many
        place = start[of] + (which + epoch * self.k) % size[of] * step[of]
        rows: Array = self._groups.rows[self._groups.start[person][of] + place % size[of]]
        return rows

    @cached_property
    def _groups(self) -> Groups:
        return Groups.of(self.codes)

    @cached_property
    def _people(self) -> Array:
        least = self.k if self.fewer == "drop" else 1
        return np.flatnonzero(self._groups.size >= least)


def _coprime(drawn: Array, sizes: Array) -> Array:
    """(N,) uint64, (N,) sizes -> (N,) int64 steps that visit all of a circle of that size."""
    steps = (drawn % sizes.astype(np.uint64)).astype(np.int64)
    while (shared := np.gcd(steps, sizes) > 1).any():
        steps[shared] = (steps[shared] + 1) % sizes[shared]
    return steps


@dataclass(frozen=True, eq=False, repr=False)
class Pairs(Exact):
    """Two scans of one person in a row that differ in `differ`: every sample leads once an epoch.

    `same` (n,) and `differ` (n,) are codes: of the identity, or of identity and session; of the
    expression, or of the frame. A negative code is unknown: what is not known does not differ, and
    is left out. Samples without a partner do not lead.
    """

    same: Array
    differ: Array
    seed: int = 0
    group = 2

    def __post_init__(self) -> None:
        class_codes("same", self.same), class_codes("differ", self.differ)
        whole("seed", self.seed)
        if len(self.same) != len(self.differ):
            raise FacefoldError(
                f"same has {len(self.same)} codes, differ {len(self.differ)}: expected one a sample"
            )
        if not len(self._leaders):
            unknown = int((self.differ < 0).sum())
            raise FacefoldError(
                "no two samples of a person differ, as far as is known, in what was asked for; of "
                f"{len(self.differ)} samples {unknown} are unknown"
            )

    @property
    def n(self) -> int:
        return len(self.same)

    def size(self, epoch: int) -> int:
        return 2 * len(self._leaders)

    def at(self, epoch: int, positions: Array) -> Array:
        turn, second = np.divmod(np.asarray(positions, np.int64), 2)
        place = self._leaders[permuted(turn, len(self._leaders), (self.seed, epoch))]
        start, size, run_end, run = (column[place] for column in self._runs)
        # the others lie on the circle of the person's scans, from behind the leader's own run
        step = draws((self.seed, epoch, 1), turn) % (size - run).astype(np.uint64)
        other = start + (run_end - start + step.astype(np.int64)) % size
        return self._rows[np.where(second == 1, other, place)]

    @cached_property
    def _rows(self) -> Array:
        known = np.flatnonzero((self.same >= 0) & (self.differ >= 0))
        return known[np.lexsort([self.differ[known], self.same[known]])]

    @cached_property
    def _runs(self) -> tuple[Array, Array, Array, Array]:
        """For each place in `_rows`: its person's start and size, its run's end and length."""
        same, differ = (codes[self._rows].astype(np.int64) for codes in (self.same, self.differ))
        new_person = np.flatnonzero(np.diff(same, prepend=-1))
        new_run = np.flatnonzero(np.diff(same, prepend=-1) | np.diff(differ, prepend=-1))
        sizes, runs = np.diff(np.r_[new_person, len(same)]), np.diff(np.r_[new_run, len(same)])
        return (
            np.repeat(new_person, sizes),
            np.repeat(sizes, sizes),
            np.repeat(new_run + runs, runs),
            np.repeat(runs, runs),
        )

    @cached_property
    def _leaders(self) -> Array:
        _, size, _, run = self._runs
        return np.flatnonzero(size > run)
