"""BU-3DFE: VRML of cropped faces with 83 landmarks, raw scans beside them in another frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.synthetic.expressions import BU83
from tests.miniatures.files import nearest, write_bnd, write_image, write_text, write_wrl
from tests.miniatures.folder import Writing
from tests.miniatures.heads import Head, head

TAKES = {
    "F0001_NE00WH": ("neutral", "NE00"),
    "F0001_HA04WH": ("smile", "HA04"),
    "M0002_NE00BL": ("neutral", "NE00"),
    "M0002_SU03BL": ("surprise", "SU03"),
}


def build(writing: Writing) -> None:
    # stated nowhere; the miniature's heads lie on their right cheek, which no rule may take amiss
    writing.canonical_to_file = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for i, (stem, (expression, code)) in enumerate(TAKES.items()):
        subject = stem[:5]
        seen = head(i // 2 + 4, expression)
        with_landmarks = stem != "M0002_SU03BL"
        at = f"{subject}/{stem}"
        writing.scan(
            f"{at}_F3D.wrl",
            seen,
            lambda path, seen=seen, stem=stem: write_wrl(
                path, writing.to_file(seen.vertices_mm), seen.faces, f"{stem}_F2D.bmp"
            ),
            subject=subject,
            expression=code,
            neutral=code == "NE00",
            landmarks=f"{at}_F3D.bnd" if with_landmarks else None,
        )
        if with_landmarks:
            writing.companion(
                f"{at}_F3D.bnd",
                lambda path, seen=seen, i=i: write_83(writing, path, seen, empty_row=i == 1),
            )
        writing.companion(f"{at}_F2D.bmp", write_image)
    raw = head(4)
    away = writing.to_file(raw.vertices_mm)[:, [2, 0, 1]] + 300.0
    writing.exclude(
        "F0001/F0001_NE00WH_RAW.wrl",
        "another frame",
        lambda path: write_wrl(path, away, raw.faces, "F0001_NE00WH_RAW_0.bmp"),
    )
    writing.exclude("F0001/F0001_NE00WH_RAW_0.bmp", "texture", write_image)
    writing.exclude("F0001/F0001_NE00WH_RAW.pse", "eight", lambda path: write_pse(path, raw))
    writing.quarantine("F0001/F0001_NE00WH_F3D_copy.obj", "no rule explains")
    writing.subjects["F0001"] = {"sex": "female", "ancestry": "white"}
    writing.subjects["M0002"] = {"sex": "male", "ancestry": "black"}


def write_83(writing: Writing, path: Path, seen: Head, empty_row: bool) -> None:
    vertices = writing.to_file(seen.vertices_mm)
    points = writing.to_file(seen.landmarks_mm[list(BU83)])
    write_bnd(path, nearest(vertices, points), vertices)
    if empty_row:  # as BU-4DFE's files may end
        path.write_bytes(path.read_bytes() + b" \t \n")


def write_pse(path: Path, seen: Head) -> None:
    points = seen.landmarks_mm[[39, 36, 42, 45, 31, 35, 30, 33]]
    write_text(path, "".join(f"p{i} %.4f %.4f %.4f\n" % tuple(p) for i, p in enumerate(points)))
