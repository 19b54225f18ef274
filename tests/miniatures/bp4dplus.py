"""BP4D+: frames of tasks from 0000, 83 landmarks of each elsewhere and from 0001, photos beside."""

from __future__ import annotations

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
    for stem, (expression, person) in FRAMES.items():
        subject, task, frame = stem.split("/")
        seen = head(person, expression)
        at = f"2D+3D/{stem}"
        # frame 0012's own landmarks are missing; those of 0011, which are there, are none of it
        marked = frame != "0012"
        number = int(frame) + marked
        landmarks = f"3DFeatures/{subject}_{task}_{number:04d}.bndplus"
        writing.scan(
            f"{at}.obj",
            seen,
            files.textured_obj(*writing.surface(seen), f"{frame}.mtl"),
            subject=subject,
            expression=task,
            neutral=False,
            landmarks=landmarks if marked else None,
            frame=int(frame),
        )
        writing.companion(f"{at}.mtl", files.material(f"{frame}.jpg"))
        writing.companion(f"{at}.jpg", files.photo)
        points = writing.to_file(scheme_points(seen.landmarks_mm, "bp4d83", NEAREST))
        points += 0.0 if marked else 500.0
        writing.companion(landmarks, files.rows("%.4f,%.4f,%.4f", points))
        writing.companion(f"3DFeatures/{task}/{subject}_{task}.mat", files.data(b"MATLAB"))
    writing.subjects["F001"] = {"sex": "female"}
    writing.subjects["M002"] = {"sex": "male"}
    writing.quarantine("2D+3D/F001/T1/351.obj", "does not fit")
    writing.quarantine("Physiology/F001/T1/BP_mmHg.txt", "no rule explains")
