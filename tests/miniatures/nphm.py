"""NPHM: whole heads at four times FLAME's metres, fits beside them, scans called bad."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

SCANS = {"017/000": ("neutral", 48), "017/004": ("open", 48), "079/000": ("neutral", 49)}


def build(writing: Writing) -> None:
    writing.unit_mm = 1000.0 / 4.0
    for stem, (expression, person) in SCANS.items():
        subject, code = stem.split("/")
        seen = head(person, expression, "whole")
        writing.scan(
            f"{stem}/scan.ply",
            seen,
            files.ply(*writing.surface(seen)),
            subject=subject,
            expression=code,
            neutral=code == "000",
        )
        for name, value in (("s", 1.0), ("R", np.eye(3)), ("t", np.zeros(3))):
            writing.companion(f"{stem}/{name}.npy", files.array(value))
        fitted = head(person, expression, "template")
        for name, word in (("flame", "fit of FLAME"), ("registration", "registration")):
            writing.exclude(f"{stem}/{name}.ply", word, files.ply(*writing.surface(fitted)))
        writing.subjects[subject] = {}
    writing.exclude("079/017/scan.ply", "bad scan")
    writing.exclude("084/000/scan.ply", "not the neutral scan")
    writing.exclude("084/000/s.npy", "not the neutral scan", files.array(1.0))
    writing.quarantine("17/000/scan.ply", "does not fit")
    writing.quarantine("017/000/texture.png", "no rule explains")
