"""The nearest of many points: a k-d tree on the CPU, a grid of cells on other devices.

Both are exact. The grid is plain torch, so it runs on the CPU too.
"""

from __future__ import annotations

from typing import Protocol

import torch
from scipy.spatial import cKDTree
from torch import Tensor

CELL_SPACINGS = 1.25
"""Side of the finest cells in mean distances of the points, were they spread over their box."""
COARSER, LEVELS = 4.0, 3
"""Each level's cells are this much larger; what the last cannot answer is compared with all."""
MAX_CELLS = 500
"""Of the finest along an axis: float32 tells cells apart to a ten thousandth of their side."""
PAIRS = 2**24
"""Distances held at once, some 40 bytes each."""


class Nearest(Protocol):
    """Finds the nearest of (M,3) points, M ≥ 1."""

    def __call__(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """(N,3) -> distances (N,) in the queries' type, indices (N,) int64."""
        ...


def nearest_among(points: Tensor, grid: bool | None = None) -> Nearest:
    """Searches points (M,3) on their device, which decides how unless `grid` says so."""
    grid = points.device.type != "cpu" if grid is None else grid
    return CellGrid(points) if grid else KdTree(points)


class KdTree:
    """Bentley's k-d tree (1975), on the CPU. Raises ValueError for queries that are not finite."""

    def __init__(self, points: Tensor) -> None:
        # boxes split in the middle and larger leaves: built in half the time, searched as fast
        self.tree = cKDTree(points.numpy(), leafsize=32, balanced_tree=False)

    def __call__(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        distance, index = self.tree.query(queries.numpy())
        return torch.from_numpy(distance).to(queries.dtype), torch.from_numpy(index)


class CellGrid:
    """Points sorted by cell, float32; each query looks at the 27 cells around it.

    A point found within a cell's side is the nearest, for the points of other cells are further
    away. Where there is none, larger cells are searched, at last all points. Empty cells take no
    memory. The distance of a query that is not finite is not finite.
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points.float()
        corner = self.points.amin(0)
        extent = self.points.amax(0) - corner
        area = 2 * (extent * extent.roll(1)).sum()
        least = (extent.amax() / MAX_CELLS).clamp_min(1e-6)
        side = torch.maximum(CELL_SPACINGS * (area / len(points)).sqrt(), least)
        self.levels = [
            _Cells(self.points, corner, extent, side * COARSER**level) for level in range(LEVELS)
        ]

    def __call__(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        asked = queries.float()
        square = torch.full_like(asked[:, 0], torch.inf)
        index = torch.zeros(len(asked), dtype=torch.int64, device=asked.device)
        rows = torch.arange(len(asked), device=asked.device)
        for cells in self.levels:
            if len(rows) == 0:
                break
            square[rows], index[rows] = cells.nearest(asked[rows])
            # rounding may put a point one cell aside that lies a side away
            rows = rows[~(square[rows] < 0.998 * cells.side**2)]
        for part in torch.split(rows, max(1, PAIRS // len(self.points))):
            gap = (asked[part, None] - self.points).square().sum(-1)
            square[part], index[part] = gap.min(1)
        return square.sqrt().to(queries.dtype), index


class _Cells:
    """Cubes of one size. Cell (i,j,k) has key (i J + j) K + k, so three along k are one range."""

    def __init__(self, points: Tensor, corner: Tensor, extent: Tensor, side: Tensor) -> None:
        self.corner, self.side = corner, side
        # two empty cells all around: neighbours of a query just outside wrap into no other row
        self.shape = (extent / side).floor().long() + 5
        self.stride = torch.stack([self.shape[1] * self.shape[2], self.shape[2]])
        self.keys, self.order = torch.sort(self._keys(self._cell(points)), stable=True)
        self.points = points[self.order]
        step = torch.arange(-1, 2, device=points.device)
        self.rows = (step[:, None] * self.stride[0] + step * self.stride[1]).reshape(-1)

    def _cell(self, points: Tensor) -> Tensor:
        """(N,3) -> (N,3) int64; all that is outside goes to the empty cells around."""
        cell = torch.nan_to_num((points - self.corner) / self.side, nan=-1.0).floor() + 2
        return torch.minimum(cell.clamp(1, 2**40).long(), self.shape - 2)

    def _keys(self, cell: Tensor) -> Tensor:
        return cell[:, 0] * self.stride[0] + cell[:, 1] * self.stride[1] + cell[:, 2]

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """(N,3) -> the least square of a distance (N,), inf where no point is around; indices."""
        middle = self._keys(self._cell(queries))[:, None] + self.rows
        start = torch.searchsorted(self.keys, middle - 1)
        count = torch.searchsorted(self.keys, middle + 1, right=True) - start
        step = max(1, PAIRS // max(1, int(count.sum(1).max())))
        found = [
            self._least(*part)
            for part in zip(*(torch.split(x, step) for x in (queries, start, count)), strict=True)
        ]
        return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])

    def _least(self, queries: Tensor, start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        owner, at = ranges(start.reshape(-1), count.reshape(-1))
        owner = owner // len(self.rows)
        square = (queries[owner] - self.points[at]).square().sum(-1)
        least, first = least_of_each(square, owner, len(queries))
        index = torch.cat([self.order[at], self.order[:1]])  # the last where there is none
        return least, index[first]


def ranges(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """start (N,), count (N,) -> which range (P,) and which value (P,), all ranges in turn."""
    owner = torch.repeat_interleave(count)
    before = torch.cumsum(count, 0) - count
    return owner, torch.arange(len(owner), device=count.device) + (start - before)[owner]


def least_of_each(values: Tensor, owner: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """values (P,) of owners (P,) < n -> the least (n,) and its first place; inf and P for none."""
    least = torch.full((n,), torch.inf, dtype=values.dtype, device=values.device)
    least.scatter_reduce_(0, owner, values, "amin")
    place = torch.arange(len(values), device=values.device)
    # not "equal": NaN, the least wherever it appears, is found too
    place = torch.where(values > least[owner], len(values), place)
    first = torch.full((n,), len(values), device=values.device)
    return least, first.scatter_reduce_(0, owner, place, "amin")
