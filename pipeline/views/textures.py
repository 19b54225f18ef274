"""The colours of a scan's surface: its texture image, sampled without aliasing.

A texture has many more pixels than a picture of it. So it is kept at half the size, a quarter, and
so on (Williams, "Pyramidal parametrics", SIGGRAPH 1983), and each sample is taken between the two
sizes at which one of the picture's pixels covers about one of the texture's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.formats.content import read_bytes
from pipeline.types import Array, RawScan
from pipeline.views.photos import decoded_photo

INSIDE = Path("the image inside the scan's file")
LARGEST_PX, SMALLEST_PX = 4096, 4
"""Sides of a texture's sizes that are kept: a view shows no finer one."""


@dataclass(frozen=True, eq=False)
class Texture:
    """An image at all its sizes; beyond its edges it repeats, as OBJ, VRML and glTF have it."""

    sizes: tuple[Array, ...]  # (H,W,3) uint8 RGB, row 0 at the top; each half as large as the last

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the whole image, pixels."""
        height, width = self.sizes[0].shape[:2]
        return height, width

    def sample(self, uv: Array, covered_px: Array) -> Array:
        """(N,3) float32, 0 … 255, at uv (N,2): u right, v up, the image from 0 to 1.

        covered_px (N,): pixels of the whole image that a sample stands for, as the side of a
        square. Bilinear within a size, linear between two.
        """
        finest = np.log2(np.clip(covered_px, 1.0, 2.0 ** (len(self.sizes) - 1)))
        lower = np.minimum(finest.astype(np.int64), max(len(self.sizes) - 2, 0))
        share = (finest - lower).astype(np.float32)
        found = np.zeros((len(uv), 3), np.float32)
        for i, image in enumerate(self.sizes):
            weight = np.where(lower == i, 1 - share, np.where(lower == i - 1, share, 0))
            used = np.flatnonzero(weight > 0)
            if len(used):
                found[used] += weight[used, None] * bilinear(image, uv[used])
        return found


def texture_of_image(image: Array) -> Texture:
    """(H,W,3) uint8 RGB -> the texture; larger images are halved until they are small enough."""
    times = 1 << max(0, (max(image.shape[:2]) - 1).bit_length() - LARGEST_PX.bit_length() + 1)
    sizes = [image if times == 1 else np.asarray(Image.fromarray(image).reduce(times))]
    while min(sizes[-1].shape[:2]) >= 2 * SMALLEST_PX:
        sizes.append(np.asarray(Image.fromarray(sizes[-1]).reduce(2)))
    return Texture(tuple(sizes))


def texture_of(raw: RawScan) -> Texture | None:
    """The texture that the scan's file names or holds; None if it names none, or has no texture
    coordinates for it.

    The image may be JPEG, PNG, BMP or PPM, `.gz` or not. Its EXIF orientation counts for nothing:
    texture coordinates are for the pixels as stored. Raises FormatError for an image of another
    format, of too many pixels (`photos.MAX_PIXELS`) or damaged.
    """
    if raw.uv is None:
        return None
    path, data = INSIDE, raw.texture_bytes
    if data is None:
        if raw.texture_path is None:
            return None
        path, data = raw.texture_path, read_bytes(raw.texture_path)
    image = decoded_photo(path, data, ignore_orientation=True, side_px=LARGEST_PX)
    return texture_of_image(image)


def bilinear(image: Array, uv: Array) -> Array:
    """(H,W,3), (N,2) -> (N,3) float32; the middle of the pixel at the bottom left is at u = 0.5/W,
    v = 0.5/H, and the image repeats."""
    height, width = image.shape[:2]
    across = uv[:, 0].astype(np.float64) * width - 0.5
    down = (1.0 - uv[:, 1].astype(np.float64)) * height - 0.5
    left, top = np.floor(across), np.floor(down)
    right_share, lower_share = (across - left)[:, None], (down - top)[:, None]
    left, top = left.astype(np.int64) % width, top.astype(np.int64) % height
    right, bottom = (left + 1) % width, (top + 1) % height
    pixels = image.reshape(-1, 3)
    upper = (
        pixels[top * width + left] * (1 - right_share) + pixels[top * width + right] * right_share
    )
    lower = (
        pixels[bottom * width + left] * (1 - right_share)
        + pixels[bottom * width + right] * right_share
    )
    found: Array = (upper * (1 - lower_share) + lower * lower_share).astype(np.float32)
    return found
