"""FaMoS: frames of sequences with cameras, photos and registrations, as the makers read them."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

FRAMES = {
    "FaMoS_subject_001/anger/000001": "neutral",
    "FaMoS_subject_001/anger/000042": "open",
    "FaMoS_subject_080/natural_head_rotation/000007": "neutral",
}


def build(writing: Writing) -> None:
    # the axes are stated nowhere: these heads lie on their back
    writing.canonical_to_file = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    for stem, expression in FRAMES.items():
        subject, sequence, frame = stem.split("/")
        folder, name = f"{subject}/{sequence}", f"{sequence}.{frame}"
        seen = head(74 + (subject[-1] == "0"), expression, "whole")
        # photos are delivered of 001 to 078 alone
        photo = f"{folder}/images/{frame}/{name}.26_C.png" if subject < "FaMoS_subject_079" else ""
        writing.scan(
            f"{folder}/meshes/{name}.obj",
            seen,
            files.obj(*writing.surface(seen)),
            subject=subject,
            expression=sequence,
            neutral=False,
            frame=int(frame),
            images=(photo,) if photo else (),
        )
        if photo:
            writing.companion(photo, files.photo)
            writing.companion(photo.replace("_C", "_A"), files.photo)
        writing.companion(f"{folder}/meshes/{frame}/26_C.tka", files.text("%TKA\n"))
        writing.exclude(f"registrations/{folder}/{name}.ply", "registration")
        writing.exclude(f"scans/{folder}/{name}.npy", "points sampled", files.array(np.zeros(3)))
        writing.subjects[subject] = {}
    writing.quarantine("FaMoS_subject_001/anger/meshes/fear.000001.obj", "does not fit")
    writing.quarantine("README.txt", "no rule explains")
