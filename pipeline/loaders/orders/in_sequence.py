"""An order of frames: several of one sequence, in the order of their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.loaders.checks import class_codes, whole
from pipeline.loaders.groups import Groups
from pipeline.loaders.orders.protocol import Exact
from pipeline.loaders.permutation import draws, permuted
from pipeline.types import Array


@dataclass(frozen=True, eq=False, repr=False)
class Sequences(Exact):
    """`n` frames of one sequence in a row, in their order, every `step`-th one.

    `codes` (N,) is each sample's sequence, negative if unknown; `frames` (N,) its number in it, NaN
    or negative if unknown: those are left out. An epoch shows each frame at most once; which frames
    at the ends of a sequence fill no run of `n` differs by epoch. What counts are the frames there
    are: a missing number is no gap. Sequences of fewer than `n` times `step` frames are left out.
    """

    codes: Array
    frames: Array
    n_frames: int
    step: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        class_codes("codes", self.codes), class_codes("frames", self.frames)
        whole("n_frames", self.n_frames, 1), whole("step", self.step, 1), whole("seed", self.seed)
        if len(self.codes) != len(self.frames):
            raise FacefoldError(
                f"codes has {len(self.codes)} values, frames {len(self.frames)}: expected one a "
                "sample"
            )
        rows, frames = self._all.rows, np.asarray(self.frames)
        same = (np.diff(self.codes[rows]) == 0) & (np.diff(frames[rows]) == 0)
        if same.any():
            raise FacefoldError(
                f"{same.sum()} samples have the frame of another one of their sequence, such as "
                f"{frames[rows][1:][same][0]:g}: name in `same` what tells the sequences apart, "
                'such as "expression", or "view"'
            )
        if not len(self._long.code):
            raise FacefoldError(
                f"{self.n_frames} frames, every {self.step}-th one: expected a sequence of "
                f"{self._block} frames; the longest has {self._all.size.max(initial=0)}"
            )

    @property
    def group(self) -> int:
        return self.n_frames

    @property
    def n(self) -> int:
        return len(self.codes)

    @property
    def left_out(self) -> int:
        """Samples of sequences that are too short, and of unknown sequence or frame."""
        return self.n - int(self._long.size.sum())

    def size(self, epoch: int) -> int:
        return int(self._ends[-1]) * self.n_frames

    def at(self, epoch: int, positions: Array) -> Array:
        turn, which = np.divmod(np.asarray(positions, np.int64), self.n_frames)
        run = permuted(turn, int(self._ends[-1]), (self.seed, epoch))
        sequence = np.searchsorted(self._ends, run, side="right")
        size = self._long.size[sequence]
        # blocks of n·step frames hold `step` interleaved runs; what is left over lies at both ends
        spare = (size % self._block + 1).astype(np.uint64)
        first = (draws((self.seed, epoch, 1), sequence) % spare).astype(np.int64)
        within = run - (self._ends[sequence] - size // self._block * self.step)
        block, phase = np.divmod(within, self.step)
        place = first + block * self._block + phase + which * self.step
        rows: Array = self._long.rows[self._long.start[sequence] + place]
        return rows

    @property
    def _block(self) -> int:
        return self.n_frames * self.step

    @cached_property
    def _all(self) -> Groups:
        frames = np.asarray(self.frames)
        in_order = np.argsort(frames, kind="stable")
        known = in_order[frames[in_order] >= 0]  # which NaN is not
        found = Groups.of(np.asarray(self.codes)[known])
        return Groups(known[found.rows], found.code, found.start, found.size)

    @cached_property
    def _long(self) -> Groups:
        return self._all.of_at_least(self._block)

    @cached_property
    def _ends(self) -> Array:
        """(sequences,) where the runs of each end among those of all."""
        return np.cumsum(self._long.size // self._block * self.step)
