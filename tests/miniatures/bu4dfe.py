"""BU-4DFE: sequences in VRML, each frame with its photo, 83 landmarks in a package of their own."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.expressions import BU83
from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, scheme_points

FRAMES = {
    "F001/Angry/000": ("neutral", 70),
    "F001/Angry/041": ("open", 70),
    "M043/Happy/050": ("smile", 71),
}


def build(writing: Writing) -> None:
    # the axes are stated nowhere: these faces look along +x
    writing.canonical_to_file = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    for i, (stem, (expression, person)) in enumerate(FRAMES.items()):
        subject, word, frame = stem.split("/")
        seen = head(person, expression)
        vertices, faces = writing.surface(seen)
        landmarks = f"BU4DFE_BND_V1.1/{stem}.bnd" if i != 1 else None
        writing.scan(
            f"{stem}.wrl",
            seen,
            files.wrl(vertices, faces, f"{frame}.jpg"),
            subject=subject,
            expression=word,
            neutral=False,
            landmarks=landmarks,
            frame=int(frame),
            images=(f"{stem}.jpg",),
        )
        writing.companion(f"{stem}.jpg", files.photo)
        if landmarks:
            points = writing.to_file(scheme_points(seen.landmarks_mm, "bu83", BU83))
            # an empty 84th row, as files may have
            write = files.bnd(vertices, points, " \t \n" if i else "")
            writing.companion(landmarks, write)
    writing.subjects["F001"] = {"sex": "female"}
    writing.subjects["M043"] = {"sex": "male"}
    writing.quarantine("F001/Angry/41.wrl", "does not fit")
    writing.quarantine("F001/Angry/readme.txt", "no rule explains")
