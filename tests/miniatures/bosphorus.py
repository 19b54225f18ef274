"""Bosphorus: range images with up to 22 named landmarks, occluded and turned faces left out."""

from __future__ import annotations

from pipeline.landmarks.schemes import named_scheme
from tests.miniatures import files, photos
from tests.miniatures.folder import Writing
from tests.miniatures.heads import head, parallel, range_image, scheme_points

SCANS = {
    "bs000/bs000_N_N_0": ("N_N", "neutral", 52),
    "bs000/bs000_E_HAPPY_0": ("E_HAPPY", "smile", 52),
    "bs001/bs001_N_N_1": ("N_N", "neutral", 53),
    "bs001/bs001_LFAU_26_0": ("LFAU_26", "open", 53),
}
NEAREST = (17, 19, 21, 22, 24, 26, 36, 39, 42, 45, 28, 28, 31, 30, 35, 48, 51, 54, 62, 66, 57, 8)


def build(writing: Writing) -> None:
    for i, (stem, (code, expression, person)) in enumerate(SCANS.items()):
        subject, name = stem.split("/")
        seen = head(person, expression)
        image = range_image(seen, parallel(150, 120, 1.6, 300.0))
        camera = photos.camera_at(seen, 4.0 * i)
        writing.scan(
            f"{stem}.bnt",
            seen,
            files.bnt(*image, f"{name}.png"),
            subject=subject,
            expression=code,
            neutral=code == "N_N",
            expression_class={"E_HAPPY": "smile", "LFAU_26": "open_mouth"}.get(code, ""),
            landmarks=f"{stem}.lm3" if i != 3 else None,
            images=(f"{stem}.png",),
            photos={f"{stem}.png": camera if i != 3 else None},
            missing=(f"{stem}.lm2",) if i == 3 else (),
        )
        writing.companion(f"{stem}.png", photos.picture(photos.photo(seen, camera)))
        names = named_scheme("bosphorus22").point_names
        points = scheme_points(seen.landmarks_mm, "bosphorus22", NEAREST)
        kept = [k for k in range(22) if i != 1 or k not in (0, 12)]  # two are hidden
        if i != 3:
            write = files.lm3([names[k] for k in kept], points[kept])
            writing.companion(f"{stem}.lm3", write)
            pixels = camera.project(points)[kept]
            writing.companion(f"{stem}.lm2", photos.lm2([names[k] for k in kept], pixels))
        writing.subjects[subject] = {}
    for name, word in (("O_EYE_0", "hide"), ("YR_R90_0", "turned"), ("YR_L45_0", "turned")):
        for suffix in ("bnt", "lm3", "png"):
            writing.exclude(f"bs001/bs001_{name}.{suffix}", word)
    writing.quarantine("bs001/bs000_N_N_0.bnt", "does not fit")
    writing.quarantine("bs001/bs001_N_N_1.vrml", "no rule explains")
