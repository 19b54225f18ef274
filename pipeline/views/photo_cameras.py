"""Cameras of photos: from the range image they are aligned with, or from their 2D landmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pipeline.errors import FacefoldError
from pipeline.geometry.rigid import umeyama
from pipeline.landmarks.schemes import CONTOUR_68, OUTER_EYES_68, SCHEMES, named_scheme, to_68
from pipeline.refusals import Code
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.camera_fit import FittedCamera, fit_camera
from pipeline.views.crops import DEEP3D_POINTS, five_points

ASPECT = 0.01
"""So far may a photo's aspect ratio be from its range image's."""
GRID_PX = 1.0
"""Of a range image: so near to its own pixel the camera must see 95 % of the points."""
MOST, LANDMARK_SHARE = 0.75, 0.08
"""So many of a photo's landmarks must lie so near to where the camera sees the registered ones, as
a share of the outer eyes' distance: 7 mm. With each landmark 2 mm off along each axis it is .04, if
all are taken for their neighbours in the scheme .10 or more."""
CLEAR_SHARE, OTHER_RATIO = 0.04, 1.5
"""Farther off, another reading of the landmarks is preferred if it fits so much better."""
BEHIND = -0.1
"""Cosine between where the face looks and where the camera stands; below it is behind the face."""
AHEAD = np.array([0.0, 0.0, 1.0])
MIRRORED = SCHEMES["ibug68"].mirror


def camera_of_grid(
    points_mm: Array, grid_pixels: Array, grid: tuple[int, int], height: int, width: int
) -> FittedCamera:
    """The camera of a photo that is aligned with a range image of `grid` rows and columns.

    points_mm (N,3) canonical and `grid_pixels` (N,2), column and row. The photo may have more or
    fewer pixels; the corners of both coincide. Raises FacefoldError if it has another shape, if no
    pinhole camera sees the points at their pixels, or if it would stand behind the face.
    """
    rows, columns = grid
    scale = np.array([width / columns, height / rows])
    if abs(scale[0] / scale[1] - 1) > ASPECT:
        fault = f"the photo has {width} · {height} pixels, the range image {columns} · {rows}"
        raise FacefoldError(f"{fault}: expected one shape", Code.PHOTO_APART)
    pixels = (np.asarray(grid_pixels, np.float64) + 0.5) * scale - 0.5
    fitted = fit_camera(points_mm, pixels, height, width)
    off_px = float(np.nanquantile(fitted.residual_px, 0.95) / scale.max())
    if off_px > GRID_PX:
        fault = f"no camera sees the range image's points at their pixels: {off_px:.1f} pixels off"
        remedy = f"(95 % of them), expected {GRID_PX:g}; the grid is no camera's picture"
        raise FacefoldError(f"{fault} {remedy}", Code.CAMERA_ERROR, {"p95_px": off_px})
    if is_behind(fitted.camera):
        fault = "the camera of the range image would stand behind the face"
        remedy = "its columns or rows are mirrored, or the source's `axes` are"
        raise FacefoldError(f"{fault}: {remedy}", Code.CAMERA_ERROR)
    return fitted


def facing(landmarks_mm: Array) -> Array:
    """(68,3) -> (3,) unit direction in which the face looks, as Deep3D's mean face does along z:
    from its five points laid on the face's."""
    mean_face, face = (
        torch.as_tensor(five, dtype=torch.float64)
        for five in (DEEP3D_POINTS * 100, five_points(landmarks_mm))
    )
    return np.asarray(umeyama(mean_face, face)[0][:, 2])


def cosine_of_view(camera: Camera, direction: Array = AHEAD) -> float:
    """Cosine between a face's direction (3,) and that in which its camera stands: 1 from ahead."""
    return float(-camera.canonical_to_camera[2, :3] @ direction)


def is_behind(camera: Camera, direction: Array = AHEAD) -> bool:
    """Whether the camera looks at the back of a head that faces `direction`."""
    return cosine_of_view(camera, direction) < BEHIND


class LandmarkFit(NamedTuple):
    """A camera of landmarks, and how near MOST of them are, as a share of the eyes' distance."""

    fitted: FittedCamera
    share: float
    is_behind: bool

    @property
    def is_good(self) -> bool:
        return self.share <= LANDMARK_SHARE and not self.is_behind


def camera_of_landmarks(
    landmarks_mm: Array,
    pixels: Array,
    scheme: str,
    height: int,
    width: int,
    focal_px: float | None = None,
) -> FittedCamera:
    """The camera of a photo from its landmarks: perspective-n-point.

    landmarks_mm (68,3) are the registered ones, `pixels` (L,2) those of the photo in the order of
    `scheme`; NaN rows are missing. The face's contour is left out: it slides with the view. What
    the landmarks leave open of the focal length, the usual one decides. `residual_px` is of the 68.
    Raises FacefoldError if they determine no camera, and if none explains them: it names a swap of
    left and right, rows from the bottom, and another order. A mirrored photo with landmarks that
    were set on it as it is goes unnoticed: faces are nearly symmetric.
    """
    found = landmark_fit(landmarks_mm, pixels_68(scheme, pixels), height, width, focal_px)
    if found.is_good and found.share < CLEAR_SHARE:
        return found.fitted
    better = best_reading(landmarks_mm, pixels, scheme, height, width)
    if found.is_good and (better is None or better.share > found.share / OTHER_RATIO):
        return found.fitted
    where = "from behind the face" if found.is_behind else "at the nearest"
    cause = "they are of another face, or in an order that is not known"
    if better is not None:
        cause = f"{better.said}; so they fit to {better.share:.1%}"
    fault = (
        f"a camera {where} sees a quarter of the landmarks {found.share:.1%} of the outer eyes' "
        f"distance off or more, expected {LANDMARK_SHARE:.0%} and a camera before the face"
    )
    figures = {"share": found.share, "cause": cause}
    raise FacefoldError(f"{fault}: {cause}", Code.CAMERA_ERROR, figures)


def pixels_68(scheme: str, pixels: Array) -> Array:
    """(L,2) of a scheme -> (68,2) float64, NaN where it has none. Raises as `to_68` does."""
    flat = np.column_stack([np.asarray(pixels, np.float64), np.zeros(len(pixels))])
    return to_68(scheme, flat)[:, :2]


def landmark_fit(
    landmarks_mm: Array, seen: Array, height: int, width: int, focal_px: float | None
) -> LandmarkFit:
    """The camera of landmarks (68,3) at pixels (68,2), the contour left out.

    The distance of the outer eyes is the camera's, so that a profile counts as a front view does.
    Raises FacefoldError as `fit_camera` does.
    """
    inner = ~np.isin(np.arange(68), CONTOUR_68)
    fitted = fit_camera(landmarks_mm, seen, height, width, focal_px, inner.astype(np.float64))
    camera = fitted.camera
    eyes = landmarks_mm[list(OUTER_EYES_68)]
    px_of_mm = camera.matrix_px[0, 0] / camera.in_camera(eyes)[:, 2].mean()
    eyes_px = px_of_mm * float(np.linalg.norm(eyes[0] - eyes[1]))
    share = float(np.nanquantile(fitted.residual_px, MOST)) / eyes_px
    return LandmarkFit(fitted, share, is_behind(camera, facing(landmarks_mm)))


class Reading(NamedTuple):
    """Another way to take a photo's landmarks, and how well they fit so."""

    share: float
    said: str


def best_reading(
    landmarks_mm: Array, pixels: Array, scheme: str, height: int, width: int
) -> Reading | None:
    """Of other readings of landmarks the one that fits best, if one gives a camera that sees the
    face from the front and upright."""
    seen = pixels_68(scheme, pixels)
    readings = {
        "left and right are swapped, or the photo is mirrored": seen[MIRRORED],
        "its rows count from the bottom": seen * [1, -1] + [0, height - 1],
    }
    for name, other in SCHEMES.items():
        if len(other) == len(named_scheme(scheme)) and name != scheme:
            said = f"they are in the order of {name}, not of {scheme}"
            readings[said] = pixels_68(name, pixels)
    fits = []
    for said, read in readings.items():
        try:
            fit = landmark_fit(landmarks_mm, read, height, width, None)
        except FacefoldError:  # in this order too few of them are known
            continue
        if fit.is_good and fit.fitted.camera.canonical_to_camera[1, 1] < 0:
            fits.append(Reading(fit.share, said))
    return min(fits, default=None)
