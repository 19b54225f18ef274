"""Buffers that are used again once nothing refers to what was lent of them."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pipeline.types import Array

Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape and type of one sample's arrays, by field."""


class Ring:
    """As many buffers of `batch_size` samples as are in use at a time; for one thread.

    The first free one is lent, not the next: the fewer are in use, the better they fit the cache.
    `pin` makes them page-locked, for copies to a GPU that do not wait.
    """

    def __init__(self, shapes: Shapes, batch_size: int, pin: bool = False) -> None:
        self.shapes, self.batch_size, self.pin = shapes, batch_size, pin
        self._slots: list[tuple[dict[str, Array], list[weakref.ref[Array]]]] = []

    def lend(self, n: int) -> dict[str, Array]:
        """Arrays (n, *shape) by field, free to write to.

        A tensor made of one, and whatever shares its storage, keeps the buffer from being lent.
        """
        buffers, lent = self._free()
        views = {name: array[:n] for name, array in buffers.items()}
        lent[:] = map(weakref.ref, views.values())
        return views

    def _free(self) -> tuple[dict[str, Array], list[weakref.ref[Array]]]:
        for slot in self._slots:
            if not any(view() is not None for view in slot[1]):
                return slot
        self._slots.append(({name: self._made(*kind) for name, kind in self.shapes.items()}, []))
        return self._slots[-1]

    def _made(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty((self.batch_size, *shape), dtype=kind, pin_memory=self.pin).numpy()
