"""In which order an epoch shows the samples: functions of (seed, epoch, position), nothing else.

Any rank, worker or resumed run that asks for the same positions gets the same samples, so an order
needs no state but a position. Every order answers `size(epoch)` and `at(epoch, positions)`;
`group` positions in a row belong together and are never parted between batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.loaders.shuffle import draws, permuted
from pipeline.types import Array


class Order(Protocol):
    """What a loader asks of an order."""

    @property
    def group(self) -> int:
        """A batch holds a multiple of so many samples."""
        ...

    def size(self, epoch: int) -> int:
        """Positions of an epoch."""
        ...

    def at(self, epoch: int, positions: Array) -> Array:
        """(N,) int64 in 0 … size(epoch) - 1 -> (N,) samples of the dataset."""
        ...


@dataclass(frozen=True)
class InOrder:
    """As the dataset has them, once each."""

    n: int
    group = 1

    def size(self, epoch: int) -> int:
        return self.n

    def at(self, epoch: int, positions: Array) -> Array:
        return np.asarray(positions, np.int64)


@dataclass(frozen=True)
class Shuffled:
    """All samples, once each."""

    n: int
    seed: int = 0
    group = 1

    def size(self, epoch: int) -> int:
        return self.n

    def at(self, epoch: int, positions: Array) -> Array:
        return permuted(positions, self.n, (self.seed, epoch))


@dataclass(frozen=True)
class BlockShuffled:
    """All samples, once each, read in blocks of neighbours: for cold disks and object stores.

    Blocks of `block` rows are shuffled; samples are shuffled among `blocks` blocks at a time.
    """

    n: int
    seed: int = 0
    block: int = 64
    blocks: int = 64
    group = 1

    def size(self, epoch: int) -> int:
        return self.n

    def at(self, epoch: int, positions: Array) -> Array:
        positions = np.asarray(positions, np.int64)
        whole = self.n // self.block
        # the rows that fill no block: others each epoch, for all rows are shifted round
        shift = int(draws((self.seed, epoch, 1), np.zeros(1))[0] % np.uint64(self.n))
        result = positions.copy()
        window = positions // (self.block * self.blocks)
        for one in np.unique(window):
            first = int(one) * self.blocks
            held = min(self.blocks, whole - first)
            here = (window == one) & (positions < whole * self.block)
            if held <= 0 or not here.any():
                continue
            within = positions[here] - first * self.block
            within = permuted(within, held * self.block, (self.seed, epoch, 2, int(one)))
            block = permuted(first + within // self.block, whole, (self.seed, epoch, 3))
            result[here] = block * self.block + within % self.block
        return (result + shift) % self.n


@dataclass(frozen=True, eq=False)
class Mixed:
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


class _Groups:
    """Samples sorted by a key: `rows` (n,), and of each group its start and size in them."""

    def __init__(self, codes: Array) -> None:
        self.rows = np.argsort(codes, kind="stable")
        ordered = codes[self.rows]
        self.start = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self.size = np.diff(np.r_[self.start, len(codes)])


@dataclass(frozen=True, eq=False)
class Identities:
    """P identities times K scans: K of one person's scans in a row, each person once an epoch.

    `codes` (n,) is each sample's identity. A batch of P·K holds P different people, and further
    epochs show a person's other scans. People of fewer than `k` scans are left out
    (`fewer="drop"`), or their scans are repeated (`fewer="repeat"`).
    """

    codes: Array
    k: int
    seed: int = 0
    fewer: Literal["drop", "repeat"] = "drop"

    def __post_init__(self) -> None:
        if self.k < 1 or not len(self._people):
            raise FacefoldError(
                f"k {self.k}: expected at least 1 and an identity of so many scans; the largest "
                f'has {self._groups.size.max(initial=0)}; ask for fewer, or say fewer="repeat"'
            )

    @property
    def group(self) -> int:
        return self.k

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
        return self._groups.rows[self._groups.start[person][of] + place % size[of]]

    @cached_property
    def _groups(self) -> _Groups:
        return _Groups(self.codes)

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


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two scans of one person in a row that differ in `differ`: every sample leads once an epoch.

    `same` (n,) and `differ` (n,) are codes: of the identity, or of identity and session; of the
    expression, or of the frame. Samples without such a partner do not lead.
    """

    same: Array
    differ: Array
    seed: int = 0
    group = 2

    def __post_init__(self) -> None:
        if not len(self._leaders):
            raise FacefoldError("no two samples of a person differ in what was asked for")

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
        return np.lexsort([self.differ, self.same])

    @cached_property
    def _runs(self) -> tuple[Array, Array, Array, Array]:
        """For each place in `_rows`: its person's start and size, its run's end and length."""
        same, differ = self.same[self._rows], self.differ[self._rows]
        new_person = np.flatnonzero(np.r_[True, same[1:] != same[:-1]])
        new_run = np.flatnonzero(np.r_[True, (same[1:] != same[:-1]) | (differ[1:] != differ[:-1])])
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


@dataclass(frozen=True, eq=False)
class Curriculum:
    """The best samples first: epoch e shuffles the best share of them, all from `epochs` on.

    `scores` (n,), the less the better, such as `scan_to_mesh_median_mm`; NaN comes last. The share
    grows evenly from `first`.
    """

    scores: Array
    first: float = 0.3
    epochs: int = 10
    seed: int = 0
    group = 1

    def size(self, epoch: int) -> int:
        share = self.first + (1 - self.first) * min(1.0, epoch / max(self.epochs, 1))
        return max(1, round(share * len(self.scores)))

    def at(self, epoch: int, positions: Array) -> Array:
        return self._best[permuted(positions, self.size(epoch), (self.seed, epoch))]

    @cached_property
    def _best(self) -> Array:
        return np.argsort(self.scores, kind="stable")
