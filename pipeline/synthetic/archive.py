"""`synth_archive`: binary PLY in centimetres from an archive whose names have gone wrong over the
years; what is wrong is known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.formats.readers import read_scan
from pipeline.synthetic.delivery import Cast, Delivery, SyntheticSource
from pipeline.synthetic.files import write_npy, write_ply
from pipeline.synthetic.scanner import scan_head
from pipeline.synthetic.truth import load_truth, save_truth
from pipeline.types import Array

SOURCE, NUMBER = "synth_archive", 9
FIRST_PERSON = 500
CM = 10.0
FOLDERS: dict[str, tuple[int, ...]] = {
    "a01": (1, 2, 1),
    "a02": (2, 1, 2),
    "a03": (3, 3, 4, 3),
    "a04": (4, 4),
    "a05": (5, 5),
    "a06": (5, 5),
}
"""Name in the archive -> the person of each of its takes."""
EXPRESSIONS = ("neutral", "smile", "neutral", "neutral")
COPY = "a07"
"""Holds a scan of `synth_studio` and nothing else."""
COPIED = "scans/f1001_n"


MISLABELLED = {
    "swapped": frozenset((f"{SOURCE}:a01/smile_2", f"{SOURCE}:a02/smile_2")),
    "misfiled": frozenset((f"{SOURCE}:a03/neutral_3",)),
    "filed twice": frozenset((f"{SOURCE}:a05", f"{SOURCE}:a06")),
    "duplicate": frozenset((f"{SOURCE}:{COPY}/neutral_1", f"synth_studio:{COPIED}")),
}
"""What is wrong with the names, by kind: scan ids or names of people."""


def write_archive(
    out: Path | str, seed: int = 0, model: FlameModel | None = None
) -> SyntheticSource:
    """Writes the archive beside the sources that `write_sources` wrote to `out`, of whose studio it
    holds a scan; what an earlier call wrote is removed first."""
    out = Path(out)
    cast = Cast.of(model or stand_in(), seed)
    delivery = Delivery(out, SOURCE, seed, NUMBER, CM)
    for kept in ("sources", "truth"):
        shutil.rmtree(out / kept / SOURCE, ignore_errors=True)
    scans = [
        write_take(cast, delivery, 8 * row + take, name, person, take)
        for row, (name, people) in enumerate(FOLDERS.items())
        for take, person in enumerate(people)
    ]
    return SyntheticSource(SOURCE, delivery.root, (*scans, write_copy(delivery)))


def write_take(
    cast: Cast, delivery: Delivery, number: int, name: str, person: int, take: int
) -> str:
    """Writes a scan with its landmarks; returns its path relative to the root."""
    rng, expression = delivery.rng(number), EXPRESSIONS[take]
    stem = f"{name}/{expression}_{take + 1}"
    pose = cast.pose(FIRST_PERSON + person, rng, expression, 0.8)
    capture = scan_head(
        cast.model,
        cast.rings,
        pose.vertices_mm,
        rng,
        keep=lambda template: cast.frame.above_neck(template, 40.0),
        holes=3,
        noise_mm=0.15,
    )
    write_scan(delivery, stem, capture.vertices_mm, capture.faces)
    points = capture.landmarks_mm + rng.normal(0.0, 0.5, (68, 3))
    points[~capture.landmark_seen] = np.nan
    write_npy(delivery.root / f"{stem}_lmk.npy", delivery.to_file(points[17:]))
    delivery.save_truth(stem, pose, capture.supported)
    return f"{stem}.ply"


def write_copy(delivery: Delivery) -> str:
    """A scan of the studio turned, in another unit, its vertices in another order."""
    rng, stem = delivery.rng(999), f"{COPY}/neutral_1"
    scan = read_scan(delivery.out / "sources" / "synth_studio" / f"{COPIED}.obj", "obj")
    order = rng.permutation(len(scan.vertices))
    turn = Rotation.from_euler("y", 9, degrees=True).as_matrix().T
    write_scan(delivery, stem, scan.vertices[order] @ turn, np.argsort(order)[scan.faces])
    truth = load_truth(delivery.out, "synth_studio", COPIED)
    turned = truth.vertices_mm @ turn
    copied = replace(truth, vertices_mm=turned, vertices_file=delivery.to_file(turned))
    save_truth(delivery.out, SOURCE, stem, copied)
    return f"{stem}.ply"


def write_scan(delivery: Delivery, stem: str, vertices_mm: Array, faces: Array) -> None:
    write_ply(delivery.root / f"{stem}.ply", delivery.to_file(vertices_mm), faces)
