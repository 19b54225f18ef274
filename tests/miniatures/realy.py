"""REALY: regions of faces of normalised size, the factors and 85 keypoints apart."""

from __future__ import annotations

from functools import partial

import numpy as np

from tests.miniatures import files
from tests.miniatures.folder import Writing
from tests.miniatures.heads import Head, head, scheme_points

FACTORS = {"1": 8.754064, "2": 8.516394, "14": 6.492081}
REGIONS = ("cheek", "nose", "mouth", "forehead")
CHEEK_POINTS = (2, 14, 4, 12, 31, 35, 48, 54, 3, 13, 5, 11, 1, 15, 6, 10, 8)


def build(writing: Writing) -> None:
    table = np.linspace(8.0, 9.0, 100)
    for i, (subject, factor) in enumerate(FACTORS.items()):
        table[int(subject) - 1] = factor
        seen = head(32 + i % 2)
        for region in REGIONS:
            shown = seen.part(partial(in_region, seen, region))
            path = f"REALY_scan_region/{subject}/{region}.obj"
            write = files.obj(shown.vertices_mm / factor, shown.faces)
            if region != "cheek":
                writing.exclude(path, "too little of a face", write)
                continue
            writing.scan(
                path,
                shown,
                write,
                subject=subject,
                landmarks=f"REALY_HIFI3D_keypoints/{subject}.obj",
                vertices_file=shown.truth_mm / factor,
            )
        others = (*range(68), *CHEEK_POINTS)
        points = scheme_points(seen.landmarks_mm, "realy85", others) / factor
        write = files.rows("v %.6f %.6f %.6f", points)
        writing.companion(f"REALY_HIFI3D_keypoints/{subject}.obj", write)
        writing.subjects[subject] = {}
    writing.companion("metrical_scale.txt", files.rows("%.18e", table[:, None]))
    # the table has 100 rows
    writing.quarantine("REALY_scan_region/101/cheek.obj", "holds nothing at 101")
    writing.quarantine("REALY_image/1.png", "no rule explains")


def in_region(seen: Head, region: str, points: np.ndarray) -> np.ndarray:
    """(N,) bool; the regions overlap as REALY's do."""
    marks = seen.landmarks_mm
    if region == "forehead":
        return np.asarray(points[:, 1] > marks[17:27, 1].min() - 8.0)
    centre, radius = {
        "nose": (marks[30], 38.0),
        "mouth": (marks[48:60].mean(axis=0), 42.0),
        "cheek": (marks[30], 95.0),
    }[region]
    near = np.linalg.norm(points - centre, axis=1) < radius
    return near & (points[:, 1] < marks[17:27, 1].max()) if region == "cheek" else near
