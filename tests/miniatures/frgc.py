"""FRGC v2: range images of one camera, photos beside them, the season that is left out."""

from __future__ import annotations

import numpy as np

from pipeline.views.camera import Camera
from tests.miniatures import files, photos
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, pinhole, range_image

SCANS = {
    "Fall2003range/04201d301": ("Fall2003", "04201", 8, "BlankStare", "04201d302"),
    "Fall2003range/04202d345": ("Fall2003", "04202", 9, "Happiness", "04202d348"),
    "Spring2004range/04201d402": ("Spring2004", "04201", 8, "", ""),
    "Spring2004range/04201d404": ("Spring2004", "04201", 8, "BlankStare", "04201d405"),
}
"""Season, subject, person, expression as the metadata tells, and the photo: the next number, unless
that is the next of a later scan."""
DISTANCE_MM = 1200.0
ROWS, COLUMNS, FOCAL_PX = 120, 160, 420.0
CAMERA = Camera(
    np.array([[FOCAL_PX, 0, (COLUMNS - 1) / 2], [0, FOCAL_PX, (ROWS - 1) / 2], [0, 0, 1]]),
    np.diag([1.0, -1.0, -1.0, 1.0]),
    ROWS,
    COLUMNS,
)
"""At the origin, along -z."""


def build(writing: Writing) -> None:
    rows = "recording,expression\n"
    for stem, (season, subject, person, word, photo) in SCANS.items():
        seen = head(person, "smile" if word == "Happiness" else "neutral").moved(
            np.array([0.0, 0.0, -DISTANCE_MM])
        )
        rays = pinhole(ROWS, COLUMNS, FOCAL_PX)
        shot = f"nd1/{season}range/{photo}.ppm.gz"
        writing.scan(
            f"nd1/{stem}.abs.gz",
            seen,
            files.abs_gz(*range_image(seen, rays)),
            subject=subject,
            session=season,
            expression=word,
            neutral=word == "BlankStare",
            expression_class="smile" if word == "Happiness" else "",
            images=(shot,) if photo else (),
            photos={shot: CAMERA} if photo else {},
            missing=() if photo else (f"nd1/{season}range/04201d405.ppm.gz",),
        )
        rows += f"{stem[-9:]},{word}\n" if word else ""
        if photo:
            writing.companion(shot, photos.zipped_ppm(photos.photo_by_rays(seen, rays)))
        writing.subjects[subject] = {}
    writing.companion("nd1/Fall2003range/04202d340.ppm.gz", files.zipped_photo)  # before the scan
    writing.companion("FRGC_expressions.csv", files.text(rows))
    metadata = "BEE_DIST/FRGC2.0/metadata/FRGC_2.0_Metadata.xml"
    writing.companion(metadata, files.text("<Recordings/>\n"))
    writing.exclude("nd1/Spring2003range/04203d101.abs.gz", "training part")
    writing.quarantine("nd1/Fall2003range/04202d346", "no rule explains")
