"""Affine maps, one a vertex, that bring vertices to targets and differ little along edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import bsr_matrix, csc_matrix, csr_matrix, diags, identity, kron
from scipy.sparse.linalg import SuperLU, splu

from pipeline.geometry.mesh import edge_uses
from pipeline.types import Array

RIDGE = 1e-12
"""Of the squared stiffness: makes the maps 0 of a component that no row fixes."""
ACCURACY = 1e-8
"""Of vertices moved by the maps, to the targets' distance from the origin."""
MOST_ITERATIONS = 10
"""With the factor of another system; then a system gets its own."""
TINY = float(np.finfo(np.float64).tiny)


class Rows(NamedTuple):
    """Least-squares rows weight · (x X_i − target), x = [x y z 1], one a vertex at most."""

    vertices: Array  # (R,)
    weights: Array  # (R,)
    targets: Array  # (R,3)


class StiffSystems:
    """The normal equations of Amberg et al. 2007, eq. 12, for one mesh after another time.

    Σ rows² + stiffness² Σ over the edges |parts · (X_i − X_j)|². Systems of equal stiffness
    resemble each other whatever the vertices are by now, so conjugate gradients preconditioned by
    the factor of the first one need few iterations.
    """

    def __init__(self, faces: Array, n_vertices: int) -> None:
        edges = graph_laplacian(faces, n_vertices)
        # one order for all systems, in blocks: factored faster than one found for each
        self.order = factored(edges + identity(n_vertices), "MMD_AT_PLUS_A").perm_c.argsort()
        self.edges = csr_matrix(edges[self.order][:, self.order])
        self.factor: SuperLU | None = None

    def stiffen(self, stiffness: float, parts: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        """What following systems have of edges; `parts` weighs the rows of a map."""
        self.stiffness = np.square(stiffness * np.array(parts))
        self.factor = None

    def solved(self, points: Array, rows: Sequence[Rows]) -> Array:
        """(V,4) [x y z 1] -> (V,4,3) maps."""
        blocks, right = np.zeros((len(points), 4, 4)), np.zeros((len(points), 4, 3))
        for row in rows:
            x = row.weights[:, None] * points[row.vertices]
            blocks[row.vertices] += x[:, :, None] * x[:, None, :]
            right[row.vertices] += x[:, :, None] * (row.weights[:, None] * row.targets)[:, None]
        enough = ACCURACY**2 * sum(np.square(r.weights[:, None] * r.targets).sum() for r in rows)
        found = np.empty_like(right)
        found[self.order] = self._solved(blocks[self.order], right[self.order], enough)
        return found

    def _solved(self, blocks: Array, right: Array, enough: float) -> Array:
        """In `order`, (V,4,4) and (V,4,3) -> (V,4,3), to `enough` in the energy that is left."""
        if self.factor is not None:
            found, reached = self._by_gradients(self.factor, blocks, right, enough)
            if reached:
                return found
        self.factor = factored(self._matrix(blocks), "NATURAL")
        return self._by_gradients(self.factor, blocks, right, enough)[0]

    def _by_gradients(
        self, factor: SuperLU, blocks: Array, right: Array, enough: float
    ) -> tuple[Array, bool]:
        """Conjugate gradients for three right sides at once, from no motion."""
        found = np.zeros_like(right)
        found[:, :3] = np.eye(3)
        left = right - self._times(blocks, found)
        way, before = np.zeros_like(right), np.ones(3)
        for _ in range(MOST_ITERATIONS):
            step = factor.solve(left.reshape(-1, 3)).reshape(left.shape)
            energy = dots(left, step)
            if energy.sum() <= enough:
                return found, True
            way = step + energy / np.maximum(before, TINY) * way
            ahead = self._times(blocks, way)
            length = energy / np.maximum(dots(way, ahead), TINY)
            found, left, before = found + length * way, left - length * ahead, energy
        return found, False

    def _times(self, blocks: Array, maps: Array) -> Array:
        """The system times (V,4,3)."""
        n = len(maps)
        edges = (self.edges @ maps.reshape(n, 12)).reshape(n, 4, 3)
        ridge = RIDGE * self.stiffness.max()
        product: Array = self.stiffness[:, None] * edges + blocks @ maps + ridge * maps
        return product

    def _matrix(self, blocks: Array) -> csc_matrix:
        at = np.arange(len(blocks) + 1)
        ridge = RIDGE * self.stiffness.max() * np.eye(4)
        return csc_matrix(
            kron(self.edges, diags(self.stiffness)) + bsr_matrix((blocks + ridge, at[:-1], at))
        )


def graph_laplacian(faces: Array, n_vertices: int) -> csc_matrix:
    """(V,V): x·Lx is the sum over the edges of squared differences."""
    uses = edge_uses(np.asarray(faces, np.int64))
    use = uses.use[uses.last]
    a, b = faces.ravel()[use], faces[:, [1, 2, 0]].ravel()[use]
    one = np.ones(len(use))
    values = np.concatenate([-one, -one, one, one])
    ends = np.concatenate([a, b, a, b]), np.concatenate([b, a, a, b])
    return csc_matrix((values, ends), (n_vertices, n_vertices))


def factored(matrix: csc_matrix, ordering: str) -> SuperLU:
    """Of a symmetric positive definite matrix."""
    options = {"SymmetricMode": True}
    return splu(csc_matrix(matrix), ordering, diag_pivot_thresh=0.0, options=options)


def dots(a: Array, b: Array) -> Array:
    """(V,4,3), (V,4,3) -> (3,)."""
    return np.asarray(np.einsum("nkd,nkd->d", a, b))
