"""The parts of M3DFB's recipes: alignments, elastic deformation, correction of correspondences.

After Sariyanidi et al. 2023 ("Meta-evaluation for 3D face reconstruction via synthetic data"), with
the authors' settings. All lengths are metres, which their thresholds are meant in.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import solve_triangular, solveh_banded
from scipy.optimize import nnls
from scipy.sparse import diags_array
from scipy.sparse.linalg import splu
from scipy.spatial import Delaunay, cKDTree

from pipeline.errors import RegistrationError
from pipeline.evaluation.alignment.procrustes import Similarity, procrustes
from pipeline.types import Array

FIVE = (13, 19, 28, 31, 37)
"""Landmarks of the rigid fit among iBUG's 51: tip of the nose, outer corners of eyes and mouth."""
ICP_STEPS, ICP_CHANGE = 30, 1e-6
"""ICP ends after so many steps, or once the root mean square distance changes by less, metres."""
EVERY = 10
"""One point in so many keeps the elastic deformation within bounds."""
RELIABLE = (
    *(0, 2, 4, 5, 7, 9, 20, 21, 23, 24, 26, 27, 29, 30, 19, 22, 25, 28, 13, 14, 18, 31, 33, 34, 35),
    *(37, 44, 45, 46, 39, 40, 41, 49, 48, 50),
)
"""Landmarks of the 51 whose mean distance says how far inside the face a point lies."""
RELIABLE_DISTANCE, LEAST_DISTANCE = 0.48, 0.01
"""In distances of the outer eye corners: mean distance of a point in the middle of the face, and
what distances to the nearest landmark are at least."""


def landmark_fit(
    landmarks: Array, true_landmarks: Array, *, scaled: bool, reflection: bool | None
) -> Similarity:
    """Lays (51,3) landmarks on the truth's by FIVE of them (RLR)."""
    five = list(FIVE)
    return procrustes(landmarks[five], true_landmarks[five], scaled=scaled, reflection=reflection)


def icp(points: Array, truth: cKDTree) -> Similarity:
    """The motion by which (N,3) points come to lie on their nearest points of the truth.

    Point to point (Besl & McKay 1992), with the end that open3d sets by default. Ends as well once
    the nearest points lie on a line, as those of a prediction that is much too small do.
    """
    motion = Similarity(1.0, np.eye(3), np.zeros(3))
    moved = points
    distance, nearest = truth.query(moved)
    for _ in range(ICP_STEPS):
        before = _rms(distance)
        try:
            step = procrustes(moved, truth.data[nearest], scaled=False)
        except RegistrationError:
            break
        moved, motion = step.apply(moved), then(motion, step)
        distance, nearest = truth.query(moved)
        if abs(_rms(distance) - before) < ICP_CHANGE:
            break
    return motion


def then(first: Similarity, second: Similarity) -> Similarity:
    """x -> second(first(x))."""
    translation = second.apply(first.translation[None])[0]
    return Similarity(first.scale * second.scale, second.rotation @ first.rotation, translation)


def _rms(distance: Array) -> float:
    return float(np.sqrt(np.square(distance).mean()))


def elastic(points: Array, landmarks: Array, true_landmarks: Array) -> Array:
    """(N,3) points deformed so that their landmarks (L,3) come near the truth's (ELR).

    Along each axis the shift of a point p is Σ x_j (1 − |p − l_j| / max over points), with
    coefficients x that leave the least squares at the landmarks, while one point in EVERY shifts no
    farther than the farthest landmark has to. The least squares under these bounds are found
    exactly.
    """
    _, distinct = np.unique(landmarks, axis=0, return_index=True)
    centres = landmarks[np.sort(distinct)]
    reach = _distances(points, centres).max(axis=0)
    here = 1 - _distances(points, centres) / reach
    q, r = np.linalg.qr(1 - _distances(landmarks, centres) / reach)
    bounded = solve_triangular(r, here[::EVERY].T, trans="T").T
    wanted = true_landmarks - landmarks
    shifts = [
        here @ solve_triangular(r, _within(q.T @ wanted[:, i], bounded, np.abs(wanted[:, i]).max()))
        for i in range(3)
    ]
    deformed: Array = points + np.column_stack(shifts)
    return deformed


def _within(wanted: Array, bounded: Array, most: float) -> Array:
    """The y (K,) nearest to the wanted one with |bounded y| ≤ most, `bounded` being (M,K).

    A least-distance problem, solved by the non-negative least squares of its dual (Lawson & Hanson
    1974, chapter 23).
    """
    if most == 0:
        return np.zeros_like(wanted)
    at = bounded @ wanted / most
    sides = np.concatenate([-bounded, bounded])  # sides z >= beyond, y = wanted + most z
    beyond = np.concatenate([at - 1, -1 - at])
    matrix = np.vstack([sides.T, beyond])
    goal = np.append(np.zeros(len(wanted)), 1.0)
    multipliers, _ = nnls(matrix, goal, maxiter=10 * matrix.shape[1])
    residual = matrix @ multipliers - goal
    nearest: Array = wanted - most * residual[:-1] / residual[-1]
    return nearest


def _distances(points: Array, others: Array) -> Array:
    """(N,3), (L,3) -> (N,L), a column at a time."""
    return np.column_stack([np.linalg.norm(points - other, axis=1) for other in others])


def triangles_seen_from_front(points: Array) -> Array:
    """(N,3) -> (F,3) Delaunay triangles of x and y: points of M3DFB come without any."""
    return np.asarray(Delaunay(points[:, :2]).simplices, dtype=np.int64)


def corrector_weights(mean_face: Array, landmarks: Array, eye_distance: float) -> Array:
    """(N,) how far ETC leaves a correspondence alone: much near landmarks, less in the cheeks.

    Of the topology's mean face (N,3), its landmarks (51,3) and the distance of its outer eye
    corners, in any unit.
    """
    distances = _distances(mean_face, landmarks) / eye_distance
    near = 1 / distances.min(axis=1).clip(LEAST_DISTANCE)
    off_middle = np.abs(distances[:, list(RELIABLE)].mean(axis=1) - RELIABLE_DISTANCE)
    weights: Array = np.sqrt(np.maximum((near + 1 / off_middle.clip(1e-9)) / 2, 1))
    return weights


def correction(points: Array, partners: Array, weights: Array, *, permuted: bool) -> Array:
    """(N,3) what ETC subtracts from the partners (N,3) of points (N,3).

    Along each axis the points are put in order; the gaps between partners should be those between
    points, by linear least squares held back by the weights (N,). The authors factorise the system
    by SuperLU and leave out how it permutes rows and columns: `permuted` does so too.
    """
    shift = np.empty_like(partners)
    for i, order in enumerate(_orders(points)):
        gaps = np.diff((partners - points)[order, i])
        right = np.diff(np.pad(gaps, 1))
        solve = _solve_permuted if permuted else _solve
        shift[order, i] = solve(1 + weights[order], right)
    return shift


def _orders(points: Array) -> Iterator[Array]:
    return (np.argsort(column, kind="stable") for column in points.T)


def _solve(diagonal: Array, right: Array) -> Array:
    """y of a tridiagonal system with −1/2 beside the diagonal."""
    band = np.stack([np.full(len(diagonal), -0.5), diagonal])
    solved: Array = solveh_banded(band, right)
    return solved


def _solve_permuted(diagonal: Array, right: Array) -> Array:
    """y with L U y = right, where SuperLU's L U is the matrix with rows and columns permuted."""
    beside = np.full(len(diagonal) - 1, -0.5)
    matrix = diags_array([beside, diagonal, beside], offsets=[-1, 0, 1]).tocsc()
    factors = splu(matrix, diag_pivot_thresh=0.0)
    solved = np.empty_like(right)
    solved[factors.perm_c] = factors.solve(right[factors.perm_r])
    return solved
