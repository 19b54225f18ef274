"""How often the search finds a face without landmarks in any pose, and what it says when unsure.

python tests/benchmarks/poses.py [--quick] [--json] [--trials N] [--first-seed N] [--bare]
[--shared-data DIR]
Every trial turns a scan over all rotations, shifts it and searches for the face. Three trials of
four are ICT faces (whole heads, parts, expressions, 1 mm noise, shoulders and debris, 5k to 100k
triangles), the others real scans, whole and in part. A pose counts as right within 3° and 5 mm of
the truth: the rigid motion (Umeyama, no scale) of the template's face onto its true place where
the scan has data; for a real scan, onto its registration from landmarks. What is no face (a ball,
a plane, a box, a torso, the back of a head, a face with its normals reversed) must be refused.

Prints for each kind how many were right, refused and wrong, the quantiles of angle and shift, and
the CPU seconds of one search.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from cases import scan_of
from ict_cases import IctModel, both
from open_models import add_shared_data, open_model
from remeshing import keep_triangles, random_split
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.formats import format_of, read_scan
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.rigid import umeyama
from pipeline.landmarks import read_landmarks
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.search import search
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, Scan

MAX_DEGREES, MAX_SHIFT_MM = 3.0, 5.0
ICT_KINDS = (
    "whole head",
    "face only",
    "left half",
    "right half",
    "no back",
    "smile",
    "open jaw",
    "mixed expression",
    "1 mm noise",
    "5k triangles",
    "20k triangles",
    "shoulders and debris",
    "half face, 1 mm noise",
    "three quarters",
    "face only, open jaw, 1 mm noise",
)
EXPRESSIONS = {
    "smile": both(mouthSmile=0.9, cheekSquint=0.5),
    "open jaw": {"jawOpen": 0.8},
    "mixed expression": both(browOuterUp=0.8, mouthStretch=0.5, eyeSquint=0.6) | {"jawOpen": 0.3},
}
REAL_PARTS = ("whole", "left half", "right half", "face only", "1 mm noise")
NOT_FACES = ("ball", "plane", "box", "torso", "back of a head", "scalp", "reversed normals")
SCALISMO_MARKED = (30, 36, 39, 42, 45, 48, 54)
SCALISMO_MARKS = {
    "01": [
        [-47, -28, 3],
        [-36, 17, -34],
        [-40, 11, -9],
        [-39, 10, 18],
        [-32, 14, 44],
        [-4, -36, -20],
        [-2, -40, 21],
    ],
    "02": [
        [112, 140, -6],
        [68, 117, -50],
        [90, 110, -36],
        [117, 95, -19],
        [135, 78, -6],
        [64, 137, 14],
        [100, 113, 39],
    ],
    "06": [
        [-98, 33, -32],
        [-64, -9, 11],
        [-63, 1, -14],
        [-53, 13, -45],
        [-40, 23, -67],
        [-74, 59, 15],
        [-57, 75, -27],
    ],
    "14": [
        [38, -123, 26],
        [61, -72, 74],
        [57, -75, 45],
        [50, -72, 13],
        [42, -61, -14],
        [-2, -101, 63],
        [-12, -94, 15],
    ],
}
"""Places of these iBUG landmarks on the scans that come without any, checked on renders, mm."""


@dataclass(frozen=True, eq=False)
class Upright:
    """A scan and where the template's face belongs on it."""

    kind: str
    scan: Scan
    source: Array  # (N,3) template vertices of the face where the scan has data
    target: Array  # (N,3) their true places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 trials")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=20_000, help="other identities and poses")
    parser.add_argument("--bare", action="store_true", help="search with the bare template mesh")
    add_shared_data(parser)
    arguments = parser.parse_args()
    trials = 20 if arguments.quick else arguments.trials
    rows = run(arguments.shared_data, trials, arguments.first_seed, arguments.bare)
    if arguments.json:
        print(json.dumps({"trials": rows, "summary": summary(rows)}))
        return
    for row in rows:
        if row["outcome"] != row["expected"]:
            print(", ".join(f"{k} {v}" for k, v in row.items()))
    for line in summary(rows):
        print("  ".join(f"{k} {v}" for k, v in line.items()))


def run(data: Path, trials: int, first_seed: int, bare: bool) -> list[dict[str, Any]]:
    """One row a trial; every fourth is a real scan, and the things that are no face come last."""
    ict = IctModel.load(data)
    model = open_model(data, "bare" if bare else "flame_ict")
    template = prepare_template(model, "cpu", RegistrationOptions().modes)
    real = real_scans(data, model)
    rows = []
    for trial in range(trials):
        rng = np.random.default_rng(first_seed + trial)
        if trial % 4 == 3:
            n = trial // 4
            part = REAL_PARTS[n // len(real) % len(REAL_PARTS)]
            case = part_of(real[n % len(real)], part, rng)
        else:
            case = ict_face(ict, model, ICT_KINDS[(trial - trial // 4) % len(ICT_KINDS)], rng)
        rows.append(attempt(template, turned(case, rng)))
    for n in range(trials // 10):
        rng = np.random.default_rng(first_seed + 10_000 + n)
        kind = NOT_FACES[n % len(NOT_FACES)]
        nowhere = Upright(kind, no_face(ict, kind, rng), np.zeros((0, 3)), np.zeros((0, 3)))
        rows.append(attempt(template, turned(nowhere, rng)))
    return rows


def attempt(template: Template, case: Upright) -> dict[str, Any]:
    """One search, timed and compared with the truth."""
    row: dict[str, Any] = {
        "kind": case.kind,
        "expected": "right" if len(case.source) else "refused",
        "triangles": len(case.scan.faces),
    }
    began = time.process_time()
    try:
        rotation, translation = (x.numpy() for x in search(template, case.scan))
    except RegistrationError as fault:
        return row | {"outcome": "refused", "cpu_s": spent(began), "reason": str(fault)}
    row["cpu_s"] = spent(began)
    if not len(case.source):
        return row | {"outcome": "wrong"}
    true_rotation, true_translation = rigid(case.source, case.target)
    turn = Rotation.from_matrix(rotation @ true_rotation.T).magnitude()
    centre = case.source.mean(0)
    there, expected = rotation @ centre + translation, true_rotation @ centre + true_translation
    row["degrees"] = round(float(np.degrees(turn)), 2)
    row["shift_mm"] = round(float(np.linalg.norm(there - expected)), 2)
    right = row["degrees"] <= MAX_DEGREES and row["shift_mm"] <= MAX_SHIFT_MM
    return row | {"outcome": "right" if right else "wrong"}


def spent(began: float) -> float:
    return round(time.process_time() - began, 3)


def rigid(source: Array, target: Array) -> tuple[Array, Array]:
    rotation, translation = umeyama(torch.from_numpy(source), torch.from_numpy(target))
    return rotation.numpy(), translation.numpy()


def turned(case: Upright, rng: np.random.Generator) -> Upright:
    """The same anywhere: any rotation, a shift of decimetres."""
    rotation, shift = Rotation.random(rng=rng).as_matrix(), rng.normal(scale=300, size=3)
    scan = replace(
        case.scan,
        vertices_mm=case.scan.vertices_mm @ rotation.T + shift,
        normals=case.scan.normals @ rotation.T,
    )
    return replace(case, scan=scan, target=case.target @ rotation.T + shift)


def free(scan_id: str, vertices: Array, faces: Array) -> Scan:
    return scan_of(scan_id, vertices, faces, None, oriented=False)


def ict_face(ict: IctModel, model: FlameModel, kind: str, rng: np.random.Generator) -> Upright:
    expression = next((e for name, e in EXPRESSIONS.items() if name in kind), {})
    full = ict.vertices(rng.normal(size=100), expression)
    skin = (ict.region[ict.triangles] < 2).all(1)
    vertices, faces = keep_triangles(full, ict.triangles, skin)
    if kind == "5k triangles":
        vertices, faces = clustered(vertices, faces, 7.0)
    elif kind != "20k triangles":
        vertices, faces = random_split(vertices, faces, rng)
    nose = full[ict.landmarks68[30]]
    vertices, faces = crop(vertices, faces, kind, nose, rng)
    truth = ict.on_flame(full)[model.regions["face"]]
    known = np.isfinite(truth[:, 0])
    on = np.flatnonzero(known)[SurfaceIndex(vertices, faces).query(truth[known]).distance < 3.0]
    vertices = vertices + rng.normal(size=vertices.shape) * noise_of(kind) / np.sqrt(3)
    if kind == "shoulders and debris":
        vertices, faces = clutter(vertices, faces, nose, rng)
    source = model.template_mm[model.regions["face"][on]].astype(np.float64)
    return Upright(kind, free(f"ict:{kind}", vertices, faces), source, truth[on])


def noise_of(kind: str) -> float:
    return 1.0 if "1 mm noise" in kind else 0.1


def crop(
    vertices: Array, faces: Array, kind: str, nose: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """What a scanner that stood in front or aside saw."""
    centres = vertices[faces].mean(1) - nose
    keep = np.ones(len(faces), dtype=bool)
    if "left half" in kind or "half face" in kind:
        keep &= centres[:, 0] > rng.uniform(-12, 0)
    if "right half" in kind:
        keep &= centres[:, 0] < rng.uniform(0, 12)
    if "face only" in kind:
        keep &= np.linalg.norm(centres, axis=1) < rng.uniform(85, 105)
    if kind == "no back":
        keep &= centres[:, 2] > rng.uniform(-140, -80)
    if kind == "three quarters":
        keep &= centres[:, 0] * rng.choice([-1, 1]) > rng.uniform(-45, -25)
    return keep_triangles(vertices, faces, keep)


def clustered(vertices: Array, faces: Array, cell: float) -> tuple[Array, Array]:
    """One vertex a cubic cell, the mean of what lies in it."""
    _, inverse = np.unique(np.floor(vertices / cell), axis=0, return_inverse=True)
    count = np.bincount(inverse)
    mean = np.stack([np.bincount(inverse, x) for x in vertices.T], 1) / count[:, None]
    faces = inverse[faces]
    a, b, c = faces.T
    return keep_triangles(mean, faces, (a != b) & (b != c) & (c != a))


def clutter(
    vertices: Array, faces: Array, nose: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Shoulders below the head, a bun of hair behind it and islands around."""
    torso = trimesh.creation.icosphere(subdivisions=5).apply_transform(np.diag([220, 110, 100, 1]))
    bun = trimesh.creation.icosphere(subdivisions=4)
    radius = 55 + 5 * np.sin(bun.vertices * 9 + rng.uniform(0, 6, 3)).sum(1)
    parts = [
        (torso.vertices + nose + [0, -290, -90], torso.faces),
        (bun.vertices * radius[:, None] + nose + [0, 60, -200], bun.faces),
    ]
    for _ in range(4):
        ball = trimesh.creation.icosphere(subdivisions=3)
        place = Rotation.random(rng=rng).apply([0.0, 0.0, 220.0]) + nose
        parts.append((ball.vertices * rng.uniform(10, 40, 3) + place, ball.faces))
    for v, f in parts:
        vertices, faces = np.concatenate([vertices, v]), np.concatenate([faces, f + len(vertices)])
    return vertices, faces


def real_scans(data: Path, model: FlameModel) -> list[Upright]:
    """Each real scan with the place of the face by registration from its landmarks."""
    folder = data / "scans"
    marks = np.full((68, 3), np.nan)
    marks[17:] = np.load(folder / "flame_fitting" / "scan_lmks.npy", allow_pickle=True) * 1000.0
    found = [("flame_fitting", *mesh(folder / "flame_fitting" / "scan.obj", 1000.0), marks)]
    points = read_landmarks(folder / "james" / "james.ljson", "ljson").points
    found.append(("james", *mesh(folder / "james" / "james.obj", 1.0), points))
    for name, picked in SCALISMO_MARKS.items():
        marks = np.full((68, 3), np.nan)
        marks[list(SCALISMO_MARKED)] = picked
        path = folder / "scalismo_faces" / f"{name}.stl"
        found.append((f"scalismo {name}", *mesh(path, 1.0), marks))
    results = []
    for name, vertices, faces, marks in found:
        rotation, shift = landmark_motion(model, marks)
        upright, placed = (vertices - shift) @ rotation, (marks - shift) @ rotation
        scan = scan_of(name, upright, faces, placed, oriented=True)
        registration = register([scan], model)[0]
        if registration.status == "failed":
            sys.exit(f"{scan.scan_id}: {registration.reason}")
        face = model.regions["face"]
        face = face[registration.validity[face]]
        bare = free(scan.scan_id, scan.vertices_mm, scan.faces)
        results.append(
            Upright(
                scan.scan_id,
                bare,
                model.template_mm[face].astype(np.float64),
                registration.vertices_mm[face].astype(np.float64),
            )
        )
    return results


def landmark_motion(model: FlameModel, marks: Array) -> tuple[Array, Array]:
    """The template's rigid motion onto a scan's landmarks (68,3), NaN where missing."""
    if model.landmarks is None:
        sys.exit(f"model {model.name} has no landmarks")
    at = marks[model.landmarks.indices_68]
    own = model.landmarks.positions(model.template_mm.astype(np.float64), model.faces)
    known = np.isfinite(at[:, 0]) & (model.landmarks.indices_68 > 16)  # no contour points
    return rigid(own[known], at[known])


def mesh(path: Path, to_mm: float) -> tuple[Array, Array]:
    raw = read_scan(path, format_of(path))
    return raw.vertices * to_mm, raw.faces


def part_of(case: Upright, part: str, rng: np.random.Generator) -> Upright:
    """A real scan cut like the ICT faces; the cuts are made in the template's frame."""
    rotation, translation = rigid(case.source, case.target)
    upright = (case.scan.vertices_mm - translation) @ rotation
    tip = case.source[case.source[:, 2].argmax()]
    vertices, faces = crop(upright, case.scan.faces, part, tip, rng)
    there = (case.target - translation) @ rotation
    on = cKDTree(vertices).query(there)[0] < 6.0
    vertices = vertices + rng.normal(size=vertices.shape) * noise_of(part) / np.sqrt(3)
    scan = free(f"{case.kind}, {part}", vertices, faces)
    return Upright(scan.scan_id, scan, case.source[on], there[on])


def no_face(ict: IctModel, kind: str, rng: np.random.Generator) -> Scan:
    shapes: dict[str, Callable[[], trimesh.Trimesh]] = {
        "ball": lambda: trimesh.creation.icosphere(subdivisions=5, radius=rng.uniform(60, 130)),
        "plane": lambda: bumpy_plane(rng),
        "box": lambda: trimesh.creation.box(rng.uniform(100, 250, 3)).subdivide_to_size(4.0),
        "torso": lambda: trimesh.creation.icosphere(subdivisions=5).apply_transform(
            np.diag([220, 250, 110, 1])
        ),
    }
    if kind in shapes:
        shape = shapes[kind]()
        return free(kind, np.asarray(shape.vertices), np.asarray(shape.faces))
    full = ict.vertices(rng.normal(size=100), {})
    skin = (ict.region[ict.triangles] < 2).all(1)
    vertices, faces = random_split(*keep_triangles(full, ict.triangles, skin), rng)
    centres = vertices[faces].mean(1) - full[ict.landmarks68[30]]
    if kind == "back of a head":
        vertices, faces = keep_triangles(vertices, faces, centres[:, 2] < -100)
    elif kind == "scalp":
        vertices, faces = keep_triangles(vertices, faces, centres[:, 1] > 75)
    scan = free(kind, vertices, faces)
    return replace(scan, normals=-scan.normals) if kind == "reversed normals" else scan


def bumpy_plane(rng: np.random.Generator) -> trimesh.Trimesh:
    x, y = np.meshgrid(np.arange(-150.0, 150.0, 3), np.arange(-150.0, 150.0, 3))
    z = 6 * np.sin(x / 20 + rng.uniform(0, 6)) * np.cos(y / 25 + rng.uniform(0, 6))
    i = np.arange(x.size).reshape(x.shape)
    a, b, c, d = (k.ravel() for k in (i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return trimesh.Trimesh(np.stack([x, y, z], -1).reshape(-1, 3), faces, process=False)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line a kind, then all faces, then all that is no face."""
    lines = [line(kind, [r for r in rows if r["kind"] == kind]) for kind in kinds(rows)]
    for name, expected in (("all faces", "right"), ("no faces", "refused")):
        lines.append(line(name, [r for r in rows if r["expected"] == expected]))
    return lines


def kinds(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["kind"] for row in rows))


def line(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {k: sum(r["outcome"] == k for r in rows) for k in ("right", "refused", "wrong")}
    found: dict[str, Any] = {"kind": name, "trials": len(rows), **counts}
    for key in ("degrees", "shift_mm", "cpu_s"):
        values = [row[key] for row in rows if key in row]
        if values:
            found[key] = "/".join(f"{q:.2f}" for q in np.quantile(values, [0.5, 0.95, 1.0]))
    return found


if __name__ == "__main__":
    sys.exit(main())
