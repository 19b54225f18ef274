"""NPHM: whole heads in the frame of their FLAME fits, the similarity of each beside it."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

SCANS = {
    "017/000": ("neutral", 48, 0.00412, True),
    "017/004": ("open", 48, 0.00405, False),
    "079/000": ("neutral", 49, 0.00371, True),
    "084/000": ("open", 50, 0.00388, False),
    "084/003": ("neutral", 50, 0.00393, True),
    "267/001": ("smile", 50, 0.00393, False),
}
"""Expression, person, s, and whether it is the person's neutral scan. Four times FLAME's metres
would be 0.004 throughout."""


def build(writing: Writing) -> None:
    for i, (stem, (expression, person, s, neutral)) in enumerate(SCANS.items()):
        subject, code = stem.split("/")
        # upright, of another size than the head; (v - t) R / s would be the scanner's frame, in mm
        seen = head(person, expression, "whole")
        rotation = Rotation.from_euler("xyz", [150.0 + i, 20.0, -80.0], degrees=True).as_matrix()
        t = np.array([0.1, -0.3, 0.02 * i])
        writing.scan(
            f"{stem}/scan.ply",
            seen,
            files.coloured_ply(seen.vertices_mm * s + t, seen.faces),
            subject=subject,
            expression=code,
            neutral=neutral,
            vertices_file=seen.truth_mm * s + t,
        )
        for name, value in (("s", s), ("R", rotation), ("t", t)):
            writing.companion(f"{stem}/{name}.npy", files.array(value))
        fitted = head(person, expression, "template")
        for name, word in (("flame", "fit of FLAME"), ("registration", "registration")):
            write = files.ply(fitted.vertices_mm * 0.004, fitted.faces)
            writing.exclude(f"{stem}/{name}.ply", word, write)
        writing.subjects[subject] = {}
    writing.exclude("079/017/scan.ply", "bad scan")
    writing.exclude("163/006/scan.ply", "invalid")
    writing.exclude("163/006/s.npy", "invalid", files.array(1.0))
    writing.quarantine("017/005/scan.ply", "needs 017/005/s.npy, which is not there")
    writing.companion("017/005/t.npy", files.array(np.zeros(3)))
    writing.quarantine("17/000/scan.ply", "does not fit")
    writing.quarantine("017/000/texture.png", "no rule explains")
