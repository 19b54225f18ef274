"""Part masks of registered scans against those of the true face, pixel by pixel.

python tests/benchmarks/part_masks.py [--quick] [--json] [--picture FILE] [--shared-data DIR]
Scans of ICT-FaceKit's faces, whose truth on FLAME's topology is known vertex by vertex, are
registered and seen by four cameras of 224 pixels, about a millimetre each. For each part: pixels
that one mask has and the other lacks, by the pixels of the true one. `triangles` is the same with
masks of whole triangles, as a store of `triangle_part` alone allows, against the true masks: the
peer. Where hair hides the face: the hidden pixels that are found, and the others that are called
hidden. Milliseconds of one core are of a view's masks and visibility with the rays at the
registered mesh, without those at the scan.
`--picture` draws the stand-in's parts instead, as docs/pictures/parts.png.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from cases import Case
from ict_cases import IctModel, make_case
from open_models import add_shared_data, open_model
from PIL import Image

from pipeline.flame.assets import load_model
from pipeline.flame.face_parts import FaceParts, face_parts
from pipeline.flame.model import NO_PART, PARTS, FlameModel
from pipeline.flame.named import STAND_IN
from pipeline.geometry.mesh import vertex_normals
from pipeline.pictures.rendering import shade
from pipeline.pictures.view_sheets import painted
from pipeline.registration import register
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.masks import Shown, landmark_visibility, part_masks, shown, vertex_visibility
from pipeline.views.raycasting import Caster, prepare

CASES = ("neutral", "smile", "open jaw", "disgust", "blink", "scream", "noise 1 mm", "hair")
VIEWS = ((0.0, 0.0), (35.0, 0.0), (-60.0, 10.0), (0.0, -25.0))
PX, AWAY_MM, HEIGHT_MM = 224, 900.0, 230.0


class Compared(NamedTuple):
    """A view of a registered scan and of the true face."""

    differ: dict[str, float]
    """Part -> pixels that differ, by those of the true mask."""
    coarse: dict[str, float]
    found: float
    """Of the pixels of the face that clutter hides; NaN without."""
    wrongly: float
    """Of the other pixels of the face, those that are called hidden."""
    ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two scans")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path)
    add_shared_data(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.picture:
        Image.fromarray(picture(load_model(STAND_IN))).save(given.picture, optimize=True)
        return
    ict, model = IctModel.load(given.shared_data), open_model(given.shared_data, "flame_ict")
    cases = [make_case(ict, name) for name in (("neutral", "hair") if given.quick else CASES)]
    results = register([case.scan for case in cases], model)
    parts = face_parts(model)
    rows = {
        case.name: summary(views_of(case, one.vertices_mm.astype(np.float64), model, parts))
        for case, one in zip(cases, results, strict=True)
    }
    if given.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows)


def views_of(case: Case, found: Array, model: FlameModel, parts: FaceParts) -> list[Compared]:
    # a vertex without a truth, as of eyeballs, is where the registration has it
    true = np.where(case.known[:, None], case.truth_mm, found)
    meshes = prepare(true, model.faces), prepare(found, model.faces)
    scan = prepare(case.scan.vertices_mm.astype(np.float64), case.scan.faces)
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(true, model.faces)
    return [compared(camera(marks, *view), *meshes, scan, case, parts, model) for view in VIEWS]


def compared(
    before: Camera,
    true: Caster,
    found: Caster,
    scan: Caster,
    case: Case,
    parts: FaceParts,
    model: FlameModel,
) -> Compared:
    truth, own = shown(before, true), shown(before, found)
    wanted, masks = part_masks(truth, parts), part_masks(own, parts)
    whole = replace(parts, outer=np.zeros_like(parts.outer))
    rays = scan.seen(before)
    start = time.process_time()
    seen = shown(before, found, rays)
    part_masks(seen, parts)
    vertex_visibility(seen)
    assert model.landmarks is not None
    landmark_visibility(seen, model.landmarks.positions_68(found.vertices_mm, model.faces))
    ms = 1000 * (time.process_time() - start)
    clutter = rays.hit & case.clutter[scan.faces[rays.triangle]].all(axis=1)
    hidden = (clutter & (rays.distance_mm < truth.hits.distance_mm)).reshape(PX, PX)
    face = masks.any(axis=0)
    with np.errstate(invalid="ignore"):
        right = (seen.hidden & face & hidden).sum() / np.float64((face & hidden).sum())
    return Compared(
        differing(wanted, masks),
        differing(wanted, part_masks(own, whole)),
        float(right),
        float((seen.hidden & face & ~hidden).sum() / (face & ~hidden).sum()),
        ms,
    )


def differing(wanted: Array, masks: Array) -> dict[str, float]:
    """Of the parts that show at least 20 pixels, and of the face: any pixel of another label."""
    label, own = (np.where(m.any(0), m.argmax(0), NO_PART) for m in (wanted, masks))
    found = {"face": float((label != own).sum() / wanted.any(axis=0).sum())}
    for name, a, b in zip(PARTS, wanted, masks, strict=True):
        if a.sum() >= 20:
            found[name] = float((a ^ b).sum() / a.sum())
    return found


def summary(views: list[Compared]) -> dict[str, Any]:
    names = ("face", *PARTS)

    def means(key: str) -> dict[str, float]:
        values = {n: [getattr(v, key)[n] for v in views if n in getattr(v, key)] for n in names}
        return {name: round(float(np.mean(own)), 4) for name, own in values.items() if own}

    found = [view.found for view in views if np.isfinite(view.found)]
    return {
        "differ": means("differ"),
        "triangles": means("coarse"),
        "hidden_found": round(float(np.mean(found)), 4) if found else None,
        "wrongly_hidden": round(float(np.mean([view.wrongly for view in views])), 5),
        "ms": round(float(np.median([view.ms for view in views])), 1),
    }


def show(rows: dict[str, dict[str, Any]]) -> None:
    names = ("face", *PARTS)
    print("% of pixels that differ from the true mask; in brackets by whole triangles")
    print(" " * 12 + " ".join(f"{name:>13}" for name in names) + "  hidden  wrongly   ms")
    for case, row in rows.items():
        pairs = [[100 * row[key].get(n, np.nan) for key in ("differ", "triangles")] for n in names]
        cells = [f"{ours:5.1f} ({coarse:5.1f})" for ours, coarse in pairs]
        hidden = "" if row["hidden_found"] is None else f"{100 * row['hidden_found']:.1f}"
        tail = f"{hidden:>8} {100 * row['wrongly_hidden']:8.2f} {row['ms']:4.0f}"
        print(f"{case:12}" + " ".join(f"{cell:>13}" for cell in cells) + tail)


def camera(
    marks: Array, yaw_deg: float, pitch_deg: float, height_mm: float = HEIGHT_MM, size: int = PX
) -> Camera:
    """Looks at the middle of the face of (68,3) landmarks."""
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    towards = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, -np.cross(towards, right), -towards])
    middle = marks.mean(axis=0) if len(marks) < 68 else marks[[27, 30]].mean(0) - [0, 10, 30]
    pose[:3, 3] = -pose[:3, :3] @ (middle + AWAY_MM * towards)
    focal, half = size * AWAY_MM / height_mm, (size - 1) / 2
    return Camera(np.array([[focal, 0, half], [0, focal, half], [0, 0, 1.0]]), pose, size, size)


def picture(model: FlameModel, size: int = 320) -> Array:
    """Front, three-quarter and profile, eyes and brows, mouth, nose from below."""
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(model.template_mm, model.faces)
    inner = marks[17:48], marks[42:48], marks[48:], marks[30:36]
    cameras = [
        camera(marks, 0, 0, 240, 2 * size),
        camera(marks, 40, 0, 240, 2 * size),
        camera(marks, 85, 0, 240, 2 * size),
        camera(inner[0], 0, 0, 120, 2 * size),
        camera(inner[2], 20, 0, 75, 2 * size),
        camera(inner[3], 0, -30, 75, 2 * size),
    ]
    mesh, parts = prepare(model.template_mm, model.faces), face_parts(model)
    tiles = [drawn(shown(one, mesh), parts, model) for one in cameras]
    return np.concatenate([np.concatenate(tiles[:3], axis=1), np.concatenate(tiles[3:], axis=1)])


def drawn(seen: Shown, parts: FaceParts, model: FlameModel) -> Array:
    """(H/2,W/2,3) uint8: clay with the parts' colours over it."""
    points, faces = torch.from_numpy(model.template_mm), torch.from_numpy(model.faces)
    normals = seen.hits.values(model.faces, vertex_normals(points, faces).numpy())
    normals = normals @ seen.camera.canonical_to_camera[:3, :3].T * [1, -1, -1]
    height, width = seen.hidden.shape
    light = np.where(seen.hits.hit, shade(normals) * 205, 255).reshape(height, width, 1)
    clay = np.clip(np.repeat(light, 3, axis=2), 0, 255).astype(np.uint8)
    found = painted(clay, part_masks(seen, parts))
    halves = found.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    return np.asarray(halves.round(), np.uint8)


if __name__ == "__main__":
    main()
