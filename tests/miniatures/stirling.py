"""Stirling/ESRC: mixed-case names, second scans, broken material names, `.lnd` beside elsewhere."""

from __future__ import annotations

from tests.miniatures.files import (
    write_image,
    write_lnd,
    write_material,
    write_textured_obj,
)
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, scheme_points

STEMS = {
    "F/F1001_N": ("F1001", "", "N"),
    "F/f1002_NH": ("F1002", "", "NH"),
    "M/M1003_2_N": ("M1003", "", "N"),
    "M/m1004b_n": ("M1004", "B", "N"),
    "M/M1004_N": ("M1004", "", "N"),
}
"""Path below scans/ -> subject, session, expression."""


def build(writing: Writing) -> None:
    for person, (stem, (subject, session, expression)) in enumerate(STEMS.items()):
        sex, name = stem.split("/")
        seen = head(min(person, 3))
        landmarks = f"annotations/{sex}_3D_N/{name}.lnd"
        # half of the files name a material that is not there
        material = f"{name}.mtl" if person % 2 == 0 else "D:\\export\\head 1.mtl"
        writing.scan(
            f"scans/{stem}.obj",
            seen,
            lambda path, seen=seen, material=material: write_textured_obj(
                path, writing.to_file(seen.vertices_mm), seen.faces, material
            ),
            subject=subject,
            session=session,
            expression=expression,
            landmarks=landmarks if person != 2 else None,
        )
        writing.companion(
            f"scans/{stem}.mtl", lambda path, name=name: write_material(path, f"{name}.bmp")
        )
        writing.companion(f"scans/{stem}.bmp", write_image)
        if person != 2:  # one has no landmarks
            points = writing.to_file(scheme_points(seen.landmarks_mm, "fg7"))
            writing.companion(landmarks, lambda path, points=points: write_lnd(path, points))
        writing.subjects[subject] = {"sex": {"F": "female", "M": "male"}[sex]}
    writing.quarantine("scans/F/F1001_smile.obj", "does not fit")
    writing.quarantine("scans/readme.txt", "no rule explains")
    writing.exclude("scans/M/Thumbs.db", "operating system")
