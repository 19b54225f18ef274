"""Non-rigid registration of a surface to points, as REALY and M3DFB do it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import bsr_matrix, csc_matrix, diags, kron
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from pipeline.geometry.mesh import edge_uses
from pipeline.types import Array

STAGES = 3
STIFFNESS_OF_KEYPOINTS, AFFINE_OF_KEYPOINTS = 150.0, (2.0, 2.0, 3.0, 2.0)
"""Of the stage that moves keypoints only: how stiff edges are, and what they weigh of an affine."""
WEIGHT_OF_KEYPOINTS = 50.0
MOST_SOLVES = 11
"""Of a stage with keypoints."""
RIDGE = 1e-12
"""Of the stiffness: what keeps a component whose affine nothing fixes solvable."""


class Keypoints(NamedTuple):
    """Vertices that are to come to lie at known places."""

    vertices: Array  # (K,) indices; of one that occurs repeatedly the last counts
    targets: Array  # (K,3)

    def distinct(self) -> Keypoints:
        """Each vertex once."""
        last = {int(vertex): place for place, vertex in enumerate(self.vertices)}
        return Keypoints(np.array([*last], np.int64), self.targets[[*last.values()]])


class Rows(NamedTuple):
    """Least-squares rows weight · ([x y z 1] X_i − target), at most one a vertex and kind."""

    vertices: Array  # (R,)
    weights: Array  # (R,)
    targets: Array  # (R,3)


def warp(
    vertices: Array,
    faces: Array,
    targets: Array,
    *,
    stiffness: float = 50.0,
    epsilon: float = 1.0,
    keypoints: Keypoints | None = None,
) -> Array:
    """(V,3) vertices moved towards the nearest of (T,3) targets, as stiffly as edges ask for.

    Amberg et al. 2007 (optimal step non-rigid ICP), eq. 12, with an affine map a vertex, as REALY
    has it; M3DFB's is the same without keypoints. The maps move the vertices of the step before.
    Three stages: the stiffness falls by e^(−1/2), and `epsilon`, by which the maps of two steps may
    differ at the end, by half. Targets count within twice their mean distance or 1, whatever is
    more. With `keypoints` a stage goes before that moves those only, and their weight then falls
    from solve to solve.
    """
    return DeformableMesh(vertices, faces).onto(
        targets, stiffness=stiffness, epsilon=epsilon, keypoints=keypoints
    )


class DeformableMesh:
    """A mesh to be warped repeatedly: what depends on its edges only is found once."""

    def __init__(self, vertices: Array, faces: Array) -> None:
        self.vertices = np.asarray(vertices, np.float64)
        self.laplacian = graph_laplacian(faces, len(vertices))

    def onto(
        self,
        targets: Array,
        *,
        stiffness: float = 50.0,
        epsilon: float = 1.0,
        keypoints: Keypoints | None = None,
    ) -> Array:
        """See `warp`."""
        tree = cKDTree(np.asarray(targets, np.float64))
        now = self.vertices
        # what delta is measured from is part of the method: it decides when to stop
        maps, before = np.ones((4 * len(now), 3)), np.zeros((4 * len(now), 3))
        n_solves, fixed = 0, keypoints.distinct() if keypoints else None
        if fixed is not None:
            pull = np.full(len(fixed.vertices), WEIGHT_OF_KEYPOINTS)
            rows = [Rows(fixed.vertices, pull, fixed.targets)]
            before, maps = maps, self.solved(now, rows, STIFFNESS_OF_KEYPOINTS, AFFINE_OF_KEYPOINTS)
            now, n_solves = moved(now, maps), 1
        for stage in range(STAGES):
            n_of_stage = 0
            while np.linalg.norm(maps - before) > epsilon * 2.0**-stage:
                if fixed is not None and n_of_stage == MOST_SOLVES:
                    break
                rows = [nearest_rows(tree, now)]
                if fixed is not None:
                    weight = WEIGHT_OF_KEYPOINTS / 10 * np.exp(-0.9 * n_solves)
                    pull = np.full(len(fixed.vertices), weight)
                    rows.append(Rows(fixed.vertices, pull, fixed.targets))
                before, maps = maps, self.solved(now, rows, stiffness * np.exp(-stage / 2))
                now = moved(now, maps)
                n_solves, n_of_stage = n_solves + 1, n_of_stage + 1
        return now

    def solved(
        self,
        now: Array,
        rows: list[Rows],
        stiffness: float,
        weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0),
    ) -> Array:
        """(4V,3) maps that minimise the rows and the edges' differences, times `weights`."""
        blocks, right = np.zeros((len(now), 4, 4)), np.zeros((len(now), 4, 3))
        for row in rows:
            x = row.weights[:, None] * homogeneous(now[row.vertices])
            blocks[row.vertices] += x[:, :, None] * x[:, None, :]
            right[row.vertices] += x[:, :, None] * (row.weights[:, None] * row.targets)[:, None]
        at = np.arange(len(now) + 1)
        edges = kron(self.laplacian, diags(np.square(stiffness * np.array(weights))), "csc")
        edges += diags(np.full(4 * len(now), RIDGE * stiffness**2))
        system = csc_matrix(edges + bsr_matrix((blocks, at[:-1], at)))
        factor = splu(
            system, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
        found: Array = factor.solve(right.reshape(-1, 3))
        return found


def graph_laplacian(faces: Array, n_vertices: int) -> csc_matrix:
    """(V,V): x·Lx is the sum over the edges of squared differences."""
    uses = edge_uses(np.asarray(faces, np.int64))
    use = uses.use[uses.last]
    a, b = faces.ravel()[use], faces[:, [1, 2, 0]].ravel()[use]
    one = np.ones(len(use))
    values = np.concatenate([-one, -one, one, one])
    ends = np.concatenate([a, b, a, b]), np.concatenate([b, a, a, b])
    return csc_matrix((values, ends), (n_vertices, n_vertices))


def nearest_rows(tree: cKDTree, now: Array) -> Rows:
    """Each vertex to the nearest target, unless that is far from it."""
    distance, nearest = tree.query(now)
    distance = distance.astype(np.float32)
    near = distance < max(2 * distance.mean(), 1)
    return Rows(np.flatnonzero(near), np.ones(near.sum()), tree.data[nearest[near]])


def homogeneous(points: Array) -> Array:
    """(N,3) -> (N,4) [x y z 1], rounded to single precision as the authors' arrays are."""
    rounded = np.asarray(points, np.float32).astype(np.float64)
    return np.column_stack([rounded, np.ones(len(rounded))])


def moved(points: Array, maps: Array) -> Array:
    """(V,3), each by its own map of (4V,3)."""
    found: Array = np.einsum("nk,nkd->nd", homogeneous(points), maps.reshape(-1, 4, 3))
    return found
