"""Pictures laid out together, with lines of text, as one file."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import FacefoldError
from pipeline.text import printable
from pipeline.types import Array

LINE, MARGIN = 14, 8
"""Height of a line of text, and what is left free around pictures."""
RED, BLUE, GREEN = (200, 30, 40), (30, 90, 200), (20, 140, 60)
"""Landmarks of the subject's right, left and middle."""
INK, SOUND, FAULTY = (30, 30, 30), (20, 120, 50), (180, 20, 30)


def save_sheet(sheet: Image.Image, path: Path, remedy: str = "") -> None:
    """Writes a PNG. FacefoldError if it cannot be written, with the remedy."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format="PNG", optimize=True)
    except OSError as error:
        fault = f"the sheet cannot be written ({error.strerror})"
        raise FacefoldError(f"{path}: {'; '.join(filter(None, (fault, remedy)))}") from error


def write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, ink: Any) -> None:
    """A line of text."""
    draw.text(at, in_font(text), fill=ink, font=ImageFont.load_default_imagefont())


def save_grid(
    rows: Sequence[Sequence[Array]], path: Path | str, captions: Sequence[str] = ()
) -> None:
    """Rows of pictures, all of one size, as one PNG; `captions` are two lines above each column."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    head = 32 if captions else 0
    picture = Image.new("RGB", (grid.shape[1], grid.shape[0] + head), "white")
    picture.paste(Image.fromarray(grid), (0, head))
    font = ImageFont.load_default_imagefont()
    for i, text in enumerate(captions):
        at = 4 + i * grid.shape[1] // len(captions), 2
        lines = "\n".join(map(in_font, text.split("\n")))
        ImageDraw.Draw(picture).multiline_text(at, lines, fill="black", font=font)
    picture.save(path)


TYPOGRAPHY = {"–": "-", "—": "-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"', "−": "-"}
"""What stands for signs that the pictures' font lacks."""


def in_font(text: str) -> str:
    """One line in the letters of Pillow's own bitmap font, which are those of Latin-1.

    Of other letters with accents the accents are left out; what is in another alphabet, and what
    is no letter, is an escape such as `\\u4e2d`.
    """
    return "".join(map(_in_font, unicodedata.normalize("NFC", printable(text))))


def _in_font(letter: str) -> str:
    plain = TYPOGRAPHY.get(letter, letter)
    if not _latin(plain):
        plain = "".join(c for c in unicodedata.normalize("NFKD", letter) if c.isalnum())
    return plain if plain and _latin(plain) else ascii(letter)[1:-1]


def _latin(text: str) -> bool:
    return all(ord(c) < 256 for c in text)
