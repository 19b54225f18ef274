"""Photos: JPEG, PNG, BMP and PPM files as RGB pixels, `.gz` or not.

Pixels are those that the file stores, for which grids, calibrations and landmarks count: nothing is
turned on decoding. `upright` turns a photo once its camera is known.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, read_bytes
from pipeline.formats.foreign import not_this_format
from pipeline.refusals import Code
from pipeline.types import Array
from pipeline.views.camera import Camera

FORMATS = ("JPEG", "PNG", "BMP", "PPM")
MAX_PIXELS = 1 << 26
"""Of one photo: 67 million, 200 MB of memory."""
AS_STORED = 1
"""The orientation tag of a picture that is shown as it is stored."""
DEEP_GREY = ("I;16", "I;16B", "I;16L", "I")
SHALLOW = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")


def read_photo(path: Path | str, *, ignore_orientation: bool = False) -> Array:
    """(H,W,3) uint8 RGB: grey is repeated, 16 bits become 8, transparent pixels black.

    A photo with an orientation tag is refused, since landmarks may be for it turned or not;
    `ignore_orientation` takes its pixels as they are stored, as a range image or a calibration
    counts them. Raises FormatError for another format, more than MAX_PIXELS and damaged files.
    """
    path = Path(path)
    return decoded_photo(path, read_bytes(path), ignore_orientation=ignore_orientation)


def decoded_photo(
    path: Path, data: bytes, *, ignore_orientation: bool = False, side_px: int | None = None
) -> Array:
    """As `read_photo`, of content that lies within the file `path`, or is all of it.

    A JPEG of more than twice `side_px` is decoded at a half, a quarter or an eighth of its size,
    in as much of its time and memory, but never at less than `side_px`.
    """
    try:
        with quiet(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            refuse_size(path, image.width, image.height)
            if not ignore_orientation:
                refuse_orientation(path, image)
            if side_px is not None:
                image.draft(image.mode, (side_px, side_px))
            return rgb(path, image)
    except UnidentifiedImageError as error:
        fault = f"starts with {data[:8]!r}, expected a JPEG, PNG, BMP or PPM image"
        raise not_this_format(path, data, fault) from error
    except Image.DecompressionBombError as error:
        fault = f"more than {MAX_PIXELS} pixels"
        raise FormatError(path, fault, "make it smaller", Code.UNSUPPORTED) from error
    except (OSError, SyntaxError, ValueError, IndexError) as error:
        raise FormatError(path, f"not a whole image: {error}", COPY_AGAIN) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings: of damaged EXIF data, beside which pixels are whole, and of sizes that are
    refused anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def refuse_size(path: Path, width: int, height: int) -> None:
    """Raises FormatError for more than MAX_PIXELS, before any is read."""
    if width * height > MAX_PIXELS:
        fault = f"{width} · {height} pixels, expected at most {MAX_PIXELS}"
        raise FormatError(path, fault, "make it smaller", Code.UNSUPPORTED)


def refuse_orientation(path: Path, image: Image.Image) -> None:
    """Raises FormatError for a tag that has viewers turn or mirror the photo."""
    tag = image.getexif().get(ExifTags.Base.Orientation, AS_STORED)
    if tag != AS_STORED:
        fault = f"EXIF orientation {tag}: its landmarks may be for it turned or not"
        remedy = "save the photo without the tag, turned as its landmarks count"
        raise FormatError(path, fault, remedy, Code.UNSUPPORTED)


def rgb(path: Path, image: Image.Image) -> Array:
    """(H,W,3) uint8. Raises FormatError for colours that have no common meaning."""
    if image.mode in DEEP_GREY:
        deep = np.asarray(image).astype(np.int64)
        grey = np.clip((deep * 255 + 32767) // 65535, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode not in SHALLOW:
        fault = f"pixels of mode {image.mode}, expected grey or RGB"
        raise FormatError(path, fault, "save it as 8-bit RGB", Code.UNSUPPORTED)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), clear)
    return np.array(image.convert("RGB"))


def upright(picture: Array, camera: Camera) -> tuple[Array, Camera]:
    """Picture and camera turned by quarters until the head's +y points up in the picture.

    Pixels are moved, none is resampled: rigs often hold their cameras on the side.
    """
    up = camera.canonical_to_camera[:2, 1]
    # on the side, up is to the right (1, 0) or left; turned upright it is (0, -1)
    quarters = round(math.atan2(up[0], -up[1]) / (math.pi / 2)) % 4
    height, width = picture.shape[:2]
    to_new = {
        0: [[1, 0, 0], [0, 1, 0]],
        1: [[0, 1, 0], [-1, 0, width - 1]],
        2: [[-1, 0, width - 1], [0, -1, height - 1]],
        3: [[0, -1, height - 1], [1, 0, 0]],
    }[quarters]
    turned = np.ascontiguousarray(np.rot90(picture, quarters))
    return turned, quarter_turned(camera, np.array([*to_new, [0, 0, 1]], np.float64), quarters)


def quarter_turned(camera: Camera, picture_to_new: Array, quarters: int) -> Camera:
    """The camera turned about its own axis, so that its matrix stays upper triangular."""
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.matrix_power(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), quarters)
    matrix = picture_to_new @ camera.matrix_px @ turn[:3, :3].T
    sides = (camera.height, camera.width)
    height, width = sides[::-1] if quarters % 2 else sides
    return Camera(matrix, turn @ camera.canonical_to_camera, height, width)
