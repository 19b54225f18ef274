"""`synth_ply`: frames of sessions as binary PLY in metres with z up; some people of the studio."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.delivery import Cast, Defect, Delivery, SyntheticSource
from pipeline.synthetic.files import write_npy, write_ply
from pipeline.synthetic.scanner import scan_head
from pipeline.types import Array

SHARED_PEOPLE = 3
"""The first people are those of `synth_studio`, under other names."""
FIRST_PERSON = 300
EXTRA = 2
"""Files besides the good scans: one that is cut off, one whose name says nothing."""
TAKES = (("neutral", 1.0), ("smile", 0.8), ("neutral", 1.0), ("open", 0.6))


def write_frames(cast: Cast, delivery: Delivery, good: int) -> SyntheticSource:
    """`good` sound scans, one cut off in its triangles, one with a name that fits no grammar."""
    people = max(min(SHARED_PEOPLE, good), (good + 1) // 2)
    scans = [write_scan(cast, delivery, i, people) for i in range(good)]
    cut = write_scan(cast, delivery, good, people, truth=False)
    whole = (delivery.root / cut).read_bytes()
    (delivery.root / cut).write_bytes(whole[: 2 * len(whole) // 3])
    first = delivery.root / scans[0]
    nameless = "s01/session_1/test (1).ply"
    (delivery.root / nameless).write_bytes(first.read_bytes())
    broken = {cut: Defect("read", "cut off"), nameless: Defect("catalogue", "name does not fit")}
    return SyntheticSource(delivery.source, delivery.root, (*scans, cut, nameless), broken)


def write_scan(cast: Cast, delivery: Delivery, i: int, people: int, truth: bool = True) -> str:
    """Writes the i-th scan with its landmarks; returns its path relative to the root."""
    rng = delivery.rng(i)
    number, take = i % people, i // people
    expression, share = TAKES[(number + take) % len(TAKES)]
    person = number if number < SHARED_PEOPLE else FIRST_PERSON + number
    stem = f"s{number + 1:02d}/session_{1 + take}/{expression}_{rng.integers(1, 400):04d}"
    pose = cast.pose(person, rng, expression, share)
    behind_mm = rng.uniform(90.0, 130.0) if i % 3 else np.inf

    def keep(template_mm: Array) -> Array:
        in_front = template_mm[:, 2] > cast.frame.eyes[2] - behind_mm
        return np.asarray(in_front & cast.frame.above_neck(template_mm, 40.0 - 10.0 * (i % 4)))

    capture = scan_head(
        cast.model,
        cast.rings,
        pose.vertices_mm,
        rng,
        keep=keep,
        back=bool(np.isinf(behind_mm)),
        holes=8,
        noise_mm=0.3,
    )
    write_ply(delivery.root / f"{stem}.ply", delivery.to_file(capture.vertices_mm), capture.faces)
    points = capture.landmarks_mm + rng.normal(0.0, 0.5, (68, 3))
    points[~capture.landmark_seen] = np.nan
    points[17 + rng.choice(51, 3, replace=False)] = np.nan
    write_npy(delivery.root / f"{stem}_lmk.npy", delivery.to_file(points[17:]))
    if truth:
        delivery.save_truth(stem, pose, capture.supported)
    return f"{stem}.ply"
