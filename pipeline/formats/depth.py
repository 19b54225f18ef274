"""Depth images: 16-bit PNG, and NPZ with an array `depth`; the camera comes from the registry.

The points have the camera's axes: +x right, +y up, the camera at the origin looks along −z.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, read_bytes
from pipeline.formats.foreign import not_this_format
from pipeline.formats.grid import grid_scan, refuse_size
from pipeline.formats.mesh import bytes_after
from pipeline.formats.npz import arrays, without_batch
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

GREY = {"L": np.uint8, "I;16": np.uint16, "I": np.int32}
SATURATED = 65535
START, END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
WRONG = Code.NOT_THIS_FORMAT
"""The registry says of the image what it is not."""
NAME_THE_CAMERA = "give fx, fy, cx and cy in pixels, or pixel_size for parallel rays"


@dataclass(frozen=True)
class Pinhole:
    """Focal lengths and principal point in pixels, counted from the top left pixel's middle."""

    fx: float
    fy: float
    cx: float
    cy: float

    def points(self, depth: Array) -> Array:
        """(R,C,3) of the distances (R,C) along the view."""
        down, right = rows_and_columns(depth)
        x, y = (right - self.cx) / self.fx * depth, (down - self.cy) / self.fy * depth
        return np.stack([x, -y, -depth], axis=-1)


@dataclass(frozen=True)
class ParallelRays:
    """Rays `pixel_size` apart in the source's unit; x and y count from the image's middle."""

    pixel_size: float

    def points(self, depth: Array) -> Array:
        """(R,C,3) of the distances (R,C) along the view."""
        down, right = rows_and_columns(depth)
        middle_y, middle_x = (np.array(depth.shape) - 1) / 2
        x, y = self.pixel_size * (right - middle_x), self.pixel_size * (down - middle_y)
        return np.stack(np.broadcast_arrays(x, -y, -depth), axis=-1)


def rows_and_columns(image: Array) -> tuple[Array, Array]:
    """(R,1) and (1,C)."""
    rows, columns = image.shape
    return np.arange(rows)[:, None], np.arange(columns)[None]


Camera = Pinhole | ParallelRays


def read_png(
    path: Path,
    *,
    fx: float | None = None,
    fy: float | None = None,
    cx: float | None = None,
    cy: float | None = None,
    pixel_size: float | None = None,
    step: float = 1.0,
) -> RawScan:
    """A grey image of 8 or 16 bits as `grid_scan` joins it; 0, and 65535 of 16 bits, is no reading.

    Grey values times `step` are distances along the view in the source's unit, from the camera, or
    for parallel rays from any plane; a negative step is for images that are brighter in front.
    Options: see Camera. Raises FormatError for a photo, a camera that is not one, and a damaged
    file.
    """
    camera = checked_camera(path, fx, fy, cx, cy, pixel_size)
    grey, left_out = grey_values(path)
    valid = (grey != 0) & ((grey != SATURATED) | (grey.dtype == np.uint8))
    scan = depth_scan(path, grey, valid, camera, step)
    return replace(scan, left_out={**scan.left_out, **left_out})


def read_depth_npz(
    path: Path,
    *,
    fx: float | None = None,
    fy: float | None = None,
    cx: float | None = None,
    cy: float | None = None,
    pixel_size: float | None = None,
    step: float = 1.0,
) -> RawScan:
    """`depth` (R,C) numbers as `grid_scan` joins them; 0 and what is not finite is no reading.

    The camera is the file's own `intrinsics`, a (3,3) matrix fx 0 cx, 0 fy cy, 0 0 1, or else the
    options, as `read_png` has them. Raises FormatError where both or neither are given.
    """
    found = arrays(path, ("depth", "intrinsics"))
    if "depth" not in found:
        remedy = "save it with depth= and intrinsics="
        raise FormatError(path, "no array 'depth'", remedy, Code.UNSUPPORTED)
    depth = without_batch(found["depth"])
    if depth.ndim != 2 or depth.dtype.kind not in "fiu":
        fault = f"depth is {depth.dtype} {depth.shape}, expected (rows, columns) of numbers"
        raise FormatError(path, fault, "save it in that shape and type", Code.UNSUPPORTED)
    refuse_size(path, *depth.shape)
    given = (fx, fy, cx, cy, pixel_size)
    if "intrinsics" in found:
        if any(value is not None for value in given):
            fault = "the file has intrinsics and the options name a camera as well"
            raise FormatError(path, fault, "leave fx, fy, cx, cy and pixel_size out", WRONG)
        given = (*of_matrix(path, found["intrinsics"]), None)
    camera = checked_camera(path, *given)
    return depth_scan(path, depth, (depth != 0) & np.isfinite(depth), camera, step)


def of_matrix(path: Path, matrix: Array) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of a pinhole's matrix."""
    known = matrix.shape == (3, 3) and matrix.dtype.kind in "fiu"
    if not known or (matrix[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]] != (0, 0, 0, 0, 1)).any():
        fault = f"intrinsics are {matrix.tolist()}, expected [fx 0 cx, 0 fy cy, 0 0 1]"
        raise FormatError(path, fault, "save the pinhole's matrix without skew", Code.UNSUPPORTED)
    (fx, _, cx), (_, fy, cy), _ = matrix.astype(np.float64).tolist()
    return fx, fy, cx, cy


def checked_camera(
    path: Path,
    fx: float | None,
    fy: float | None,
    cx: float | None,
    cy: float | None,
    pixel_size: float | None,
) -> Camera:
    """Raises FormatError for no camera, half of one, two, and sizes that are not positive."""
    given = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "pixel_size": pixel_size}
    known = {name: value for name, value in given.items() if value is not None}
    for name, value in known.items():
        if not math.isfinite(value) or (name not in ("cx", "cy") and value <= 0):
            fault = f"{name} is {value}, expected a length"
            raise FormatError(path, fault, NAME_THE_CAMERA, WRONG)
    if known.keys() == {"fx", "fy", "cx", "cy"}:
        return Pinhole(**known)
    if known.keys() == {"pixel_size"}:
        return ParallelRays(**known)
    fault = f"the camera is given by {', '.join(known) or 'nothing'}"
    raise FormatError(path, fault, NAME_THE_CAMERA, WRONG)


def depth_scan(path: Path, values: Array, valid: Array, camera: Camera, step: float) -> RawScan:
    """The scan of the values (R,C) times `step` that are valid (R,C)."""
    parallel = isinstance(camera, ParallelRays)
    if not math.isfinite(step) or step == 0 or (step < 0 and not parallel):
        fault = f"step is {step}, expected the distance that a value of 1 means"
        raise FormatError(path, fault, "give a positive one; negative only with pixel_size", WRONG)
    if not parallel and (values[valid] < 0).any():
        fault = f"depths from {values[valid].min()}, expected distances before the camera"
        raise FormatError(path, fault, "save no reading as 0")
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
        points = camera.points(np.where(valid, values, 0) * step)
    return grid_scan(path, points, valid)


def grey_values(path: Path) -> tuple[Array, dict[str, int]]:
    """(R,C) of a PNG, uint8, uint16 or int32, and what is left out.

    Raises FormatError for another mode or image type.
    """
    from PIL import Image  # only here: landmarks and registration import this package without it

    data = read_bytes(path)
    if not data.startswith(START):
        raise not_this_format(path, data, f"starts with {data[:8]!r}, expected a PNG image")
    end = data.rfind(END) + len(END)
    if end < len(END):  # Pillow reads one that is cut off behind its pixels
        raise FormatError(path, "not a whole PNG image", COPY_AGAIN)
    left_out = bytes_after(path, data, end)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                refuse_size(path, image.height, image.width)
                if image.mode not in GREY:
                    fault = f"a PNG of mode {image.mode}, expected grey values of 8 or 16 bits"
                    remedy = "use the depth image, not the photo"
                    raise FormatError(path, fault, remedy, Code.UNSUPPORTED)
                return np.asarray(image, GREY[image.mode]), left_out
    except (
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        raise FormatError(path, f"not a whole PNG image: {error}", COPY_AGAIN) from error
