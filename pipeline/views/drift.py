"""Is a photo in register with the range image that it is said to be aligned with?

A face's brightness is modelled from its registered mesh: a quadratic function of the normals, which
is diffuse light from any number of lamps (Basri and Jacobs, "Lambertian Reflectance and Linear
Subspaces", PAMI 2003), plus one shade each for brows, eyes, lips, the gap between them and
nostrils. At the photo's drift the model explains most of the brightness's variance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion, gaussian_filter

from pipeline.errors import FacefoldError
from pipeline.refusals import Code
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.photo_cameras import cosine_of_view, facing
from pipeline.views.raycasting import Caster

FACING = 0.3
"""Cosine between normal and view: what is turned away further is left out."""
FINE_PX, COARSE_PX = 2.0, 12.0
"""Only detail between these sizes counts: what is larger is light and colour of the whole face."""
MARGIN_PX = 12
"""Around the landmarks within the face's contour."""
REACH_PX, FIRST_STEP_PX = 16, 4
"""How far a drift is looked for, in both directions; first in such steps, then by single pixels."""
DARKEST = 10.0
"""Added to brightness before its logarithm, in which shade and light add up."""
FRONTAL = 0.85
"""Cosine of the angle from which the face is seen: up to 32°, as it was measured."""
LIMIT_PX, CLEAR_GAIN = 8.0, 0.05
"""A photo is out of register if the model fits so far off, and explains so much more there."""
BROWS, EYES = (range(17, 22), range(22, 27)), (range(36, 42), range(42, 48))
LIPS, GAP, NOSTRILS = (range(48, 60),), (range(60, 65),), (range(31, 36),)
LUMA = (0.299, 0.587, 0.114)


class Drift(NamedTuple):
    """How far the photo shows the face from where it should, in pixels of the crop: about mm."""

    columns_px: float
    rows_px: float
    explained: float
    """Share of the brightness's variance that the model explains there, and where it should."""
    explained_in_place: float

    @property
    def is_clear(self) -> bool:
        """Whether it is too far to be chance or the model's fault."""
        far = np.hypot(self.columns_px, self.rows_px) > LIMIT_PX
        return bool(far and self.explained - self.explained_in_place > CLEAR_GAIN)


def refuse_drift(image: Array, camera: Camera, caster: Caster, landmarks_mm: Array) -> Drift | None:
    """The drift of a photo's crop; arguments as of `drift`. None for a face that is turned away.

    Raises FacefoldError if the photo is clearly out of register.
    """
    if cosine_of_view(camera, facing(landmarks_mm)) < FRONTAL:
        return None
    found = drift(image, camera, caster, landmarks_mm)
    if found.is_clear:
        fault = (
            f"the photo shows the face {found.columns_px:+.0f} columns and {found.rows_px:+.0f} "
            "rows from where its range image has it, in pixels of the crop of 224, about 1 mm each"
        )
        remedy = f"expected at most {LIMIT_PX:g}; the person moved between the two, or it is "
        raise FacefoldError(f"{fault}: {remedy}another photo", Code.PHOTO_APART, found._asdict())
    return found


def drift(image: Array, camera: Camera, caster: Caster, landmarks_mm: Array) -> Drift:
    """How far the face in a crop of 224 lies from where its camera sees it.

    image (H,W,3) uint8 and its camera; `caster` of the registered mesh; landmarks_mm (68,3). A
    drift beyond REACH_PX ends at its edge or is not seen.
    """
    brightness = np.log(image @ np.array(LUMA) + DARKEST)
    # a crop is black beyond the photo, whose edge is no detail of the face
    detail = band(brightness, np.asarray(image.any(axis=2)))
    basis, row, column = model(camera, caster, camera.project(landmarks_mm))
    if not basis.shape[1]:
        return Drift(0.0, 0.0, 0.0, 0.0)

    def explained(shift: tuple[int, int]) -> float:
        at = np.clip(row + shift[0], 0, camera.height - 1), column + shift[1]
        seen = detail[at[0], np.clip(at[1], 0, camera.width - 1)]
        seen = seen - seen.mean()
        return float(((basis.T @ seen) ** 2).sum() / max((seen**2).sum(), 1e-12))

    steps = range(-REACH_PX, REACH_PX + 1, FIRST_STEP_PX)
    first = max(((r, c) for r in steps for c in steps), key=explained)
    near = range(1 - FIRST_STEP_PX, FIRST_STEP_PX)
    best = max(((first[0] + r, first[1] + c) for r in near for c in near), key=explained)
    return Drift(float(best[1]), float(best[0]), explained(best), explained((0, 0)))


def model(camera: Camera, caster: Caster, landmarks_px: Array) -> tuple[Array, Array, Array]:
    """Orthonormal columns (N,K) of the model at N pixels of the face, their rows and columns; K is
    0 if fewer pixels than unknowns show the face."""
    shape = camera.height, camera.width
    hits = caster.seen(camera)
    normals = np.zeros((len(hits), 3))
    normals[hits.hit] = caster.facets(hits.triangle[hits.hit])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    normals = normals @ camera.canonical_to_camera[:3, :3].T
    shown = (hits.hit & (normals[:, 2] < -FACING)).reshape(shape)
    planes = np.moveaxis(quadratics(normals).reshape(*shape, -1), 2, 0)
    parts = [drawn(shape, landmarks_px, *part) for part in PARTS]
    detail = np.stack([band(plane, shown) for plane in (*planes, *parts)], axis=-1)
    low, high = landmarks_px[17:].min(axis=0) - MARGIN_PX, landmarks_px[17:].max(axis=0) + MARGIN_PX
    row, column = np.nonzero(binary_erosion(shown, iterations=4))
    place = np.stack([column, row], axis=1)
    inner = ((place > low) & (place < high)).all(axis=1)
    row, column = row[inner], column[inner]
    columns = detail[row, column]
    if len(row) < 10 * columns.shape[1]:
        return np.empty((len(row), 0)), row, column
    return np.linalg.qr(columns - columns.mean(axis=0))[0], row, column


def quadratics(normals: Array) -> Array:
    """(N,3) unit normals -> (N,8): spherical harmonics to degree 2 without the constant."""
    x, y, z = normals.T
    return np.stack([x, y, z, x * y, x * z, y * z, x**2 - y**2, 3 * z**2 - 1], axis=1)


PARTS = ((BROWS, 5), (EYES, 0), (LIPS, 0), (GAP, 2), (NOSTRILS, 3))
"""Rows of landmarks, and the width of the line through them; 0: the area that they surround."""


def drawn(
    shape: tuple[int, int], landmarks_px: Array, rows: tuple[range, ...], width: int
) -> Array:
    """(H,W) 1 where the part is, else 0."""
    canvas = Image.new("L", shape[::-1])
    draw = ImageDraw.Draw(canvas)
    for row in rows:
        points = [tuple(point) for point in landmarks_px[list(row)].tolist()]
        if width:
            draw.line(points, fill=1, width=width)
        else:
            draw.polygon(points, fill=1)
    return np.asarray(canvas, np.float64)


def band(plane: Array, shown: Array) -> Array:
    """Its detail between FINE_PX and COARSE_PX, as though it went on where nothing is shown."""
    weight = shown.astype(np.float64)
    fine, coarse = (
        gaussian_filter(plane * weight, sigma) / np.maximum(gaussian_filter(weight, sigma), 1e-3)
        for sigma in (FINE_PX, COARSE_PX)
    )
    return np.asarray(fine - coarse)
