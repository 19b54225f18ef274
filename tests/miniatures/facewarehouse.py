"""FaceWarehouse: quads in a unit nobody states, photos with 2D landmarks, blendshapes beside."""

from __future__ import annotations

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, parallel, range_image

POSES = {"0": "neutral", "1": "open", "12": "smile"}


def build(writing: Writing) -> None:
    writing.unit_mm = 1000.0
    for tester in (1, 2):
        base = f"Tester_{tester}"
        for pose, expression in POSES.items():
            seen = head(20 + tester, expression)
            grid = range_image(seen, parallel(120, 120, 2.0, 300.0))
            vertices, faces = files.quads(*grid, longest=9.0)
            stem = f"{base}/TrainingPose/pose_{pose}"
            writing.scan(
                f"{stem}.obj",
                seen,
                files.obj(writing.to_file(vertices), faces),
                subject=str(tester),
                expression=pose,
                neutral=pose == "0",
            )
            writing.companion(f"{stem}.png", files.photo)
            writing.companion(f"{stem}.land", files.text("74\n" + "0.5 0.5\n" * 74))
        writing.exclude(f"{base}/Blendshape/shape_0.obj", "blendshape")
        writing.exclude(f"{base}/Blendshape/shape.bs", "in one file", files.data(bytes(12)))
        writing.subjects[str(tester)] = {}
    writing.quarantine("Tester_1/TrainingPose/pose_20.obj", "does not fit")
    writing.quarantine("Tester_2/list.xls", "no rule explains")
