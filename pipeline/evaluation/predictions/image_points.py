"""68 points of an image: read as methods save them, and how a set of them may be off as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from pipeline.errors import FormatError
from pipeline.evaluation.benchmark import Finding
from pipeline.evaluation.predictions.landmark_orders import likely_orders
from pipeline.formats.content import floats, opened
from pipeline.formats.npz import DAMAGED, plain_array, without_batch
from pipeline.landmarks.rows import word_rows
from pipeline.landmarks.schemes import SCHEMES
from pipeline.types import Array

FORMATS = ("npy", "txt")
MUCH = 2.0
"""So many times less the median error has to be before a set is said to be off as a whole."""
AS_GOOD = 1.3
"""Of explanations that fit the set to within this ratio of the best, the simplest counts."""
SAME_SIZE = (0.8, 1.25)
"""A factor within is a wrong size, one beyond another frame."""
IMAGE_FROM_HEAD = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
"""x to the right, y down, z into the picture, of a head that looks out of it."""


def read_points(path: Path | str) -> Array:
    """(68,2) px of a `.npy` or text file that holds (68,2|3) or (2|3,68), a batch of one too.

    Raises FormatError for a damaged file, another shape and values that are not finite.
    """
    path = Path(path)
    array = without_batch(read_numbers(path))
    if array.ndim == 2 and array.shape[0] in (2, 3) and array.shape[1] == 68:
        array = array.T
    if array.ndim != 2 or array.shape[0] != 68 or array.shape[1] not in (2, 3):
        fault = (
            f"holds numbers of shape {array.shape}, expected (68, 2), (68, 3), (2, 68) or (3, 68)"
        )
        raise FormatError(path, fault, "save iBUG's 68 points of the image")
    points = array[:, :2].astype(np.float64)
    odd = int((~np.isfinite(points)).any(axis=1).sum())
    if odd:
        fault = f"{odd} of 68 points are not finite"
        raise FormatError(path, fault, "predict it again, or leave it out: it is missing then")
    return points


def read_numbers(path: Path | str) -> Array:
    """The numbers of a `.npy` file, or (R,C) of a text of equally long rows.

    Raises FormatError for a damaged file, and for what are no real numbers.
    """
    path = Path(path)
    if path.name.lower().removesuffix(".gz").endswith(".npy"):
        with opened(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            try:
                array = plain_array(file, size)
            except DAMAGED as error:
                fault = f"not a whole plain array: {error}"
                raise FormatError(path, fault, "save it with numpy.save") from error
        if array.dtype.kind not in "fiu":
            raise FormatError(path, f"holds {array.dtype}", "save real numbers")
        return array
    rows = word_rows(path)
    if len({len(row) for row in rows}) > 1:
        fault = f"rows of {min(map(len, rows))} to {max(map(len, rows))} values"
        raise FormatError(path, fault, "save rows of equal length")
    return floats(path, (word for row in rows for word in row), "points").reshape(len(rows), -1)


def errors_percent(points: Array, truth: Array) -> Array:
    """(…,68,2), (…,68,2) px -> (…,68): distances in per cent of the size of the true points' box,
    the root of its area (Zhu et al., 3DDFA, 2016)."""
    size = np.sqrt(np.prod(np.ptp(truth, axis=-2), axis=-1))
    found: Array = 100 * np.linalg.norm(points - truth, axis=-1) / size[..., None]
    return found


def weak_perspective(points: Array, image: Array) -> Array:
    """(N,3) points of a head (x to its left, y up, z out of the face) as the scaled orthographic
    camera sees them that fits (N,2) px best, y down: (N,2) px.

    It minimises Σ|s (R x)₁₂ + t − u|² over proper rotations, from the frontal view and from the
    affine camera's rotation (POS, DeMenthon and Davis 1995). Points that are mirrored are fitted
    too, as the head is seen from behind.
    """
    source, aim = points - points.mean(0), image - image.mean(0)
    affine = np.linalg.lstsq(source, aim, rcond=None)[0].T
    u, _, vh = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vh
    size = np.sqrt(np.square(aim).sum() / np.square(source).sum())
    starts = IMAGE_FROM_HEAD, Rotation.from_matrix(np.vstack([rows, np.cross(*rows)]))

    def seen(values: Array) -> Array:
        turned = Rotation.from_rotvec(values[:3]).apply(source)
        found: Array = values[3] * size * turned[:, :2]
        return found

    fits = [
        least_squares(lambda v: (seen(v) - aim).ravel(), [*start.as_rotvec(), 1.2], method="lm")
        for start in starts
    ]
    found: Array = seen(min(fits, key=lambda fit: float(fit.cost)).x) + image.mean(0)
    return found


class _Tried(NamedTuple):
    """What a set may have been given as."""

    kind: str
    said: str
    points: Array  # (K,68,2) put right


def off_as_a_whole(points: Array, truths: Array, others: Mapping[str, Array]) -> list[Finding]:
    """Whether (K,68,2) predictions fit the truths far better in another frame or order.

    `others` are frames of the benchmark's own: in words, and the points brought from them.
    """
    tried = list(_tried(points, truths, others))
    medians = [float(np.median(errors_percent(t.points, truths).mean(1))) for t in tried]
    best = min(medians)
    if MUCH * best > medians[0]:
        return []
    at = next(i for i, value in enumerate(medians) if value <= AS_GOOD * best)
    kind, said, _ = tried[at]
    scale = _scales(points, truths)
    if kind == "scaled":
        said = f"multiplied by {scale:.3g} and moved"
        kind = kind if SAME_SIZE[0] < scale < SAME_SIZE[1] else "image_points"
    text = (
        f"the points fit the truth to {medians[at]:.1f} % in the median of {len(points)} if they "
        f"are {said}, and to {medians[0]:.1f} % as they are, expected the other way; save pixels "
        "of the image, x to the right and y down from its upper left corner, in iBUG's order"
    )
    figures = {"as_is_percent": medians[0], "put_right_percent": medians[at], "scale": scale}
    return [Finding(kind, text, figures=figures)]


def _tried(points: Array, truths: Array, others: Mapping[str, Array]) -> Iterator[_Tried]:
    """First as they are, then the simplest first."""
    yield _Tried("", "", points)
    for said, put_right in others.items():
        yield _Tried("image_points", said, put_right)
    for said, order in _orders(points):
        yield _Tried("landmark_order", f"read {said}", order)
    yield _Tried("scaled", "", _laid_on(points, truths))
    twin = SCHEMES["ibug68"].mirror
    for kind, said, flipped in (
        ("image_points", "taken with y upwards", points * [1, -1]),
        ("mirrored", "mirrored, x to the left", points * [-1, 1]),
        ("mirrored", "mirrored with left and right swapped", points[:, twin] * [-1, 1]),
    ):
        yield _Tried(kind, said, _laid_on(flipped, truths))


def _orders(points: Array) -> Iterator[tuple[str, Array]]:
    """In words, and (K,68,2)."""
    rows = np.repeat(np.arange(68.0)[:, None], 3, axis=1)
    for said, order in likely_orders(rows):
        if said:
            yield said, points[:, order[:, 0].astype(int)]


def _laid_on(points: Array, truths: Array) -> Array:
    """Each of (K,68,2) scaled and moved, not turned, to where it fits best."""
    own, aim = points - points.mean(1, keepdims=True), truths - truths.mean(1, keepdims=True)
    dot, square = (own * aim).sum((1, 2)), np.square(own).sum((1, 2))
    scale = np.maximum(dot, 0) / np.maximum(square, 1e-300)
    found: Array = scale[:, None, None] * own + truths.mean(1, keepdims=True)
    return found


def _scales(points: Array, truths: Array) -> float:
    """The median factor from the predictions' size to the truths'."""
    own, aim = (np.sqrt(x.var(axis=1).sum(1)) for x in (points, truths))
    return float(np.median(aim / np.maximum(own, 1e-300)))
