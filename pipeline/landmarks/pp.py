"""MeshLab picked points (`.pp`): XML with `<point x y z name active/>`."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats
from pipeline.landmarks.rows import landmark_bytes
from pipeline.types import RawLandmarks

UTF_16_STATED = re.compile(rb"<\?xml[^>]*utf-16[^>]*\?>", re.IGNORECASE)
"""A declaration that is wrong once the text is read as UTF-8."""


def read_pp(path: Path) -> RawLandmarks:
    """The active points with their names, in file order; inactive ones were never picked.

    Raises FormatError for broken XML, another document, and a point without coordinates.
    """
    data = UTF_16_STATED.sub(b"", landmark_bytes(path))
    if b"<!ENTITY" in data:  # of which a few stand for any amount of text, or for other files
        raise FormatError(path, "declares XML entities", "save it with MeshLab's point picking")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FormatError(path, f"not whole XML: {error}", COPY_AGAIN) from error
    points = [point for point in root.iter("point") if point.get("active", "1") != "0"]
    if root.tag != "PickedPoints" or not points:
        fault = f"a document {root.tag!r} with {len(points)} active points, expected PickedPoints"
        raise FormatError(path, fault, "save it with MeshLab's point picking")
    words = [point.get(axis, "missing") for point in points for axis in "xyz"]
    names = tuple(point.get("name", "") for point in points)
    return RawLandmarks(points=floats(path, words, "coordinates").reshape(-1, 3), names=names)
