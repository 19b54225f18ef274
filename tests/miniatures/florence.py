"""Florence: pitched heads and an upright one, several days, landmarks in a tree of their own."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

SCANS = {
    "subject_01/Model/frontal1/obj/110920150254": ("01", "110920"),
    "subject_01/Model/sidel/obj/110920150410": ("01", "110920"),
    "subject_08/Model/frontal1/obj/110915101500": ("08", "110915"),
    "subject_08/Model/frontal2/obj/120110093000": ("08", "120110"),
    "subject_03/Model/frontal1/obj/110921120000": ("03", "110921"),
    "subject_23/Model/frontal2/obj/110922120000": ("23", "110922"),
    "subject_44/Model/frontal1/obj/110923120000": ("44", "110923"),
}
PEOPLE = {"01": 14, "08": 15, "03": 16, "23": 17, "44": 16}
PITCH = np.radians(34.0)


def build(writing: Writing) -> None:
    # a nose that points 34 degrees down: (0, 0, 1) becomes (0, -sin, cos)
    s, c = np.sin(PITCH), np.cos(PITCH)
    pitched = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    for stem, (subject, session) in SCANS.items():
        writing.canonical_to_file = np.eye(3) if subject == "44" else pitched
        seen = head(PEOPLE[subject])
        vertices, faces = writing.surface(seen)
        name = stem.rsplit("/", 1)[1]
        marked = "side" not in stem
        landmarks = f"MICC_landmarks/{stem}.ljson"
        writing.scan(
            f"{stem}.obj",
            seen,
            files.textured_obj(vertices, faces, f"{name}.mtl"),
            subject=subject,
            session=session,
            landmarks=landmarks if marked and subject != "23" else None,
        )
        writing.companion(f"{stem}.mtl", files.material(f"{name}.bmp"))
        writing.companion(f"{stem}.bmp", files.photo)
        if marked:
            points = writing.to_file(seen.landmarks_mm)
            # those of subject 23, frontal2, are bad, and no rule must read them
            points = points[::-1] if subject == "23" else points
            group = {"landmarks": {"points": points.round(4).tolist()}}
            writing.companion(landmarks, files.table({"version": 2, "groups": {"LJSON": group}}))
        as_vrml = stem.replace("/obj/", "/vrml/")
        writing.exclude(f"{as_vrml}.wrl", "as VRML", files.text("#VRML V2.0 utf8\n"))
        writing.subjects[subject] = {}
    writing.quarantine("subject_01/Model/frontal3/obj/110920150254.obj", "does not fit")
    writing.exclude("subject_01/Video/Indoor-Cooperative.mjpg", "without calibration")
    writing.quarantine("subject_01/notes.txt", "no rule explains")
