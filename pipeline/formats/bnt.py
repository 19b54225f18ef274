"""Range images of Bosphorus (`.bnt`): a grid of points seen by one camera on the side +z.

Little-endian: u16 rows, u16 columns, f64 z of the background, u16 length and bytes of the photo's
name, u32 number of values = 5 · rows · columns, then f64 blocks x, y, z, u, v, row by row from the
bottom. A pixel is background where x, y and z have its value.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, read_bytes
from pipeline.formats.foreign import foreign, not_this_format
from pipeline.formats.grid import grid_scan, refuse_size
from pipeline.formats.mesh import bytes_after
from pipeline.formats.texture import texture_beside
from pipeline.types import RawScan

HEAD = struct.Struct("<HHdH")


def read_bnt(path: Path) -> RawScan:
    """The pixels before the background as `grid_scan` joins them; the first is at the bottom left.

    `pixels` count in the grid, not in the photo, which is the texture where it is found. Raises
    FormatError for a file whose length is not what its header announces.
    """
    data = read_bytes(path)
    if len(data) < HEAD.size:
        raise FormatError(path, f"{len(data)} bytes, too short for a header", COPY_AGAIN)
    rows, columns, background, length = HEAD.unpack_from(data)
    start = HEAD.size + length + 4
    expected = start + 8 * 5 * rows * columns
    if len(data) < expected:
        fault = f"{len(data)} bytes, expected {expected} for {rows} rows · {columns} columns"
        if foreign(data):
            raise not_this_format(path, data, fault)
        raise FormatError(path, fault, "the file is cut off or no .bnt: " + COPY_AGAIN)
    refuse_size(path, rows, columns)
    left_out = bytes_after(path, data, expected)
    announced = int.from_bytes(data[start - 4 : start], "little")
    if announced != 5 * rows * columns:
        fault = f"{announced} values, expected 5 · {rows} rows · {columns} columns"
        raise FormatError(path, fault, "the file is damaged: " + COPY_AGAIN)
    blocks = np.frombuffer(data, "<f8", announced, start).reshape(5, rows, columns)
    points = np.moveaxis(blocks[:3], 0, -1)
    photo = data[HEAD.size : start - 4].rstrip(b"\0").decode("utf-8", errors="replace")
    image = texture_beside(path, [photo])
    valid = (points != background).any(axis=-1)
    scan = grid_scan(path, points, valid, texture_path=image, bottom_up=True)
    return replace(scan, left_out={**scan.left_out, **left_out})
