"""Headspace: tilted whole heads, vertex indices from 1, texts about people, repeated captures."""

from __future__ import annotations

import numpy as np

from tests.miniatures import files, photos
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, scheme_points

SCANS = {
    "00012/140316113024": ("female", "neutral"),
    "00012/140316114500": ("female", "neutral"),
    "00377/140402101112": ("male", "smile"),
    "01400/140512101112": ("transgender", ""),
}
BASE = "headspaceOnline/subjects"
MISSING = {2: "{}/calib_2C.tka", 3: "{}/[1-5]C.png"}


def build(writing: Writing) -> None:
    # upright after -45 degrees about x and then -45 degrees about y
    h = np.sqrt(0.5)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, h, -h], [0.0, h, h]])
    about_y = np.array([[h, 0.0, h], [0.0, 1.0, 0.0], [-h, 0.0, h]])
    writing.canonical_to_file = about_x @ about_y
    for i, (stem, (gender, word)) in enumerate(SCANS.items()):
        subject, capture = stem.split("/")
        seen = head(18 + (subject == "00377"), kind="whole")
        vertices, faces = writing.surface(seen)
        at = f"{BASE}/{stem}"
        landmarks = f"{BASE}/{subject}/ldmks{capture}.txt" if i != 1 else None
        shots = f"headspacePngTka/subjects/{subject}/{capture}"
        # the last capture has no photos, and the one before lacks a calibration
        cameras = {
            f"{shots}/{k}C.png": photos.camera_at(seen, yaw, on_its_side=k == 2)
            for k, yaw in ((1, -35.0), (2, 40.0))
            if i < 3
        }
        writing.scan(
            f"{at}.obj",
            seen,
            files.textured_obj(vertices, faces, f"{capture}.mtl" if i else "..\\scan.mtl"),
            subject=subject,
            session=capture,
            expression=word,
            neutral=word == "neutral",
            landmarks=landmarks,
            photos={p: None if i == 2 and "2C" in p else c for p, c in cameras.items()},
            missing=tuple(MISSING.get(i, "").format(shots).split()),
        )
        for path, camera in cameras.items():
            writing.companion(path, photos.picture(photos.photo(seen, camera)))
            if i != 2 or not path.endswith("2C.png"):
                frame = photos.FileFrame(camera, writing.canonical_to_file)
                writing.companion(f"{shots}/calib_{path[-6:-4]}.tka", photos.tka(frame))
        if cameras:
            writing.companion(f"{shots}/1A.png", files.photo)  # of a stereo pair
        if landmarks:
            points = writing.to_file(scheme_points(seen.landmarks_mm, "headspace68"))
            near = files.nearest(vertices, points)[:, None] + 1
            writing.companion(landmarks, files.rows("%d", near))
        writing.companion(f"{at}.mtl", files.material(f"{capture}.bmp"))
        writing.companion(f"{at}.bmp", files.photo)
        if i != 1:
            lines = (f"id:{subject}", f"gender:{gender}", f"age:{'' if i == 3 else 30 + i}")
            lines += ("declaredethnicGroup:White British", "beardDescriptor:none")
            lines += ("moustacheDescriptor:none", "spectaclesFlag:0", "underChinHoleFlag:1")
            lines += ("qualityDescriptor:none", *([f"expression:{word}"] if word else []))
            told = files.text("\n".join(lines) + "\n")
            # as users have it, or as the makers call it
            name = "subject.txt" if i == 3 else f"subject_person_{subject}.txt"
            writing.companion(f"{BASE}/{subject}/{name}", told)
        writing.subjects[subject] = {
            "sex": gender,
            "age": {"00012": "30", "00377": "32"}.get(subject, ""),
            "ancestry": "White British",
            "beard": "none",
            "moustache": "none",
            "spectacles": "no",
            "under_chin_hole": "yes",
            "quality": "none",
        }
    writing.quarantine(f"{BASE}/00012/notes.doc", "no rule explains")
    writing.quarantine(f"{BASE}/00012/final.obj", "does not fit")
