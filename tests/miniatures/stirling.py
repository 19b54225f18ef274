"""Stirling/ESRC: mixed-case names, repeated scans, broken material names, landmarks elsewhere."""

from __future__ import annotations

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, scheme_points

STEMS = {
    "F/F1001_N": ("F1001", "", "N"),
    "F/f1002_NH": ("F1002", "", "NH"),
    "M/M1003_2_N": ("M1003", "", "N"),
    "M/m1004b_n": ("M1004", "B", "N"),
    "M/M1004_N_2": ("M1004", "", "N"),
}
"""Path below scans/ -> subject, session, expression."""


def build(writing: Writing) -> None:
    for i, (stem, (subject, session, expression)) in enumerate(STEMS.items()):
        sex, name = stem.split("/")
        seen = head(min(i, 3))
        marked = i != 2
        landmarks = f"annotations/{sex}_3D_N/{name}.lnd"
        # every other file names a material that is not there
        library = f"{name}.mtl" if i % 2 == 0 else "D:\\export\\head 1.mtl"
        writing.scan(
            f"scans/{stem}.obj",
            seen,
            files.textured_obj(*writing.surface(seen), library),
            subject=subject,
            session=session,
            expression=expression,
            landmarks=landmarks if marked else None,
        )
        writing.companion(f"scans/{stem}.mtl", files.material(f"{name}.bmp"))
        writing.companion(f"scans/{stem}.bmp", files.photo)
        if marked:
            points = writing.to_file(scheme_points(seen.landmarks_mm, "fg7"))
            writing.companion(landmarks, files.lnd(points))
        writing.subjects[subject] = {"sex": {"F": "female", "M": "male"}[sex]}
    writing.companion("Subset_2D_FG2018/HQ/F1001_001.jpg", files.photo)
    writing.quarantine("scans/F/F1001_smile.obj", "does not fit")
    writing.quarantine("scans/readme.txt", "no rule explains")
    writing.exclude("scans/M/Thumbs.db", "operating system")
