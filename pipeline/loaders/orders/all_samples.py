"""Orders that show every sample once an epoch, and the one that leads up to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.loaders.checks import number, whole
from pipeline.loaders.orders.protocol import Exact
from pipeline.loaders.permutation import draws, permuted
from pipeline.types import Array


@dataclass(frozen=True, repr=False)
class InOrder(Exact):
    """As the dataset has them, once each."""

    n: int
    group = 1

    def __post_init__(self) -> None:
        whole("n", self.n, 1)

    def size(self, epoch: int) -> int:
        return self.n

    def at(self, epoch: int, positions: Array) -> Array:
        return np.asarray(positions, np.int64)


@dataclass(frozen=True, repr=False)
class Shuffled(Exact):
    """All samples, once each."""

    n: int
    seed: int = 0
    group = 1

    def __post_init__(self) -> None:
        whole("n", self.n, 1), whole("seed", self.seed)

    def size(self, epoch: int) -> int:
        return self.n

    def at(self, epoch: int, positions: Array) -> Array:
        return permuted(positions, self.n, (self.seed, epoch))


@dataclass(frozen=True, repr=False)
class BlockShuffled(Exact):
    """All samples, once each, read in blocks of neighbours: for cold disks and object stores.

    Blocks of `block` rows are shuffled; samples are shuffled among `blocks` blocks at a time.
    """

    n: int
    seed: int = 0
    block: int = 64
    blocks: int = 64
    group = 1

    def __post_init__(self) -> None:
        whole("n", self.n, 1), whole("seed", self.seed)
        whole("block", self.block, 1), whole("blocks", self.blocks, 1)

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


@dataclass(frozen=True, eq=False, repr=False)
class Curriculum(Exact):
    """The best samples first: epoch e shuffles the best share of them, all from `epochs` on.

    `scores` (n,), the less the better, such as `scan_to_mesh_median_mm`; NaN comes last. The share
    grows evenly from `first`.
    """

    scores: Array
    first: float = 0.3
    epochs: int = 10
    seed: int = 0
    group = 1

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores)
        if scores.ndim != 1 or not scores.size or scores.dtype.kind not in "iuf":
            raise FacefoldError(
                f"scores: got {scores.dtype} {scores.shape}, expected one number a sample"
            )
        number("first", self.first, 0, 1), whole("epochs", self.epochs), whole("seed", self.seed)

    @property
    def n(self) -> int:
        return len(self.scores)

    def size(self, epoch: int) -> int:
        share = self.first + (1 - self.first) * min(1.0, epoch / max(self.epochs, 1))
        return max(1, round(share * len(self.scores)))

    def at(self, epoch: int, positions: Array) -> Array:
        return self._best[permuted(positions, self.size(epoch), (self.seed, epoch))]

    @cached_property
    def _best(self) -> Array:
        return np.argsort(self.scores, kind="stable")
