"""Pictures cropped to the face as networks expect it, each with the camera that is exact for it.

Both crops follow five points of the 68: the eyes' middles, the tip of the nose, the mouth corners.
`crop_224` is that of Deep3DFaceReconstruction (Deng et al., "Accurate 3D Face Reconstruction with
Weakly-Supervised Learning", CVPR Workshops 2019), `align_112` that of ArcFace (Deng et al., CVPR
2019). Deep3D cuts to whole pixels; here landmarks, camera and picture agree to a fraction of one.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from pipeline.errors import FacefoldError
from pipeline.refusals import Code
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.view import ALIGNED_PX, IMAGE_PX

EYE_CORNERS, NOSE_TIP, MOUTH_CORNERS = ((36, 39), (42, 45)), 30, (48, 54)

DEEP3D_POINTS = np.array(
    [
        [-0.31148657, 0.29036078, 0.13377953],
        [0.30979887, 0.28972036, 0.13179526],
        [0.0032535, -0.04617932, 0.55244243],
        [-0.25216928, -0.38133916, 0.22405732],
        [0.2484662, -0.38128236, 0.22235769],
    ]
)
"""Where Deep3D's mean face has the five points: decimetres, +y up, +z out of the face."""
DEEP3D_PX = 102.0
"""Pixels of the crop in a decimetre of the mean face."""
DEEP3D_MIDDLE = (112.0, 111.0)
"""Column and row where the mean face's origin comes to lie: Deep3D's centre is (112, 112) with rows
counted upwards, which are 223 − row."""

ARCFACE_POINTS = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""Where ArcFace's crop of 112 pixels has the five points: column and row."""

LEAST_INSIDE = 0.25
"""Of a crop must show the picture; the rest is black."""
FILTER_PX = 3
"""Pixels that bicubic resampling reaches beyond its own, and one to spare."""


def five_points(landmarks_px: Array) -> Array:
    """(68,D) -> (5,D) float64: right and left eye, tip of the nose, right and left mouth corner;
    the sides are the subject's. Raises FacefoldError if one of them is not finite."""
    points = np.asarray(landmarks_px, np.float64)
    eyes = [points[list(corners)].mean(axis=0) for corners in EYE_CORNERS]
    five = np.stack([*eyes, points[NOSE_TIP], *points[list(MOUTH_CORNERS)]])
    if not np.isfinite(five).all():
        fault = "eyes, nose or mouth corners have no finite pixels, expected all five points"
        raise FacefoldError(f"{fault}; a face behind the camera has none", Code.CAMERA_OPEN)
    return five


def deep3d_transform(five_px: Array, five_3d: Array = DEEP3D_POINTS) -> Array:
    """(3,3): a picture's pixels -> those of its crop of 224.

    Scale and shift are those of the affine camera that sees `five_3d` (5,3) at `five_px` (5,2), in
    the least squares; its scale is the mean length of its two rows. Raises FacefoldError if all
    five lie at one place.
    """
    homogeneous = np.column_stack([five_3d, np.ones(len(five_3d))])
    affine = np.linalg.lstsq(homogeneous, np.asarray(five_px, np.float64), rcond=None)[0]
    scale = checked_scale(np.linalg.norm(affine[:3], axis=0).mean() / DEEP3D_PX)
    shift = DEEP3D_MIDDLE - affine[3] / scale
    return np.array([[1 / scale, 0, shift[0]], [0, 1 / scale, shift[1]], [0, 0, 1]])


def arcface_transform(five_px: Array) -> Array:
    """(3,3): a picture's pixels -> those of its aligned crop of 112.

    The least-squares similarity (Umeyama 1991, in the plane, where a complex number turns and
    scales): never a reflection. Raises FacefoldError if all five lie at one place.
    """
    source, target = (np.asarray(p, np.float64) @ [1, 1j] for p in (five_px, ARCFACE_POINTS))
    from_middle = source - source.mean()
    spread = (np.abs(from_middle) ** 2).sum()
    checked_scale(math.sqrt(spread))
    turn = (from_middle.conj() * (target - target.mean())).sum() / spread
    shift = target.mean() - turn * source.mean()
    return np.array(
        [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag], [0, 0, 1]]
    )


def checked_scale(scale: float) -> float:
    """Raises FacefoldError if it is 0."""
    if scale < 1e-6:
        fault = "eyes, nose and mouth corners lie at one place of the picture"
        raise FacefoldError(f"{fault}, expected a face; check its landmarks", Code.CAMERA_OPEN)
    return float(scale)


def crop_camera(landmarks_px: Array, camera: Camera) -> Camera:
    """The camera of the crop of 224 that `crop_224` makes of `camera`'s picture: rendered by it,
    the crop needs no resampling. `landmarks_px` (68,2) are those of the uncropped picture."""
    transform = deep3d_transform(five_points(landmarks_px))
    return camera.moved(transform, IMAGE_PX, IMAGE_PX)


def aligned_camera(landmarks_px: Array, camera: Camera) -> Camera:
    """As `crop_camera`, of the crop of 112 that `align_112` makes."""
    transform = arcface_transform(five_points(landmarks_px))
    return camera.moved(transform, ALIGNED_PX, ALIGNED_PX)


def crop_224(picture: Array, landmarks_px: Array, camera: Camera) -> tuple[Array, Camera]:
    """(H,W,3) or (H,W) uint8 and its landmarks (68,2) -> its crop of 224 and the crop's camera.

    Where the crop reaches beyond the picture it is black. Raises FacefoldError if the picture
    shows less than LEAST_INSIDE of it, and as `five_points` and `deep3d_transform` do.
    """
    transform = deep3d_transform(five_points(landmarks_px))
    cropped = resampled(picture, transform, IMAGE_PX, IMAGE_PX)
    return cropped, camera.moved(transform, IMAGE_PX, IMAGE_PX)


def align_112(picture: Array, landmarks_px: Array) -> Array:
    """(H,W,3) or (H,W) uint8 and its landmarks (68,2) -> its aligned crop of 112, as `crop_224`."""
    transform = arcface_transform(five_points(landmarks_px))
    return resampled(picture, transform, ALIGNED_PX, ALIGNED_PX)


def shrunk(picture: Array, landmarks_px: Array, camera: Camera) -> tuple[Array, Camera]:
    """A picture and its camera with pixels put together by whole numbers, as long as the face has
    twice as many as its crop of 224: what is then done to the whole picture costs little."""
    scale = deep3d_transform(five_points(landmarks_px))[0, 0]
    n = int(1 / (2 * scale))
    if n < 2:
        return picture, camera
    small = np.asarray(Image.fromarray(picture).reduce(n))
    half = (1 / n - 1) / 2  # pixels count from the middle of the first
    to_small = np.array([[1 / n, 0, half], [0, 1 / n, half], [0, 0, 1]])
    return small, camera.moved(to_small, *small.shape[:2])


def resampled(picture: Array, picture_to_new: Array, height: int, width: int) -> Array:
    """The picture (H,W,3) or (H,W) uint8 moved by a similarity `picture_to_new` (3,3) of pixels.

    Bicubic; where it shrinks, each pixel is the mean of what it covers, weighted likewise. Raises
    FacefoldError if less than LEAST_INSIDE of the new picture shows the old one.
    """
    refuse_outside(picture, picture_to_new, height, width)
    new_to_picture = np.linalg.inv(picture_to_new)
    scale = math.sqrt(abs(np.linalg.det(picture_to_new[:2, :2])))
    reach = FILTER_PX * max(1.0, 1 / scale)
    edges = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - 0.5
    corners = edges @ new_to_picture[:2, :2].T + new_to_picture[:2, 2]
    left, top = np.floor(corners.min(axis=0) - reach).astype(int).tolist()
    right, bottom = np.ceil(corners.max(axis=0) + reach).astype(int).tolist()
    part = Image.fromarray(picture).crop((left, top, right, bottom))
    # Pillow counts from the corner of the first pixel, not from its middle
    to_part = shifted(0.5 - left, 0.5 - top) @ new_to_picture @ shifted(-0.5, -0.5)
    if abs(to_part[0, 1]) < 1e-12 * scale and to_part[0, 0] > 0:
        far = to_part @ [width, height, 1]
        box = (*to_part[:2, 2].tolist(), *far[:2].tolist())
        return np.asarray(part.resize((width, height), Image.Resampling.BICUBIC, box=box))
    if scale < 1:  # turning does not average: shrink before it
        size = math.ceil(part.width * scale), math.ceil(part.height * scale)
        whole = (0, 0, size[0] / scale, size[1] / scale)
        part = part.crop((0, 0, math.ceil(whole[2]), math.ceil(whole[3])))
        part = part.resize(size, Image.Resampling.BICUBIC, box=whole)
        to_part = np.diag([scale, scale, 1.0]) @ to_part
    coefficients = to_part[:2].ravel().tolist()
    turned = part.transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return np.asarray(turned)


def shifted(columns: float, rows: float) -> Array:
    """(3,3): the shift by so many pixels."""
    return np.array([[1.0, 0.0, columns], [0.0, 1.0, rows], [0.0, 0.0, 1.0]])


def refuse_outside(picture: Array, picture_to_new: Array, height: int, width: int) -> None:
    """Raises FacefoldError if less than LEAST_INSIDE of the new picture shows the old one."""
    row, column = np.mgrid[:height, :width].reshape(2, -1)
    at = np.linalg.solve(picture_to_new, np.stack([column, row, np.ones(height * width)]))
    rows, columns = picture.shape[:2]
    inside = (np.abs(2 * at[0] - columns + 1) < columns) & (np.abs(2 * at[1] - rows + 1) < rows)
    if (share := float(inside.mean())) < LEAST_INSIDE:
        fault = f"the picture shows {share:.0%} of the face's crop, expected {LEAST_INSIDE:.0%}"
        remedy = "check that the camera or the landmarks are those of this picture"
        raise FacefoldError(f"{fault}; {remedy}", Code.OUT_OF_PICTURE, {"inside": share})
