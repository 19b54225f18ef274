"""What a loader is given: a dataset, an order, and its place among the ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.errors import FacefoldError
from pipeline.loaders.checks import whole
from pipeline.loaders.dataset import FaceDataset
from pipeline.loaders.orders import Order, Shuffled


def face_dataset(dataset: Any) -> FaceDataset:
    if isinstance(dataset, FaceDataset):
        return dataset
    raise FacefoldError(
        f"FaceLoader reads a FaceDataset, got {type(dataset).__name__}; choose its samples by "
        'FaceDataset(split=…, where={"scan_id": […]}), several sources by pipeline.loaders.mixed'
    )


def order_for(n: int, order: Any, seed: int) -> Order:
    """The order given, else all `n` samples shuffled by `seed`."""
    if order is None:
        return Shuffled(n, seed)
    if isinstance(order, type) or not all(hasattr(order, name) for name in ("group", "size", "at")):
        raise FacefoldError(
            f"order: got {order!r}, expected one of pipeline.loaders.orders, or an object with "
            "group, size(epoch) and at(epoch, positions)"
        )
    if seed:
        raise FacefoldError(f"seed {seed} beside an order, which has its own: give it to the order")
    if (made_for := getattr(order, "n", n)) != n:
        raise FacefoldError(
            f"{order!r} is for {made_for} samples, the dataset has {n}: make it for this dataset"
        )
    result: Order = order
    return result


def seed_of(order: Order) -> int:
    """An order's own seed; 0 if it has none that is one."""
    seed = getattr(order, "seed", 0)
    return int(seed) if isinstance(seed, (int, np.integer)) and seed >= 0 else 0


def in_a_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank_and_world(rank: int | None, world: int | None) -> tuple[int, int]:
    """As given; what is None as in the process group, or one rank where there is none."""
    if in_a_group():
        rank = torch.distributed.get_rank() if rank is None else rank
        world = torch.distributed.get_world_size() if world is None else world
    rank = 0 if rank is None else whole("rank", rank)
    world = 1 if world is None else whole("world", world, 1)
    if not rank < world:
        raise FacefoldError(f"rank {rank} of {world}: expected 0 … {world - 1}")
    return rank, world
