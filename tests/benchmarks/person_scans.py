"""Ten scans of a person from four sources, written as files and read again, with known truth.

The sources differ in format, unit, axes, landmark scheme, resolution and noise; the people are of
the ICT-FaceKit model (100 modes) or of the second family, which no model's basis explains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import second_family
import trimesh
from cases import Head, Recipe, scanned
from ict_cases import IctModel, both
from second_head import MeanHead
from second_identity import displaced
from second_rig import eye_centres

from pipeline.build.given_files import Declared, Request, axes_from, read_request
from pipeline.flame.model import FlameModel
from pipeline.landmarks.schemes import named_scheme
from pipeline.synthetic.files import write_lnd, write_npy, write_ply
from pipeline.types import Array, Scan


class Source(NamedTuple):
    suffix: str
    unit: str
    unit_mm: float
    axes: str
    scheme: str
    triangles: int  # 0: the model's own mesh, split, about 87k
    noise_mm: float


SOURCES: Mapping[str, Source] = {
    "studio": Source(".ply", "mm", 1.0, "up=+y,forward=+z", "ibug68", 0, 0.1),
    "metres": Source(".obj", "m", 1000.0, "up=+z,forward=-y", "fg7", 20_000, 0.2),
    "centimetres": Source(".stl", "cm", 10.0, "up=+y,forward=-z", "ibug51", 40_000, 0.4),
    "old": Source(".off", "mm", 1.0, "up=-x,forward=+z", "bosphorus22", 10_000, 0.8),
}


class Shot(NamedTuple):
    """One scan of a person: by which source, with what expression of each family."""

    source: str
    ict: Mapping[str, float]
    second: Mapping[str, float]
    crop: str = ""

    @property
    def at_rest(self) -> bool:
        """Whether the source declares it neutral."""
        return not self.ict


SMILE = both(mouthSmile=0.9, cheekSquint=0.5)
MIXED = {**both(browOuterUp=0.8, mouthStretch=0.5, eyeSquint=0.6), "jawOpen": 0.3}
SHOTS = (
    Shot("studio", {}, {}),
    Shot("metres", SMILE, {"smile": 1.0}),
    Shot("centimetres", {"jawOpen": 0.8}, {"open jaw": 0.8}),
    Shot("old", {}, {}, "face only"),
    Shot("studio", {"mouthPucker": 1.0}, {"pout": 1.0}, "left half"),
    Shot("metres", {}, {}, "no back"),
    Shot("centimetres", MIXED, {"brows up": 0.8, "smile": 0.4, "open jaw": 0.3}),
    Shot("old", both(eyeBlink=1.0), {"shut lids": 1.0}),
    Shot("studio", both(cheekPuff=1.0), {"cheeks puffed": 1.0}),
    Shot("centimetres", {}, {}, "face only"),
)
"""In an order that mixes sources: runs of 2 and 5 are of several. Each has a neutral scan."""


FAMILIES = {"ict": 81_006, "second": 91_006}
"""By name: the first seed of the people reported; constants were chosen on those before."""


class Family(NamedTuple):
    head_of: Callable[[int, Shot, np.random.Generator], Head]
    """A person's seed and a shot -> the face to scan."""
    rest_of: Callable[[int], Array]
    """A person's seed -> (V,3) FLAME's vertices at rest, NaN where the family has none."""


def family_of(shared_data: Path, name: str) -> Family:
    """One of FAMILIES."""
    return ict_family(shared_data) if name == "ict" else second_head_family(shared_data)


def ict_family(shared_data: Path) -> Family:
    """ICT-FaceKit's 100 modes, unit normal."""
    ict = IctModel.load(shared_data)

    def face(seed: int, expression: Mapping[str, float]) -> Array:
        return ict.vertices(np.random.default_rng(seed).normal(size=100), expression)

    return Family(
        lambda seed, shot, rng: ict.head(face(seed, shot.ict), rng),
        lambda seed: ict.on_flame(face(seed, {})),
    )


def second_head_family(shared_data: Path) -> Family:
    """FLAME's mean head under fields and a rig of its own."""
    family = MeanHead.load(shared_data)

    def face(seed: int) -> Array:
        return displaced(family.vertices, np.random.default_rng(seed))

    def rest(seed: int) -> Array:
        on_flame = family.on_flame(face(seed), eye_centres(family, face(seed)))
        return np.where(family.skin[:, None], on_flame, np.nan)

    return Family(
        lambda seed, shot, rng: second_family.face_of(family, face(seed), shot.second, rng), rest
    )


def scans_of(
    family: Family, seed: int, folder: Path, model: FlameModel, shots: tuple[Shot, ...] = SHOTS
) -> tuple[list[Scan], Array]:
    """A person's scans, and the true face at rest: (V,3) on FLAME's topology, NaN where unknown."""
    scans = []
    for i, shot in enumerate(shots):
        rng = np.random.default_rng([seed, i])
        source, head = SOURCES[shot.source], family.head_of(seed, shot, rng)
        recipe = Recipe("", 0, crop=shot.crop, noise_mm=source.noise_mm, triangles=source.triangles)
        scan = scanned("person:scan", head, recipe, rng).scan
        stem = f"{seed}-{i}-{shot.source}"
        scans.append(read_request(written(scan, source, folder / stem), model))
    return scans, family.rest_of(seed)


def written(scan: Scan, source: Source, path: Path) -> Request:
    """The scan as its source delivers it: its mesh and its landmarks, in its unit and axes."""
    axes = axes_from(source.axes)
    assert axes is not None
    # rows are points: canonical -> file is the transpose of file -> canonical
    to_file = axes.rotation() / source.unit_mm
    vertices = scan.vertices_mm @ to_file
    assert scan.landmarks_mm is not None
    marks = (scan.landmarks_mm.astype(np.float64)) @ to_file
    named = named_scheme(source.scheme).indices_68
    points = np.where((named >= 0)[:, None], marks[named.clip(0)], np.nan)
    mesh = path.with_suffix(source.suffix)
    if source.suffix == ".ply":
        write_ply(mesh, vertices, scan.faces)
    else:
        trimesh.Trimesh(vertices, scan.faces, process=False).export(mesh)
    at = path.with_suffix(".lnd" if source.scheme == "fg7" else ".npy")
    (write_lnd if source.scheme == "fg7" else write_npy)(at, points)
    return Request(mesh, at, Declared(source.unit, source.scheme, axes))
