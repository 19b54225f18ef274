"""Florence: pitched heads, subjects that span sessions, faulty subjects, everything in VRML too."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, scheme_points

SCANS = {
    "subject_01/Model/frontal1/obj/110920150254": ("01", "110920"),
    "subject_01/Model/sidel/obj/110920150410": ("01", "110920"),
    "subject_08/Model/frontal1/obj/110915101500": ("08", "110915"),
    "subject_08/Model/frontal2/obj/120110093000": ("08", "120110"),
}
PITCH = np.radians(34.0)


def build(writing: Writing) -> None:
    # a nose that points 34 degrees down: (0, 0, 1) becomes (0, -sin, cos)
    s, c = np.sin(PITCH), np.cos(PITCH)
    writing.canonical_to_file = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    for stem, (subject, session) in SCANS.items():
        seen = head(14 if subject == "01" else 15)
        vertices, faces = writing.surface(seen)
        name = stem.rsplit("/", 1)[1]
        marked = "side" not in stem
        writing.scan(
            f"{stem}.obj",
            seen,
            files.textured_obj(vertices, faces, f"{name}.mtl"),
            subject=subject,
            session=session,
            landmarks=f"{stem}.txt" if marked else None,
        )
        writing.companion(f"{stem}.mtl", files.material(f"{name}.bmp"))
        writing.companion(f"{stem}.bmp", files.photo)
        if marked:
            points = writing.to_file(scheme_points(seen.landmarks_mm, "florence68"))
            writing.companion(f"{stem}.txt", files.rows("%.4f %.4f %.4f", points))
        as_vrml = stem.replace("/obj/", "/vrml/")
        writing.exclude(f"{as_vrml}.wrl", "as VRML", files.text("#VRML V2.0 utf8\n"))
        writing.subjects[subject] = {}
    for subject in ("03", "27", "30"):
        stem = f"subject_{subject}/Model/frontal1/obj/110921120000"
        writing.exclude(f"{stem}.obj", f"subject {subject} as faulty")
        writing.exclude(f"{stem}.mtl", "faulty")
    writing.quarantine("subject_01/Model/frontal3/obj/110920150254.obj", "does not fit")
    writing.quarantine("subject_01/Video/Indoor/cam1.avi", "no rule explains")
