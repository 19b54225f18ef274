"""FaceScape multi-view: every scan at a scale and in a pose of its own, the factors in one file."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from tests.miniatures import files, photos
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head

SCANS = {
    ("1", "1_neutral"): ("neutral", 21.7),
    ("1", "2_smile"): ("smile", 33.4),
    ("122", "1_neutral"): ("neutral", 8.05),
}


def build(writing: Writing) -> None:
    factors: dict[str, dict[str, list[object]]] = {}
    for i, ((subject, stem), (expression, factor)) in enumerate(SCANS.items()):
        number, name = stem.split("_", 1)
        # true once scaled, and then turned and moved: canonical axes, wherever the head is
        seen = head(40 + (subject == "122"), expression, "whole")
        turn = Rotation.from_euler("xyz", [120.0 * i + 70.0, 40.0 * i, 25.0], degrees=True)
        shift = np.array([0.5, -0.2, 3.0])
        at = f"{subject}/{stem}"
        cameras = {k: photos.camera_at(seen, 30.0 * k - 15.0) for k in range(3)}
        writing.scan(
            f"{at}.ply",
            seen,
            files.ply(turn.apply(seen.vertices_mm) / factor + shift, seen.faces),
            subject=subject,
            expression=name,
            neutral=name == "neutral",
            vertices_file=turn.apply(seen.truth_mm) / factor + shift,
            expression_class="" if name == "neutral" else name,
            # the makers call the last one's camera wrong
            photos={f"{at}/{k}.jpg": camera if k < 2 else None for k, camera in cameras.items()},
        )
        back = turn.as_matrix().T
        moved = np.column_stack([back, -factor * back @ shift]).tolist()
        factors.setdefault(subject, {})[number] = [factor, moved]
        for k, camera in cameras.items():
            write = photos.picture(photos.photo(seen, camera))
            writing.companion(f"{at}/{k}.jpg", write)
        frames = {
            k: photos.FileFrame(camera, turn.as_matrix(), factor, shift)
            for k, camera in cameras.items()
        }
        writing.companion(f"{at}/params.json", photos.params_json(frames, invalid=[2]))
        writing.subjects[subject] = {}
    writing.quarantine("122/3_mouth_stretch.ply", "holds nothing at 122/3/0")
    writing.companion("122/4_anger/0.jpg", files.photo)
    factors["122"]["4"] = [8.0, np.diag([1.0, -1.0, 1.0, 0.0])[:3].tolist()]
    writing.quarantine("122/4_anger.ply", "rigid: got [[1.0, 0.0, 0.0, 0.0], [0.0, -1.0")
    writing.companion("Rt_scale_dict.json", files.table(factors))
    writing.quarantine("122/cameras.xml", "no rule explains")
