"""Batches of an epoch's steps, gathered by threads into buffers that are used again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.errors import FacefoldError
from pipeline.loaders.checks import whole
from pipeline.loaders.dataset import FaceDataset, Sample
from pipeline.loaders.epoch_plan import Draws, Steps
from pipeline.loaders.reading import Reading
from pipeline.loaders.ring import Ring
from pipeline.loaders.transforms import Draw, Transform


class Gathering:
    """How the batches of a loader are read: see `FaceLoader`."""

    def __init__(
        self,
        dataset: FaceDataset,
        batch_size: int,
        threads: int,
        ahead: int,
        pin: bool,
        transform: Transform | None,
    ) -> None:
        self.dataset, self.batch_size, self.pin = dataset, batch_size, pin
        self.threads, self.ahead = whole("threads", threads), whole("ahead", ahead, 1)
        if transform is not None and not callable(transform):
            raise FacefoldError(f"transform: got {transform!r}, expected a function")
        self.transform = transform
        self._rings: list[Ring] = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rings": []}

    def batches(
        self, steps: Steps, epoch: int, starts: range
    ) -> Iterator[tuple[int, list[Sample]]]:
        """First position and batch of each step.

        The batch is in a list to be popped from, for no frame may hold it while the next is read:
        the ring would have to lend one buffer more, and what does not fit the cache is gathered a
        third more slowly.
        """
        # an iteration has its rings for itself, and leaves them to the next one, each to the same
        # reader: the caller's has the fewest buffers
        readers = range(self.threads + 1)
        rings = [self._rings.pop(0) if self._rings else self._ring() for _ in readers]
        draws = Draws(steps, epoch, starts)

        def read(i: int, reader: int) -> Sample:
            return self._batch(draws[i], rings[reader])

        reading = Reading(read, len(starts), self.threads, self.ahead)
        try:
            for i, first in enumerate(starts):
                yield first, [reading.batch(i)]
        finally:
            reading.close()
            self._rings += rings

    def _ring(self) -> Ring:
        shapes = self.dataset.array_shapes()
        if not self.pin:
            for name in self.dataset.unpacked:  # which makes memory of its own: spare the copy
                del shapes[name]
        return Ring(shapes, self.batch_size, self.pin)

    def _batch(self, draw: Draw, ring: Ring) -> Sample:
        batch = self.dataset.gather(draw.samples, ring.lend(len(draw.samples)), draw.views)
        return batch if self.transform is None else self.transform(batch, draw)
