"""VRML 2 (`.wrl`): one IndexedFaceSet, vertices as `Coordinate` lists them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats, integers, read_text
from pipeline.formats.mesh import checked_scan, fan_triangles
from pipeline.formats.texture import texture_beside
from pipeline.types import Array, RawScan

# what starts with a letter is found many times as fast as what starts with \b
POINTS = re.compile(r"Coordinate(?<=\bCoordinate)\s*\{\s*point\s*\[([^\]]*)(\]?)")
FACES = re.compile(r"coordIndex(?<=\bcoordIndex)\s*\[([^\]]*)(\]?)")
NUMBERS = re.compile(r"\[[-+.\deE,\s]*\]")
IMAGE = re.compile(r'\burl\s*(?:\[\s*)?"([^"]+)"')
TEXTURE_TRANSFORM = re.compile(r"\bTextureTransform\s*\{[^{}]*\}")
PLACEMENT = re.compile(r"\b(translation|rotation|scale)\s+([-+.\deE]+(?:[\s,]+[-+.\deE]+)*)")


def read_wrl(path: Path) -> RawScan:
    """The shape's points and triangles; texture seams do not split vertices.

    Raises FormatError for another header (VRML 1 included), a list without end, several shapes,
    and a Transform that moves the shape, which this reader does not follow.
    """
    text = read_text(path)
    if not text.startswith("#VRML V2.0"):
        fault = f"starts with {text[:10]!r}, expected '#VRML V2.0'"
        raise FormatError(path, fault, "export it as VRML 2")
    images = IMAGE.findall(NUMBERS.sub("[]", text))
    text = re.sub(r"#.*", "", text)
    outline = NUMBERS.sub("[]", text)
    refuse_moved(path, outline)
    vertices = floats(path, only_list(path, POINTS, text, "Coordinate point"), "points")
    if len(vertices) % 3:
        raise FormatError(path, f"{len(vertices)} coordinates, not a multiple of 3", COPY_AGAIN)
    corners = integers(path, only_list(path, FACES, text, "coordIndex"), "coordIndex")
    faces = triangles(path, corners)
    if re.search(r"\bccw\s+FALSE\b", outline):
        faces = faces[:, ::-1]
    return checked_scan(path, vertices.reshape(-1, 3), faces, None, texture_beside(path, images))


def only_list(path: Path, pattern: re.Pattern[str], text: str, name: str) -> list[str]:
    """The words of the one list `pattern` finds."""
    found = pattern.findall(text)
    if len(found) != 1:
        remedy = COPY_AGAIN if not found else "export the shapes as one mesh"
        raise FormatError(path, f"{len(found)} lists {name!r}, expected 1", remedy)
    inside, closing = found[0]
    if not closing:
        raise FormatError(path, f"the list {name!r} has no end", "it is cut off: " + COPY_AGAIN)
    return inside.replace(",", " ").split()


def triangles(path: Path, corners: Array) -> Array:
    """(F,3) of polygons that end in -1; the last may lack it."""
    if len(corners) and corners[-1] != -1:
        corners = np.append(corners, -1)
    ends = np.flatnonzero(corners == -1)
    return fan_triangles(path, corners[corners != -1], np.diff(ends, prepend=-1) - 1)


def refuse_moved(path: Path, text: str) -> None:
    """Refuse a Transform other than the identity."""
    for name, values in PLACEMENT.findall(TEXTURE_TRANSFORM.sub("", text)):
        numbers = floats(path, values.replace(",", " ").split(), name)
        # a rotation is an axis and an angle: only the angle turns
        still = {"translation": numbers, "rotation": numbers[3:], "scale": numbers - 1}[name]
        if still.any():
            fault = f"the shape is moved by `{name} {values.strip()}`"
            raise FormatError(path, fault, "export it with the Transform applied")
