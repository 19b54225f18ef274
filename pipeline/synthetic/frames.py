"""`synth_ply`: frames of sessions as binary PLY in metres with z up; some people of the studio."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.delivery import Cast, Defect, Delivery, SyntheticSource
from pipeline.synthetic.files import write_npy, write_picture, write_ply, write_pts
from pipeline.synthetic.paint import photograph
from pipeline.synthetic.people import Pose
from pipeline.synthetic.scanner import Capture, scan_head
from pipeline.types import Array
from pipeline.views.camera import Camera, pinhole_matrix
from pipeline.views.sampling import head_rotation, looking_at

SHARED_PEOPLE = 3
"""The first people are those of `synth_studio`, under other names."""
FIRST_PERSON = 300
EXTRA = 2
"""Files besides the good scans: one that is cut off, one whose name says nothing."""
PHOTO_PX = 480, 400
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
    write_photo(cast, delivery, stem, person, pose, capture, rng)
    if truth:
        delivery.save_truth(stem, pose, capture.supported)
    return f"{stem}.ply"


def write_photo(
    cast: Cast,
    delivery: Delivery,
    stem: str,
    person: int,
    pose: Pose,
    capture: Capture,
    rng: np.random.Generator,
) -> None:
    """A photo of the same moment from somewhere in front, and its landmarks in pixels."""
    camera = camera_in_front(capture.landmarks_mm[30], rng)
    picture = photograph(
        cast.skin_of(pose.vertices_mm), cast.painter, cast.complexion(person), camera
    )
    write_picture(delivery.root / f"{stem}.jpg", picture)
    pixels = camera.project(capture.landmarks_mm) + rng.normal(0.0, 0.6, (68, 2))
    write_pts(delivery.root / f"{stem}.pts", pixels)


def camera_in_front(nose_mm: Array, rng: np.random.Generator) -> Camera:
    """Looks at a place near the nose, upright, from up to 30° beside and 10° above or below."""
    yaw_deg, pitch_deg = rng.uniform([-30.0, -10.0], [30.0, 10.0])
    target = nose_mm + rng.uniform(-15.0, 15.0, 3)
    turned = head_rotation(-yaw_deg, -pitch_deg, 0.0)
    pose = looking_at(target, turned, rng.uniform(550.0, 1100.0))
    return Camera(pinhole_matrix(rng.uniform(900.0, 1400.0), *PHOTO_PX), pose, *PHOTO_PX)
