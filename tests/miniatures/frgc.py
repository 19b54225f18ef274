"""FRGC v2: range images of one camera, photos beside them, the season that is left out."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files
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


def build(writing: Writing) -> None:
    rows = "recording,expression\n"
    for stem, (season, subject, person, word, photo) in SCANS.items():
        seen = head(person, "smile" if word == "Happiness" else "neutral").moved(
            np.array([0.0, 0.0, -DISTANCE_MM])
        )
        image = range_image(seen, pinhole(120, 160, 420.0))
        writing.scan(
            f"nd1/{stem}.abs.gz",
            seen,
            files.abs_gz(*image),
            subject=subject,
            session=season,
            expression=word,
            neutral=word == "BlankStare",
            expression_class="smile" if word == "Happiness" else "",
            images=(f"nd1/{season}range/{photo}.ppm.gz",) if photo else (),
        )
        rows += f"{stem[-9:]},{word}\n" if word else ""
        if photo:
            writing.companion(f"nd1/{season}range/{photo}.ppm.gz", files.zipped_photo)
        writing.subjects[subject] = {}
    writing.companion("nd1/Fall2003range/04202d340.ppm.gz", files.zipped_photo)  # before the scan
    writing.companion("FRGC_expressions.csv", files.text(rows))
    metadata = "BEE_DIST/FRGC2.0/metadata/FRGC_2.0_Metadata.xml"
    writing.companion(metadata, files.text("<Recordings/>\n"))
    writing.exclude("nd1/Spring2003range/04203d101.abs.gz", "training part")
    writing.quarantine("nd1/Fall2003range/04202d346", "no rule explains")
