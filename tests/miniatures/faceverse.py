"""FaceVerse: textured scans in a unit nobody states, the makers' fits beside them."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

SCANS = {"001_01": ("neutral", 64), "001_07": ("open", 64), "002_01": ("neutral", 65)}


def build(writing: Writing) -> None:
    # upside down, and looking along -z
    writing.canonical_to_file = np.diag([1.0, -1.0, -1.0])
    for stem, (expression, person) in SCANS.items():
        subject, code = stem.split("_")
        seen = head(person, expression, "whole")
        at = f"{stem}/{stem}"
        writing.scan(
            f"{at}.obj",
            seen,
            files.textured_obj(*writing.surface(seen), f"{stem}.mtl"),
            subject=subject,
            expression=code,
            neutral=code == "01",
        )
        writing.companion(f"{at}.mtl", files.material(f"{stem}.jpg"))
        writing.companion(f"{at}.jpg", files.photo)
        writing.exclude(f"{at}.ply", "fit of the makers' model")
        writing.subjects[subject] = {}
    writing.quarantine("1_1.obj", "does not fit")
    writing.quarantine("expressions.xlsx", "no rule explains")
