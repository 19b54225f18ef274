"""Texas 3D: range images of 8 bits, brighter in front, each with its portrait."""

from __future__ import annotations

import numpy as np

from pipeline.views.camera import Camera
from tests.miniatures import files, photos
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, parallel, range_image

SCANS = {
    "Clean_0001_001_20050912105243": ("001", "neutral", 56),
    "Clean_0002_002_20050913091515": ("002", "smile", 57),
}
STEP_MM = 0.32
ROWS, COLUMNS = 520, 420
FAR_MM = 1e6
CAMERA = Camera(
    np.array(
        [
            [FAR_MM / STEP_MM, 0, (COLUMNS - 1) / 2],
            [0, FAR_MM / STEP_MM, (ROWS - 1) / 2],
            [0, 0, 1],
        ]
    ),
    np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, FAR_MM], [0, 0, 0, 1]]),
    ROWS,
    COLUMNS,
)
"""So far away that its rays are parallel, as those of the range image are."""


def build(writing: Writing) -> None:
    for stem, (subject, expression, person) in SCANS.items():
        seen = head(person, expression)
        # the grid's middle is the origin, and the grey of the nearest point is white
        seen = seen.moved(-seen.landmarks_mm[30])
        rays = parallel(ROWS, COLUMNS, STEP_MM, 300.0)
        points, valid = range_image(seen, rays)
        portrait = photos.photo_by_rays(seen, rays)
        depth = points[..., 2]
        grey = np.round(255 + (depth - depth[valid].max()) / STEP_MM)
        valid &= grey > 0
        shift = np.array([0.0, 0.0, 255 * STEP_MM - depth[valid].max()])
        seen = seen.moved(shift)
        session = stem.split("_")[3]
        writing.scan(
            f"{stem}_Range.png",
            seen,
            files.grey(np.where(valid, grey, 0)),
            subject=subject,
            session=session,
            neutral=False,
            images=(f"{stem}_Portrait.png",),
            photos={f"{stem}_Portrait.png": CAMERA},
        )
        writing.companion(f"{stem}_Portrait.png", photos.picture(portrait))
        writing.subjects[subject] = {}
    writing.quarantine("Clean_1_001_20050912105243_Range.png", "does not fit", files.photo)
    writing.quarantine("Faces_0001_001.mat", "no rule explains")
