"""Sheets of views: each picture, its parts and landmarks over it, and the shaded mesh beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.flame.model import PARTS
from pipeline.pictures.sheets import GREEN, INK, LINE, MARGIN, RED, save_sheet, write
from pipeline.types import Array

COLOURS = np.array(
    [
        (214, 39, 40),
        (31, 119, 180),
        (255, 127, 14),
        (23, 190, 207),
        (227, 119, 194),
        (148, 103, 189),
        (44, 160, 44),
        (240, 220, 150),
    ],
    np.uint8,
)
"""Of PARTS, in their order."""
PAINT = 0.55
"""Share of a part's colour in what is painted over."""
LEGEND = "landmarks: green seen, red hidden"


class ShownView(NamedTuple):
    """A view as it is drawn."""

    image: Array  # (H,W,3) uint8
    parts: Array  # (8,H,W) bool, in the order of PARTS
    landmarks_px: Array  # (L,2), NaN where missing
    landmark_seen: Array  # (L,) bool
    shading: Array  # (H,W) uint8
    caption: str
    """Such as its kind and name."""


def save_views(path: Path | str, views: Sequence[ShownView], per_row: int = 2) -> None:
    """One PNG of views of one size, `per_row` beside each other, each with its caption above.

    Raises FacefoldError if it cannot be written.
    """
    strips = [strip(view) for view in views]
    height, width = strips[0].shape[:2] if strips else (0, 0)
    cell, head = height + LINE + MARGIN, LINE + 2 * MARGIN
    rows = -(-len(strips) // per_row)
    wide = per_row * (width + MARGIN) + MARGIN
    sheet = Image.new("RGB", (wide, head + rows * cell), "white")
    draw = ImageDraw.Draw(sheet)
    _legend(draw)
    for i, (one, view) in enumerate(zip(strips, views, strict=True)):
        left = MARGIN + i % per_row * (width + MARGIN)
        top = head + i // per_row * cell
        write(draw, (left, top), view.caption, INK)
        sheet.paste(Image.fromarray(one), (left, top + LINE))
    save_sheet(sheet, Path(path))


def strip(view: ShownView) -> Array:
    """(H,4W,3) uint8: the picture, its parts over it, its landmarks, and the shaded mesh."""
    grey = np.repeat(view.shading[..., None], 3, axis=2)
    return np.concatenate([view.image, painted(view.image, view.parts), dotted(view), grey], axis=1)


def painted(image: Array, parts: Array) -> Array:
    """(H,W,3) uint8, (8,H,W) bool -> the picture with each part in its colour."""
    found = image.astype(np.float64)
    for mask, colour in zip(parts, COLOURS, strict=True):
        found[mask] = (1 - PAINT) * found[mask] + PAINT * colour
    return found.round().astype(np.uint8)


def dotted(view: ShownView) -> Array:
    """The picture with its landmarks."""
    picture = Image.fromarray(view.image)
    draw = ImageDraw.Draw(picture)
    for (x, y), seen in zip(view.landmarks_px, view.landmark_seen, strict=True):
        if np.isfinite([x, y]).all():
            draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=GREEN if seen else RED)
    return np.asarray(picture)


def _legend(draw: ImageDraw.ImageDraw) -> None:
    left, font = MARGIN, ImageFont.load_default_imagefont()
    for name, colour in zip(PARTS, COLOURS.tolist(), strict=True):
        draw.rectangle((left, MARGIN, left + 10, MARGIN + 10), fill=tuple(colour))
        text = name.replace("_", " ")
        write(draw, (left + 14, MARGIN), text, INK)
        left += 14 + int(draw.textlength(text, font)) + 14
    write(draw, (left, MARGIN), LEGEND, INK)
