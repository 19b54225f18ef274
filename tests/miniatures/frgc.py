"""FRGC v2: range images of one camera, photos beside them, the season that is left out."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, pinhole, range_image

SCANS = {
    "Fall2003range/04201d301": ("Fall2003", "04201", 8),
    "Fall2003range/04202d345": ("Fall2003", "04202", 9),
    "Spring2004range/04201d402": ("Spring2004", "04201", 8),
}
DISTANCE_MM = 1200.0


def build(writing: Writing) -> None:
    for stem, (season, subject, person) in SCANS.items():
        seen = head(person).moved(np.array([0.0, 0.0, -DISTANCE_MM]))
        image = range_image(seen, pinhole(120, 160, 420.0))
        writing.scan(
            f"nd1/{stem}.abs.gz",
            seen,
            files.abs_gz(*image),
            subject=subject,
            session=season,
            neutral=False,
        )
        writing.companion(f"nd1/{stem[:-1]}0.ppm.gz", files.zipped_photo)
        writing.subjects[subject] = {}
    writing.companion("metadata/4201.xml", files.text("<Recordings/>\n"))
    writing.exclude("nd1/Spring2003range/04203d101.abs.gz", "Spring2003")
    writing.quarantine("nd1/Fall2003range/04202d346", "no rule explains")
