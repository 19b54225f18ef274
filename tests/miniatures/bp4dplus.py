"""BP4D+: frames of tasks with 83 landmarks in BP4D's order, each with its material and photo."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.expressions import BU83
from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, scheme_points

FRAMES = {
    "F001/T1/0000": ("neutral", 24),
    "F001/T1/0351": ("smile", 24),
    "M002/T8/0012": ("open", 25),
}
NEAREST = (*BU83[16:36], *BU83[:16], *BU83[36:])
"""The iBUG point nearest to each: brows come before eyes."""


def build(writing: Writing) -> None:
    # the axes are stated nowhere: these faces look along +x
    writing.canonical_to_file = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    for stem, (expression, person) in FRAMES.items():
        subject, task, frame = stem.split("/")
        seen = head(person, expression)
        at = f"2D+3D/{stem}"
        marked = frame != "0012"
        writing.scan(
            f"{at}.obj",
            seen,
            files.textured_obj(*writing.surface(seen), f"{frame}.mtl"),
            subject=subject,
            expression=task,
            neutral=False,
            landmarks=f"{at}.bndplus" if marked else None,
        )
        writing.companion(f"{at}.mtl", files.material(f"{frame}.jpg"))
        writing.companion(f"{at}.jpg", files.photo)
        if marked:
            points = writing.to_file(scheme_points(seen.landmarks_mm, "bp4d83", NEAREST))
            writing.companion(f"{at}.bndplus", files.rows("%.4f,%.4f,%.4f", points))
    writing.subjects["F001"] = {"sex": "female"}
    writing.subjects["M002"] = {"sex": "male"}
    writing.quarantine("2D+3D/F001/T1/351.obj", "does not fit")
    writing.quarantine("Physiology/F001/T1/BP_mmHg.txt", "no rule explains")
