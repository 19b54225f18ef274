"""H3DS: whole heads of scenes with six named vertices, regions, masks and cameras."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files, photos
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

SCENES = ("1b2a8613401e42a8", "444ea0dc5e85ee0b", "aa0aff60ec46c1e6")
NAMES = {
    "nose_tip": 30,
    "right_eye": 39,
    "left_eye": 42,
    "nose_base": 33,
    "left_lips": 54,
    "right_lips": 48,
}
"""iBUG points of the landmarks, of the eyes the inner corners."""


def build(writing: Writing) -> None:
    # the axes are stated nowhere: these heads lie on their back
    writing.canonical_to_file = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    for i, scene in enumerate(SCENES):
        seen = head(60 + i, kind="whole")
        vertices, faces = writing.surface(seen)
        marked = i != 2
        cameras = {k: photos.camera_at(seen, 25.0 * k - 20.0) for k in range(2)}
        writing.scan(
            f"{scene}/full_head.obj",
            seen,
            files.textured_obj(vertices, faces, "full_head.obj.mtl"),
            subject=scene,
            landmarks=f"{scene}/landmarks.txt" if marked else None,
            photos={f"{scene}/image/img_{k:04d}.jpg": camera for k, camera in cameras.items()},
        )
        if marked:
            near = files.nearest(vertices, writing.to_file(seen.landmarks_mm[list(NAMES.values())]))
            lines = "".join(f"{name} {k}\n" for name, k in zip(NAMES, near, strict=True))
            writing.companion(f"{scene}/landmarks.txt", files.text(lines))
        writing.companion(f"{scene}/full_head.obj.mtl", files.material("full_head.jpg"))
        writing.companion(f"{scene}/full_head.jpg", files.photo)
        for k, camera in cameras.items():
            write = photos.picture(photos.photo(seen, camera))
            writing.companion(f"{scene}/image/img_{k:04d}.jpg", write)
            writing.companion(f"{scene}/mask/mask_{k:04d}.png", files.photo)
        writing.companion(f"{scene}/regions/face.txt", files.text("1\n2\n"))
        frames = {
            k: photos.FileFrame(camera, writing.canonical_to_file) for k, camera in cameras.items()
        }
        writing.companion(f"{scene}/cameras.npz", photos.cameras_npz(frames))
        writing.subjects[scene] = {}
    writing.companion("version.txt", files.text("0.4\n"))
    writing.quarantine("1b2a8613401e/full_head.obj", "does not fit")
    writing.quarantine("1b2a8613401e42a8/notes.json", "no rule explains")
