"""What a loader asks of an order, and what orders have in common."""

from __future__ import annotations

from dataclasses import Field
from typing import Any, ClassVar, Protocol

from pipeline.loaders.checks import exactly
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


class Exact:
    """A dataclass whose `repr` is equal for equal parameters, and short: arrays are digests."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __repr__(self) -> str:
        held = (f"{name}={exactly(getattr(self, name))}" for name in self.__dataclass_fields__)
        return f"{type(self).__name__}({', '.join(held)})"
