"""Calibration files: where the camera of a photo stands, and how its lens bends the picture.

To add a format, write a reader and its line of CALIBRATIONS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from pipeline.errors import FacefoldError, FormatError
from pipeline.formats.content import COPY_AGAIN, floats, read_text
from pipeline.formats.npz import arrays
from pipeline.refusals import Code
from pipeline.types import Array, Frozen
from pipeline.views.camera import Camera

FIELD_OF_TKA = re.compile(r"%(\w+)\s+([^%]*)")
RIGID = 1e-3
"""So far may a rotation matrix of a file be from orthogonal, which is rounding."""
SIDES_PX = 1.5
"""A picture is a scaled copy of the calibrated one if both scales agree to so many pixels."""
BAND = 128
"""Rows that are undistorted at once."""
NEWTON_STEPS = 12


class Lens(NamedTuple):
    """How a lens bends the plane at distance 1, r² = x² + y².

    Brown's model, as OpenCV has it, gives the bent place of a straight one: x (1 + k1 r² + k2 r⁴ +
    k3 r⁶) + 2 p1 x y + p2 (r² + 2 x²), likewise y. Tsai's ("A Versatile Camera Calibration
    Technique", IEEE J. Robotics and Automation, 1987, eq. 5) gives the straight place of a bent
    one, by k1 and k2 alone: then `straightens`.
    """

    k: tuple[float, float, float] = (0.0, 0.0, 0.0)
    p: tuple[float, float] = (0.0, 0.0)
    straightens: bool = False

    @property
    def is_straight(self) -> bool:
        return not any((*self.k, *self.p))

    def bent(self, plane: Array) -> Array:
        """(N,2) straight places -> (N,2) bent ones; NaN where the model has none."""
        squared = (plane**2).sum(axis=1)
        if self.straightens:
            radius = np.sqrt(squared)
            ratio = self._bent_radius(radius) / np.maximum(radius, 1e-12)
            return np.asarray(plane * ratio[:, None])
        radial = 1 + squared * (self.k[0] + squared * (self.k[1] + squared * self.k[2]))
        twice = 2 * plane.prod(axis=1)
        x = self.p[0] * twice + self.p[1] * (squared + 2 * plane[:, 0] ** 2)
        y = self.p[0] * (squared + 2 * plane[:, 1] ** 2) + self.p[1] * twice
        return np.asarray(plane * radial[:, None] + np.stack([x, y], axis=1))

    def _bent_radius(self, radius: Array) -> Array:
        """(N,) the r with r (1 + k1 r² + k2 r⁴ + k3 r⁶) = `radius`, by Newton's method."""
        k1, k2, k3 = self.k
        bent = radius.copy()
        with np.errstate(all="ignore"):
            for _ in range(NEWTON_STEPS):
                s = bent**2
                off = bent * (1 + s * (k1 + s * (k2 + s * k3))) - radius
                bent = bent - off / (1 + s * (3 * k1 + s * (5 * k2 + s * 7 * k3)))
            s = bent**2
            off = bent * (1 + s * (k1 + s * (k2 + s * k3))) - radius
            return np.where((np.abs(off) < 1e-9) & (bent >= 0), bent, np.nan)


STRAIGHT = Lens()


@dataclass(frozen=True, eq=False)
class Calibration(Frozen):
    """A camera as a file states it, in the source's unit and axes."""

    matrix_px: Array  # (3,3) float64, of the picture without the lens's bending
    source_to_camera: Array  # (4,4) float64, rigid
    size: tuple[int, int] | None
    """Height and width of the calibrated picture; None if the file does not say."""
    lens: Lens = STRAIGHT

    def __post_init__(self) -> None:
        self._check("matrix_px", (3, 3), np.float64)
        self._check("source_to_camera", (4, 4), np.float64)

    def camera(self, source_to_canonical: Array, height: int, width: int) -> Camera:
        """The camera of a straight picture of that size, in the canonical frame.

        `source_to_canonical` (4,4) may scale, as to millimetres. Raises FacefoldError if the
        picture is no scaled copy of the calibrated one.
        """
        rows, columns = self.size or (height, width)
        scale = width / columns
        if abs(rows * scale - height) > SIDES_PX * max(1.0, scale):
            fault = f"the photo has {width} · {height} pixels, its calibration is for"
            remedy = "one shape was expected: give the photo that was calibrated"
            raise FacefoldError(f"{fault} {columns} · {rows}; {remedy}", Code.PHOTO_APART)
        half = (scale - 1) / 2  # pixels count from the middle of the first
        to_picture = np.array([[scale, 0, half], [0, scale, half], [0, 0, 1]])
        pose = self.source_to_camera @ np.linalg.inv(source_to_canonical)
        pose[:3] /= np.cbrt(np.linalg.det(pose[:3, :3]))
        return Camera(to_picture @ self.matrix_px, pose, height, width)


def straightened(picture: Array, matrix_px: Array, lens: Lens) -> Array:
    """(H,W,3) uint8 of a bending lens -> what a pinhole camera of `matrix_px` sees; black where
    the photo does not reach. Bilinear."""
    if lens.is_straight:
        return picture
    height, width = picture.shape[:2]
    inverse = np.linalg.inv(matrix_px)
    straight = np.zeros_like(picture)
    for top in range(0, height, BAND):
        rows = slice(top, min(top + BAND, height))
        row, column = np.mgrid[rows, :width].reshape(2, -1)
        plane = (np.stack([column, row, np.ones(len(row))]).T @ inverse.T)[:, :2]
        at = lens.bent(plane) @ matrix_px[:2, :2].T + matrix_px[:2, 2]
        place = np.nan_to_num(at.T[::-1], nan=-1e6)
        for channel in range(picture.shape[2]):
            found = map_coordinates(picture[..., channel], place, order=1, prefilter=False)
            straight[rows, :, channel] = found.reshape(-1, width)
    return straight


def read_tka(path: Path, number: int | None = None) -> Calibration:
    """3dMD's `.tka`, a file a camera: Tsai's model in millimetres.

    %M rotation and %X %Y %Z place of the camera, %f focal length, %x %y size of a pixel, %a %b
    principal point, %K %K2 distortion of the sensor's millimetres, %is width and height. Raises
    FormatError for another content.
    """
    text = read_text(path)
    found = {name: value.split() for name, value in FIELD_OF_TKA.findall(text)}
    counts = {"M": 9, "is": 2} | dict.fromkeys(("X", "Y", "Z", "f", "x", "y", "a", "b"), 1)
    missing = [f"%{name}" for name, n in counts.items() if len(found.get(name, ())) != n]
    if missing:
        fault = f"no {', '.join(missing)} with its numbers, expected those of a Tsai calibration"
        raise FormatError(path, fault, "check the format", Code.NOT_THIS_FORMAT)
    values = {name: floats(path, words, f"%{name}") for name, words in found.items()}
    rotation = checked_rotation(path, values["M"].reshape(3, 3))
    place = np.concatenate([values[axis] for axis in "XYZ"])
    focal = float(values["f"][0])
    pixel = np.concatenate([values["x"], values["y"]])
    if not (focal > 0 and (pixel > 0).all() and (values["is"] >= 1).all()):
        fault = f"focal length {focal}, pixels of {pixel} mm, {values['is']} of them"
        raise FormatError(path, f"{fault}: expected all above 0", COPY_AGAIN)
    matrix = np.array([[focal / pixel[0], 0, 0], [0, focal / pixel[1], 0], [0, 0, 1.0]])
    matrix[:2, 2] = values["a"][0], values["b"][0]
    k1, k2 = (float(values[name][0]) if name in values else 0.0 for name in ("K", "K2"))
    lens = Lens((k1 * focal**2, k2 * focal**4, 0.0), straightens=True)
    width, height = values["is"].astype(int).tolist()
    return checked(path, matrix, rotation, -rotation @ place, (height, width), lens)


def read_params_json(path: Path, number: int | None = None) -> Calibration:
    """Camera `number` of FaceScape's `params.json`: K, Rt, distortion (OpenCV's k1 k2 p1 p2 k3),
    height and width. Raises FormatError if it is not there, or marked as not valid."""
    try:
        document = json.loads(read_text(path))
    except ValueError as error:
        raise FormatError(path, f"no JSON: {error}", COPY_AGAIN, Code.NOT_THIS_FORMAT) from error
    given = document if isinstance(document, dict) else {}
    wanted = ("K", "Rt", "height", "width", "valid")
    missing = [f"{number}_{name}" for name in wanted if f"{number}_{name}" not in given]
    if missing:
        raise no_camera(path, f"no {', '.join(missing)}")
    if not given[f"{number}_valid"]:
        raise no_camera(path, f"{number}_valid is false: the makers found the camera wrong")
    matrix = numbers(path, given, f"{number}_K")[:3, :3]
    pose = numbers(path, given, f"{number}_Rt")
    size = tuple(int(numbers(path, given, f"{number}_{side}")) for side in ("height", "width"))
    bends = numbers(path, given, f"{number}_distortion", ()).ravel()
    if matrix.shape != (3, 3) or pose.shape != (3, 4) or (len(bends) > 5 and bends[5:].any()):
        fault = f"K {matrix.shape}, Rt {pose.shape}, {len(bends)} distortions"
        remedy = "expected (3, 3), (3, 4) and at most 5"
        raise FormatError(path, f"{fault}, {remedy}", "check the file", Code.UNSUPPORTED)
    k1, k2, p1, p2, k3 = np.pad(bends, (0, max(0, 5 - len(bends))))[:5].tolist()
    rotation = checked_rotation(path, pose[:, :3])
    return checked(path, matrix, rotation, pose[:, 3], size, Lens((k1, k2, k3), (p1, p2)))


def read_cameras_npz(path: Path, number: int | None = None) -> Calibration:
    """Camera `number` of IDR's and H3DS's `cameras.npz`: world_mat_N is K [R | t].

    scale_mat_N, which takes a unit ball to the world, is not needed: scans are in the world.
    Raises FormatError if it is not there.
    """
    name = f"world_mat_{number}"
    found = arrays(path, (name,))
    if name not in found:
        raise no_camera(path, f"no {name}")
    matrix = np.asarray(found[name], np.float64)
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        fault = f"{name} is {matrix.shape}, expected (4, 4) finite numbers"
        raise FormatError(path, fault, COPY_AGAIN)
    intrinsic, rotation, shift = decomposed(matrix[:3])
    return checked(path, intrinsic, rotation, shift, None, STRAIGHT)


CALIBRATIONS: Mapping[str, Callable[[Path, int | None], Calibration]] = MappingProxyType(
    {"tka": read_tka, "params.json": read_params_json, "cameras.npz": read_cameras_npz}
)
"""Format -> reader of the camera of that number, which files of one camera do not need."""


def read_calibration(path: Path | str, format: str, number: int | None = None) -> Calibration:
    """The calibration in the source's unit and axes. Raises FormatError as the format's reader."""
    return CALIBRATIONS[format](Path(path), number)


def decomposed(projection: Array) -> tuple[Array, Array, Array]:
    """(3,4) K [R | t] up to a factor -> K with last element 1, R (3,3), t (3,); Hartley and
    Zisserman, Multiple View Geometry, 2004, section 6.2.4."""
    projection = projection * np.sign(np.linalg.det(projection[:, :3]))
    flip = np.eye(3)[::-1]
    q, r = np.linalg.qr((flip @ projection[:, :3]).T)  # RQ is QR of the rows in reverse
    upper, rotation = flip @ r.T @ flip, flip @ q.T
    signs = np.diag(np.sign(np.diag(upper)))
    upper, rotation = upper @ signs, signs @ rotation
    return upper / upper[2, 2], rotation, np.linalg.solve(upper, projection[:, 3])


def checked(
    path: Path,
    matrix: Array,
    rotation: Array,
    shift: Array,
    size: tuple[int, ...] | None,
    lens: Lens,
) -> Calibration:
    """Raises FormatError unless the camera is one: finite, focal lengths above 0."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, shift
    everything = np.concatenate([matrix.ravel(), pose.ravel(), lens.k, lens.p])
    if not np.isfinite(everything).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        fault = f"focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g}, expected numbers above 0"
        raise FormatError(path, fault, COPY_AGAIN)
    return Calibration(matrix, pose, None if size is None else (size[0], size[1]), lens)


def checked_rotation(path: Path, matrix: Array) -> Array:
    """The nearest rotation. Raises FormatError if the matrix is none but for rounding."""
    off = float(np.abs(matrix @ matrix.T - np.eye(3)).max())
    if not (off < RIGID and np.linalg.det(matrix) > 0):
        fault = f"its rotation is none: {off:.2g} from orthogonal, or a reflection"
        raise FormatError(path, fault, "check how the file writes rotations", Code.UNSUPPORTED)
    u, _, vh = np.linalg.svd(matrix)
    return np.asarray(u @ vh)


def numbers(path: Path, document: Mapping[str, Any], name: str, default: Any = None) -> Array:
    """An entry as float64. Raises FormatError if it is no number or array of them."""
    try:
        return np.asarray(document.get(name, default), np.float64)
    except (TypeError, ValueError) as error:
        raise FormatError(path, f"{name}: {error}", COPY_AGAIN) from error


def no_camera(path: Path, fault: str) -> FormatError:
    """The error for a file that has no camera for a photo."""
    return FormatError(path, fault, "leave the photo out, or correct `camera`", Code.COMPANION)
