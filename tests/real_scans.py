"""Real scans of the shared data, in millimetres, by name."""

from __future__ import annotations

from pathlib import Path

from pipeline.formats import format_of, read_scan
from pipeline.normalise import normalise
from pipeline.types import Scan

REAL_SCANS = {
    "flame_fitting/scan.obj": "m",
    "james/james.obj": "mm",
    "scalismo_faces/02.stl": "mm",
    "open/cfwen_face.off": "mm",
    "open/grading_head.ply": "mm",
}
"""File → its unit: a head, faces with and without fine detail, a graded mesh."""


def real_scan(shared_data: Path, name: str) -> Scan:
    """In the file's own axes."""
    path = shared_data / "scans" / name
    raw = read_scan(path, format_of(path))
    return normalise(raw, scan_id=name, unit=REAL_SCANS[name], axes=None)
