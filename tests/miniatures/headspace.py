"""Headspace: tilted whole heads, vertex indices from 1, texts about people, repeated captures."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, scheme_points

SCANS = {
    "00012/140316113024": "F",
    "00012/140316114500": "F",
    "00377/140402101112": "M",
}
BASE = "headspaceOnline/subjects"


def build(writing: Writing) -> None:
    # upright after -45 degrees about x and then -45 degrees about y
    h = np.sqrt(0.5)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, h, -h], [0.0, h, h]])
    about_y = np.array([[h, 0.0, h], [0.0, 1.0, 0.0], [-h, 0.0, h]])
    writing.canonical_to_file = about_x @ about_y
    for i, (stem, gender) in enumerate(SCANS.items()):
        subject, capture = stem.split("/")
        seen = head(18 + (subject == "00377"), kind="whole")
        vertices, faces = writing.surface(seen)
        at = f"{BASE}/{stem}"
        landmarks = f"{BASE}/{subject}/ldmks{capture}.txt" if i != 1 else None
        writing.scan(
            f"{at}.obj",
            seen,
            files.textured_obj(vertices, faces, f"{capture}.mtl" if i else "..\\scan.mtl"),
            subject=subject,
            session=capture,
            landmarks=landmarks,
        )
        if landmarks:
            points = writing.to_file(scheme_points(seen.landmarks_mm, "headspace68"))
            near = files.nearest(vertices, points)[:, None] + 1
            writing.companion(landmarks, files.rows("%d", near))
        writing.companion(f"{at}.mtl", files.material(f"{capture}.bmp"))
        writing.companion(f"{at}.bmp", files.photo)
        if i != 1:
            lines = (f"id:{subject}", f"gender:{gender}", f"age:{30 + i}", "beard:none")
            lines += ("declaredethnicGroup:White British", "expression:neutral")
            told = files.text("\n".join(lines) + "\n")
            writing.companion(f"{BASE}/{subject}/{subject}_person.txt", told)
        writing.subjects[subject] = {
            "sex": {"F": "female", "M": "male"}[gender],
            "age": "32" if subject == "00377" else "30",
            "ancestry": "White British",
            "beard": "none",
            "spectacles": "",
            "expression": "neutral",
            "quality": "",
        }
    writing.quarantine(f"{BASE}/00012/notes.doc", "no rule explains")
    writing.quarantine(f"{BASE}/00012/final.obj", "does not fit")
