"""The camera of a picture from points of the scan and the pixels that show them.

A start by scaled orthography (DeMenthon and Davis, "Model-Based Object Pose in 25 Lines of Code",
IJCV 1995; for points near a plane both of its solutions, Oberkampf et al., CVIU 1996), then robust
Levenberg-Marquardt over pose and focal length. Near and far cameras are alike in it: with
s = f / distance, pixels in a millimetre, and k = 1 / distance, a point (x, y, z) that is turned
into the camera's axes and counted from the points' middle is seen at

    u = cx + (s x + a) / (1 + k z),    v = cy + (s y + b) / (1 + k z),

which is scaled orthography for k = 0. Only rotations are fitted, so no solution mirrors the points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.errors import FacefoldError
from pipeline.refusals import Code
from pipeline.types import Array, Frozen
from pipeline.views.camera import Camera

MIN_POINTS, MIN_POINTS_OF_FOCAL = 4, 6
"""With the focal length known, and not."""
FARTHEST_MM = 1e6
"""Parallel rays come out as a camera so far away: over a head they differ by .05 pixels at most."""
STARTS_MM = (400.0, 1000.0, 4000.0, FARTHEST_MM)
USUAL_FOCAL, FOCAL_SPREAD = 1.5, 0.7
"""Focal lengths are likely near 1.5 times the picture's longer side, give or take a factor of 2
(0.7 in the logarithm). It counts as one more reading, and decides what the points leave open."""
FEW_FOR_MIDDLE = 500
"""Fewer points never move the principal point out of the picture's middle."""
MIDDLE_GAIN, MIDDLE_SD = 0.8, 0.02
"""The principal point is fitted if this lowers the residual to that share, and if its standard
deviation stays below that share of the longer side."""
MOST_POINTS = 4000
"""That are fitted; of more, evenly spread ones. Residuals are of all."""
CAUCHY = 4.0
"""Standard deviations at which a point's weight has halved: 98 % efficient for normal errors."""
RAYLEIGH_MEDIAN = 1.1774
"""Median length of a plane normal error of standard deviation 1."""
FLAT = 1e-3
"""Points whose spread across is a smaller share of that along lie on a line."""
LEAST_SD_PX = 1e-7
FIRST_STEPS, KEPT, STEPS = 6, 2, 60
"""Steps from every start; how many of their ends are followed, for at most how many more."""
CONVERGED = 1e-7
"""Radians, pixels or share of scale and distance: smaller steps change nothing."""


@dataclass(frozen=True, eq=False)
class FittedCamera(Frozen):
    """A camera and how well it explains the pairs it was fitted to."""

    camera: Camera
    residual_px: Array  # (N,) float64 distance of each pixel from where the camera sees the point
    focal_sd: float
    """Standard deviation of the focal length, as a share of it; 0 if it was known."""
    middle_fitted: bool
    """Whether the principal point was fitted; else it is the picture's middle."""

    def __post_init__(self) -> None:
        self._check("residual_px", (None,), np.float64, finite=False)


@dataclass(frozen=True, eq=False)
class State:
    """The unknowns: rotation (3,3), shift a and b in pixels, log s, log k, principal point."""

    rotation: Array
    shift: Array
    log_scale: float
    log_inverse: float
    middle: Array


class Pairs(NamedTuple):
    """What is fitted: points (N,3) from their middle, pixels (N,2), weights (N,)."""

    points: Array
    pixels: Array
    weights: Array


class Free(NamedTuple):
    """What is unknown beside the pose."""

    focal_px: float | None
    usual_focal_px: float
    middle: bool


def fit_camera(
    points_mm: Array,
    pixels: Array,
    height: int,
    width: int,
    focal_px: float | None = None,
    weights: Array | None = None,
) -> FittedCamera:
    """The camera that sees points (N,3), mm, at `pixels` (N,2) of a picture of that size.

    `focal_px` None: it is fitted too. Rows that are not finite, and those of weight 0, are left out
    (residual NaN). The principal point is the picture's middle unless many points say otherwise.
    Raises FacefoldError if the pairs are too few or lie at one place or on a line.
    """
    points, seen = (np.asarray(a, np.float64) for a in (points_mm, pixels))
    given = np.ones(len(points)) if weights is None else np.asarray(weights, np.float64)
    usable = np.isfinite(points).all(axis=1) & np.isfinite(seen).all(axis=1) & (given > 0)
    refuse_degenerate(points[usable], seen[usable], focal_px)
    few = np.flatnonzero(usable)[:: 1 + int(usable.sum()) // MOST_POINTS]
    origin = points[few].mean(axis=0)
    pairs = Pairs(points[few] - origin, seen[few], given[few])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    free = Free(focal_px, USUAL_FOCAL * max(height, width), middle=False)
    state = best_of_starts(pairs, middle, free)
    moved = principal_point(pairs, state, free, max(height, width))
    free = free._replace(middle=moved is not state)
    camera = camera_of(moved, origin, height, width)
    residual = np.full(len(points), np.nan)
    residual[usable] = np.linalg.norm(camera.project(points[usable]) - seen[usable], axis=1)
    return FittedCamera(camera, residual, focal_sd(pairs, moved, free), free.middle)


def refuse_degenerate(points: Array, pixels: Array, focal_px: float | None) -> None:
    """Raises FacefoldError if finite pairs cannot determine a camera."""
    least = MIN_POINTS_OF_FOCAL if focal_px is None else MIN_POINTS
    if len(points) < least:
        known = "unknown" if focal_px is None else "known"
        fault = f"{len(points)} points with pixels, expected at least {least}, focal length {known}"
        raise FacefoldError(f"{fault}; give more landmarks", Code.CAMERA_OPEN)
    for what, spread_of in (("points", points), ("pixels", pixels)):
        spread = np.linalg.svd(spread_of - spread_of.mean(axis=0), compute_uv=False)
        if not spread[1] > FLAT * spread[0]:
            fault = f"the {what} lie at one place or on a line, expected them to span a face"
            remedy = "check that landmarks and pixels are those of this photo"
            raise FacefoldError(f"{fault}; {remedy}", Code.CAMERA_OPEN)


def best_of_starts(pairs: Pairs, middle: Array, free: Free) -> State:
    """The best of the solutions reached from several starts."""
    distances = STARTS_MM if free.focal_px is None else STARTS_MM[:1]  # else the scale says it
    starts = [
        replace(pose, log_inverse=-math.log(distance))
        for pose in orthographic_poses(pairs, middle)
        for distance in distances
    ]
    coarse = pairs if len(pairs.points) < 300 else Pairs(*(a[:: len(a) // 100] for a in pairs))
    ends = [refined(coarse, start, free, FIRST_STEPS) for start in starts]
    sd = max(LEAST_SD_PX, min(spread_px(coarse, end) for end in ends))
    ends.sort(key=lambda end: cost(coarse, end, free, sd))
    ends = [refined(pairs, end, free) for end in ends[:KEPT]]
    sd = max(LEAST_SD_PX, min(spread_px(pairs, end) for end in ends))
    return min(ends, key=lambda end: cost(pairs, end, free, sd))


def orthographic_poses(pairs: Pairs, middle: Array) -> list[State]:
    """Poses of scaled orthography: one of all three axes of the points' spread, and the two of
    their two longer ones, which differ in how the plane of these is tilted."""
    root = np.sqrt(pairs.weights)[:, None]
    axes = np.linalg.svd(root * pairs.points, full_matrices=False)[2]
    axes[2] = np.cross(axes[0], axes[1])
    along = pairs.points @ axes.T
    poses = []
    for used in (3, 2):
        design = np.column_stack([along[:, :used], np.ones(len(along))])
        affine = np.linalg.lstsq(root * design, root * pairs.pixels, rcond=1e-9)[0].T  # (2, used+1)
        shift = affine[:, -1] - middle
        if used == 3:
            poses.append(orthographic(affine[:, :3] @ axes, shift, middle))
            continue
        first, second = affine[:, :2]
        tilt = np.sqrt(complex(second @ second - first @ first, -2 * (first @ second)))
        for sign in (1, -1):
            rows = np.column_stack([affine[:, :2], [sign * tilt.real, sign * tilt.imag]])
            poses.append(orthographic(rows @ axes, shift, middle))
    return poses


def orthographic(rows: Array, shift: Array, middle: Array) -> State:
    """From the two rows (2,3) of such a camera, made orthogonal and of one length."""
    u, singular, vh = np.linalg.svd(rows, full_matrices=False)
    turned = u @ vh
    rotation = np.vstack([turned, np.cross(turned[0], turned[1])])
    scale = max(float(singular.mean()), 1e-9)
    return State(rotation, shift, math.log(scale), 0.0, middle)


def refined(pairs: Pairs, state: State, free: Free, steps: int = STEPS) -> State:
    """Levenberg-Marquardt with Cauchy's weights, whose scale follows the residuals."""
    state = with_focal(state, free)
    damping = 1e-3
    for _ in range(steps):
        sd = max(LEAST_SD_PX, spread_px(pairs, state))
        now = cost(pairs, state, free, sd)
        hessian, gradient = normal_equations(pairs, state, free, sd)
        for _ in range(12):
            step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
            tried = stepped(state, step, free)
            if cost(pairs, tried, free, sd) <= now:
                break
            damping *= 8
        else:
            return state
        state, damping = tried, max(damping / 10, 1e-12)
        if np.abs(step).max() < CONVERGED:
            break
    return state


def with_focal(state: State, free: Free) -> State:
    """The state with the distance that the focal length and the scale give, where it is known."""
    log_inverse = state.log_inverse
    if free.focal_px is not None:
        log_inverse = state.log_scale - math.log(free.focal_px)
    return replace(state, log_inverse=max(log_inverse, -math.log(FARTHEST_MM)))


def stepped(state: State, step: Array, free: Free) -> State:
    """The state after a step of rotation, shift, log s, then log k and principal point if free."""
    rest = step[6:]
    inverse, rest = (rest[0], rest[1:]) if free.focal_px is None else (0.0, rest)
    moved = State(
        Rotation.from_rotvec(step[:3]).as_matrix() @ state.rotation,
        state.shift + step[3:5],
        state.log_scale + float(np.clip(step[5], -2, 2)),
        state.log_inverse + float(np.clip(inverse, -2, 2)),
        state.middle + rest if free.middle else state.middle,
    )
    return with_focal(moved, free)


def residuals(pairs: Pairs, state: State) -> tuple[Array, Array, Array]:
    """What the camera sees minus the pixels (N,2), turned points (N,3), and 1 + k z (N,)."""
    turned = pairs.points @ state.rotation.T
    depth = 1 + math.exp(state.log_inverse) * turned[:, 2]
    seen = (math.exp(state.log_scale) * turned[:, :2] + state.shift) / depth[:, None]
    return seen + state.middle - pairs.pixels, turned, depth


def spread_px(pairs: Pairs, state: State) -> float:
    """Standard deviation of a pixel's column or row, from the weighted median residual."""
    length = np.linalg.norm(residuals(pairs, state)[0], axis=1)
    order = np.argsort(length)
    share = np.cumsum(pairs.weights[order])
    middle = length[order][np.searchsorted(share, share[-1] / 2)]
    return float(middle / RAYLEIGH_MEDIAN)


def cost(pairs: Pairs, state: State, free: Free, sd: float) -> float:
    """Twice the negative logarithm of the likelihood, but for a constant; infinite if a point lies
    behind the camera."""
    off, _, depth = residuals(pairs, state)
    if depth.min() <= 1e-3:
        return math.inf
    squared = (off**2).sum(axis=1) / (CAUCHY * sd) ** 2
    total = CAUCHY**2 * float(pairs.weights @ np.log1p(squared))
    return total + (unusual_focal(state, free) ** 2 if free.focal_px is None else 0.0)


def unusual_focal(state: State, free: Free) -> float:
    """How many spreads the focal length is from the usual one."""
    log_focal = state.log_scale - state.log_inverse
    return (log_focal - math.log(free.usual_focal_px)) / FOCAL_SPREAD


def normal_equations(pairs: Pairs, state: State, free: Free, sd: float) -> tuple[Array, Array]:
    """The Hessian of half of `cost`, after Gauss and Newton, and its negative gradient."""
    off, turned, depth = residuals(pairs, state)
    scale, inverse = math.exp(state.log_scale), math.exp(state.log_inverse)
    seen = (scale * turned[:, :2] + state.shift) / depth[:, None]
    n = len(turned)
    x, y, z = turned.T
    zero = np.zeros(n)
    # of the turned points by the rotation's step w: w × (x, y, z)
    by_turn = np.stack([[zero, z, -y], [-z, zero, x], [y, -x, zero]]).transpose(2, 0, 1)
    columns = np.zeros((n, 2, 9))
    columns[:, :, :3] = scale * by_turn[:, :2] - inverse * seen[:, :, None] * by_turn[:, 2:]
    columns[:, 0, 3] = columns[:, 1, 4] = 1
    columns[:, :, 5] = scale * turned[:, :2]
    columns[:, :, 6] = -inverse * seen * z[:, None]
    columns /= depth[:, None, None]
    columns[:, 0, 7] = columns[:, 1, 8] = 1
    prior = np.zeros(9)
    prior[5], prior[6] = 1 / FOCAL_SPREAD, -1 / FOCAL_SPREAD
    unusual = unusual_focal(state, free)
    if free.focal_px is not None:  # the distance follows the scale
        columns[:, :, 5] += columns[:, :, 6]
        prior[:], unusual = 0, 0.0
    used = [*range(6), *([6] if free.focal_px is None else []), *([7, 8] if free.middle else [])]
    design, prior = columns[:, :, used].reshape(2 * n, -1), prior[used]
    weight = pairs.weights / (1 + (off**2).sum(axis=1) / (CAUCHY * sd) ** 2) / sd**2
    weighted = design * np.repeat(weight, 2)[:, None]
    hessian = weighted.T @ design + np.outer(prior, prior)
    return hessian, -weighted.T @ off.ravel() - prior * unusual


def principal_point(pairs: Pairs, state: State, free: Free, longer_px: int) -> State:
    """The state with the principal point fitted, if the points determine it; else `state`."""
    if len(pairs.points) < FEW_FOR_MIDDLE:
        return state
    fitted_free = free._replace(middle=True)
    fitted = refined(pairs, state, fitted_free)
    before, after = spread_px(pairs, state), spread_px(pairs, fitted)
    sd = np.sqrt(np.diag(covariance(pairs, fitted, fitted_free))[-2:]).max()
    is_better = after < MIDDLE_GAIN * before and before > 1e-4
    return fitted if is_better and sd < MIDDLE_SD * longer_px else state


def covariance(pairs: Pairs, state: State, free: Free) -> Array:
    """Of the unknowns, from the curvature of the cost."""
    sd = max(LEAST_SD_PX, spread_px(pairs, state))
    hessian, _ = normal_equations(pairs, state, free, sd)
    return np.asarray(np.linalg.pinv(hessian, hermitian=True))


def focal_sd(pairs: Pairs, state: State, free: Free) -> float:
    """Standard deviation of log f = log s − log k; 0 if f was known."""
    if free.focal_px is not None:
        return 0.0
    among = covariance(pairs, state, free)
    return math.sqrt(among[5, 5] + among[6, 6] - 2 * among[5, 6])


def camera_of(state: State, origin: Array, height: int, width: int) -> Camera:
    """The pinhole camera of a state whose points were counted from `origin` (3,)."""
    scale, distance = math.exp(state.log_scale), math.exp(-state.log_inverse)
    pose = np.eye(4)
    pose[:3, :3] = state.rotation
    pose[:3, 3] = [*(state.shift / scale), distance] - state.rotation @ origin
    focal = scale * distance
    matrix = np.array([[focal, 0, state.middle[0]], [0, focal, state.middle[1]], [0, 0, 1]])
    return Camera(matrix, pose, height, width)
