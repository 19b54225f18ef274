"""BU-3DFE: VRML of cropped faces with 83 landmarks, raw scans beside them in another frame."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.expressions import BU83
from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, scheme_points

TAKES = {
    "F0001_NE00WH": ("neutral", "NE00"),
    "F0001_HA04WH": ("smile", "HA04"),
    "M0002_NE00BL": ("neutral", "NE00"),
    "M0002_SU03BL": ("surprise", "SU03"),
}


def build(writing: Writing) -> None:
    # the axes are stated nowhere: these heads lie on their side, which no rule may take amiss
    writing.canonical_to_file = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for i, (stem, (expression, code)) in enumerate(TAKES.items()):
        subject = stem[:5]
        seen = head(i // 2 + 4, expression)
        vertices, faces = writing.surface(seen)
        at = f"{subject}/{stem}"
        marked = code != "SU03"
        writing.scan(
            f"{at}_F3D.wrl",
            seen,
            files.wrl(vertices, faces, f"{stem}_F2D.bmp"),
            subject=subject,
            expression=code,
            neutral=code == "NE00",
            expression_class={"HA04": "smile", "SU03": "surprise"}.get(code, ""),
            landmarks=f"{at}_F3D.bnd" if marked else None,
        )
        if marked:
            points = writing.to_file(scheme_points(seen.landmarks_mm, "bu83", BU83))
            # an empty 84th row, as BU-4DFE's files may have
            end = " \t \n" if i == 1 else ""
            writing.companion(f"{at}_F3D.bnd", files.bnd(vertices, points, end))
        writing.companion(f"{at}_F2D.bmp", files.photo)
    raw = head(4)
    vertices = writing.to_file(raw.vertices_mm)[:, [2, 0, 1]] + 300.0
    texture = "F0001_NE00WH_RAW_0.bmp"
    write = files.wrl(vertices, raw.faces, texture)
    writing.exclude("F0001/F0001_NE00WH_RAW.wrl", "another frame", write)
    writing.exclude(f"F0001/{texture}", "texture", files.photo)
    eight = scheme_points(raw.landmarks_mm, "bu8")[:, [2, 0, 1]] + 300.0
    write = files.rows("p %.4f %.4f %.4f", eight)
    writing.exclude("F0001/F0001_NE00WH_RAW.pse", "eight", write)
    writing.quarantine("F0001/F0001_NE00WH_F3D_copy.obj", "no rule explains")
    writing.subjects["F0001"] = {"sex": "female", "ancestry": "white"}
    writing.subjects["M0002"] = {"sex": "male", "ancestry": "black"}
