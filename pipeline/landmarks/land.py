"""FaceWarehouse `.land`: a count, then rows `x y` as shares of a photo's size, y from its bottom.

The photo's size is nowhere in the file; it is the one of the PNG of the same name beside it.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, opened
from pipeline.formats.texture import beside
from pipeline.landmarks.rows import number_table, word_rows
from pipeline.types import RawLandmarks

PNG_START = b"\x89PNG\r\n\x1a\n"


def read_land(path: Path) -> RawLandmarks:
    """Pixels of the photo, half a pixel less than its share of the size: 0 is a pixel's middle.

    Raises FormatError for another number of rows than stated, and without the photo.
    """
    first, *rows = word_rows(path)
    if len(first) != 1 or first[0] != str(len(rows)):
        fault = (
            f"starts with {' '.join(first)[:40]!r} before {len(rows)} rows, expected their count"
        )
        raise FormatError(path, fault, COPY_AGAIN)
    share = number_table(path, rows, 2, "x y")
    width, height = png_size(path, path.with_suffix(".png").name)
    return RawLandmarks(pixels=np.stack([share[:, 0] * width, (1 - share[:, 1]) * height], 1) - 0.5)


def png_size(path: Path, name: str) -> tuple[int, int]:
    """Width and height, from the image's header. Raises FormatError of `path` without it."""
    image, header = beside(path, name), b""
    if image is not None:
        with opened(image) as stream:
            header = stream.read(24)
    if len(header) < 24 or not header.startswith(PNG_START):
        fault = f"its rows are shares of the size of a photo, and {name} beside it is no PNG"
        raise FormatError(path, fault, f"put {name} beside it")
    width, height = struct.unpack(">II", header[16:])
    return width, height
