"""FaMoS: frames of sequences with cameras, photos and registrations, as the makers read them."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files, photos
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

FRAMES = {
    "FaMoS_subject_001/anger/000001": "neutral",
    "FaMoS_subject_001/anger/000042": "open",
    "FaMoS_subject_080/natural_head_rotation/000007": "neutral",
}
CAMERA = photos.camera_at(head(74, kind="whole"), 30.0, height=160, width=120, on_its_side=True)
"""Stays where it is for a whole sequence."""


def build(writing: Writing) -> None:
    # the axes are stated nowhere: these heads lie on their back
    writing.canonical_to_file = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    for stem, expression in FRAMES.items():
        subject, sequence, frame = stem.split("/")
        folder, name = f"{subject}/{sequence}", f"{sequence}.{frame}"
        seen = head(74 + (subject[-1] == "0"), expression, "whole")
        # photos are delivered of 001 to 078 alone
        shown = subject < "FaMoS_subject_079"
        # the published photos are smaller than those that were calibrated
        published = frame == "000042"
        at = f"train_images_4/{folder}/{frame}" if published else f"{folder}/images/{frame}"
        camera = photos.smaller(CAMERA, 2) if published else CAMERA
        photo = f"{at}/{name}.26_C.png"
        writing.scan(
            f"{folder}/meshes/{name}.obj",
            seen,
            files.textured_obj(*writing.surface(seen), f"{name}.mtl"),
            subject=subject,
            expression=sequence,
            neutral=False,
            frame=int(frame),
            images=(photo,) if shown and not published else (),
            photos={photo: camera} if shown else {},
            missing=() if shown else (f"{folder}/images/{frame}/{name}.*_C.png",),
        )
        writing.companion(f"{folder}/meshes/{name}.mtl", files.material(f"{name}.bmp"))
        writing.companion(f"{folder}/meshes/{name}.bmp", files.photo)
        if shown:
            writing.companion(photo, photos.picture(photos.photo(seen, camera)))
            writing.companion(photo.replace("_C", "_A"), files.photo)
            rig = photos.FileFrame(CAMERA, writing.canonical_to_file)
            writing.companion(f"train_calibrations/{folder}/26_C.tka", photos.tka(rig))
        writing.exclude(f"registrations/{folder}/{name}.ply", "registration")
        writing.exclude(f"scans/{folder}/{name}.npy", "points sampled", files.array(np.zeros(3)))
        writing.subjects[subject] = {}
    writing.quarantine("FaMoS_subject_001/anger/meshes/fear.000001.obj", "does not fit")
    writing.quarantine("README.txt", "no rule explains")
