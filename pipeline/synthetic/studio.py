"""`synth_studio`: textured heads with hair from a studio scanner, laid out as Stirling's."""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.delivery import Cast, Defect, Delivery, SyntheticSource
from pipeline.synthetic.files import (
    unwrapped,
    write_lnd,
    write_material,
    write_picture,
    write_text,
    write_textured_obj,
)
from pipeline.synthetic.hair import bumpy_hair, islands, strands
from pipeline.synthetic.paint import Surface, painted_texture
from pipeline.synthetic.people import Pose
from pipeline.synthetic.scanner import Capture, scan_head

FG7 = [36, 39, 42, 45, 33, 48, 54]
"""iBUG-68 numbers of the seven points of a `.lnd` file."""
TEXTURE_PX = 384, 768
EXTRA = 4
"""Files besides the good scans: two excluded, one empty, one in another unit."""


def write_studio(cast: Cast, delivery: Delivery, good: int) -> SyntheticSource:
    """`good` sound scans of as many people, and EXTRA files that must not be kept."""
    scans: list[str] = []
    for i in range(good):
        name = subject(i) + "_n"
        # Stirling's own names mix their case
        stem = f"scans/{name.upper() if i % 4 == 2 else name}"
        scans.append(write_scan(cast, delivery, i, i, stem, broken_mtl=i % 4 == 1))
    excluded = {}
    for k in range(2):
        stem = f"scans/{subject(k)}_n_2"
        scans.append(write_scan(cast, delivery, good + k, k, stem, truth=False))
        excluded[scans[-1]] = "repeat"
    in_metres = write_scan(
        cast, delivery, good + 2, good + 2, f"scans/{subject(good + 2)}_n", truth=False, scale=1e-3
    )
    empty = f"scans/{subject(good + 3)}_n.obj"
    (delivery.root / empty).write_bytes(b"")
    write_text(delivery.root / "scans" / "to do.txt", "f1002 again, she moved\n")
    write_text(delivery.root / "scans" / "Thumbs.db", "thumbnails\n")
    excluded["scans/Thumbs.db"] = "operating system"
    broken = {
        in_metres: Defect("normalise", "likely in m"),
        empty: Defect("read", "empty"),
        "scans/to do.txt": Defect("catalogue", "no rule explains"),
    }
    return SyntheticSource(
        delivery.source, delivery.root, (*scans, in_metres, empty), broken, excluded
    )


def subject(i: int) -> str:
    return f"{'fm'[i % 2]}{1001 + i}"


def write_scan(
    cast: Cast,
    delivery: Delivery,
    number: int,
    person: int,
    stem: str,
    *,
    broken_mtl: bool = False,
    truth: bool = True,
    scale: float = 1.0,
) -> str:
    """Writes one scan with what belongs to it; returns its path relative to the root."""
    rng = delivery.rng(number)
    pose = cast.pose(person, rng)
    capture = scan_head(
        cast.model,
        cast.rings,
        pose.vertices_mm,
        rng,
        keep=lambda template: cast.frame.above_neck(template, 25.0),
        growth_mm=bumpy_hair(cast.frame, rng),
        holes=4,
        noise_mm=0.12,
    )
    surface = with_clutter(cast, pose, capture, rng)
    name = stem.rsplit("/", 1)[1]
    path = delivery.root / f"{stem}.obj"
    material = f"C:\\scans\\{name}_old.mtl" if broken_mtl else f"{name}.mtl"
    uv = unwrapped(surface.vertices_mm, surface.faces)
    write_textured_obj(
        path, scale * delivery.to_file(surface.vertices_mm), surface.faces, uv, material
    )
    write_material(path.with_suffix(".mtl"), f"{name}.png")
    texture = painted_texture(surface, uv, cast.painter, cast.complexion(person), *TEXTURE_PX)
    write_picture(path.with_suffix(".png"), texture)
    points = capture.landmarks_mm[FG7] + rng.normal(0.0, 0.4, (7, 3))
    landmark_path = delivery.root / "annotations" / f"{name}.lnd"
    write_lnd(landmark_path, scale * delivery.to_file(points))
    if truth:
        delivery.save_truth(stem, pose, capture.supported)
    return f"{stem}.obj"


def with_clutter(cast: Cast, pose: Pose, capture: Capture, rng: np.random.Generator) -> Surface:
    """The scan with strands that leave the hair and patches that float round the head."""
    hair = np.nonzero(cast.frame.hair(cast.model.template_mm) > 0.5)[0]
    up = pose.vertices_mm[hair].mean(axis=0) - pose.vertices_mm.mean(axis=0)
    roots = pose.vertices_mm[rng.choice(hair, 25)]
    floating = pose.vertices_mm[rng.choice(hair, 6)] + rng.normal(0.0, 6.0, (6, 3))
    floating += 45.0 * up / np.linalg.norm(up)
    scanned = cast.surface_of(capture)
    vertices, faces = scanned.vertices_mm, scanned.faces
    for more, triangles in (
        strands(roots, up / np.linalg.norm(up), rng),
        islands(floating, rng),
    ):
        faces = np.concatenate([faces, triangles + len(vertices)])
        vertices = np.concatenate([vertices, more])
    n_clutter = len(vertices) - len(scanned.vertices_mm)
    of_hair = np.tile(cast.model.template_mm[hair[0]], (n_clutter, 1))
    template = np.concatenate([scanned.template_mm, of_hair])
    more_faces = np.zeros(len(faces) - len(scanned.faces), bool)
    return Surface(vertices, faces, template, np.concatenate([scanned.on_ball, more_faces]))
