"""Where a template's vertices land on scans of another family, whose own topology says so.

python tests/benchmarks/spread.py [--quick] [--json] [--peers none|all|NAMES] [--seed FIRST]
    [--shared-data DIR]
Faces of the stand-in are registered with the ICT-based model, ICT faces with the stand-in. No truth
by vertex is known between the two; but the scans of a family are in dense correspondence, so a
template's vertex should land on the same place of the family's mean mesh in every face. The spread
is its distance there from its own mean place: whatever is the same in all faces has no part in it.
Millimetres, over the template's face; one thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from cases import Case, Head, Recipe, scanned
from families import installed_peers, registered, show
from family_measures import Result
from ict_cases import IctModel, both
from measures import region
from open_models import add_shared_data, open_model
from peers import PEERS

from pipeline.flame.model import FlameModel
from pipeline.flame.regions import complete_regions
from pipeline.flame.stand_in import stand_in
from pipeline.geometry.closest import SurfaceIndex
from pipeline.synthetic.people import landmarks_68, make_person, pose_person
from pipeline.types import Array

WHOLE = Recipe("spread", 9100, holes=0)
STAND_IN_FACES = ("neutral",) * 5 + ("smile", "open", "surprise")
ICT_FACES: Sequence[tuple[str, Mapping[str, float]]] = (
    *(("neutral", {}),) * 5,
    ("smile", both(mouthSmile=0.9, cheekSquint=0.5)),
    ("open", {"jawOpen": 0.8}),
    ("mixed", {**both(browOuterUp=0.8, mouthStretch=0.5), "jawOpen": 0.3}),
)


class Face(NamedTuple):
    """A scan, and the clean mesh that it was made of, in correspondence with `mean_mm`."""

    case: Case
    vertices: Array  # (N,3)
    faces: Array  # (K,3) skin
    mean_mm: Array  # (N,3)


def main() -> None:
    arguments = parsed()
    data, seed, quick = arguments.shared_data, arguments.seed, arguments.quick
    peers = installed_peers(arguments.peers)
    chosen = slice(3, 6) if quick else slice(None)
    directions = (
        ("stand-in faces", stand_in_faces(seed)[chosen], open_model(data, "flame_ict")),
        ("ICT faces", ict_faces(IctModel.load(data), seed)[chosen], complete_regions(stand_in())),
    )
    rows = []
    for title, faces, model in directions:
        cases = {face.case.name: face.case for face in faces}
        for method, results in registered(cases, model, ["facefold", *peers]).items():
            row = {"scans": title, "model": model.name, "method": method}
            rows.append(row | spread(faces, list(results.values()), model))
    show(rows, arguments.json, print_rows)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three faces of each family")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--peers", default="none", help=f"all, none or of {','.join(PEERS)}")
    parser.add_argument("--seed", type=int, default=WHOLE.seed, help="the first face's")
    add_shared_data(parser)
    return parser.parse_args()


def stand_in_faces(seed: int) -> list[Face]:
    """Whole heads of random people beyond the stand-in's basis, without eyeballs."""
    model = complete_regions(stand_in())
    unseen = region(model, "hidden") | region(model, "eyeballs")
    skin = model.faces[~unseen[model.faces].any(1)]
    result = []
    for i, expression in enumerate(STAND_IN_FACES):
        rng = np.random.default_rng(seed + i)
        person = make_person(model, seed, i)
        vertices = pose_person(model, person, expression, 1.0, rng, turn_degrees=0.0).vertices_mm
        marks = landmarks_68(model, vertices)
        result.append(face_of(f"stand-in:{i} {expression}", vertices, skin, marks,
                              model.template_mm, rng))  # fmt: skip
    return result


def ict_faces(ict: IctModel, seed: int) -> list[Face]:
    skin = ict.triangles[(ict.region[ict.triangles] < 2).all(1)]
    result = []
    for i, (name, weights) in enumerate(ICT_FACES):
        rng = np.random.default_rng(seed + i)
        vertices = ict.vertices(rng.normal(size=100), weights)
        marks = vertices[ict.landmarks68]
        result.append(face_of(f"ict:{i} {name}", vertices, skin, marks,
                              ict.neutral, rng))  # fmt: skip
    return result


def face_of(
    scan_id: str,
    vertices: Array,
    skin: Array,
    marks: Array,
    mean_mm: Array,
    rng: np.random.Generator,
) -> Face:
    noisy = marks + rng.normal(scale=0.6, size=marks.shape)
    noisy[:17] = np.nan
    nobody = np.full((len(mean_mm), 3), np.nan)
    head = Head(vertices, skin, nobody, noisy, marks[30], marks[57])
    return Face(scanned(scan_id, head, WHOLE, rng), vertices, skin, mean_mm)


def spread(faces: Sequence[Face], results: Sequence[Result], model: FlameModel) -> dict[str, Any]:
    """Spread of the template's face vertices over all faces; how many the method finished."""
    found = {result.case.name: result.found.vertices_mm for result in results}
    done = [face for face in faces if face.case.name in found]
    row: dict[str, Any] = {"faces": len(done), "of": len(faces)}
    if len(done) < 2:
        return row
    at = region(model, "face") & ~region(model, "hidden") & ~region(model, "eyeballs")
    places = np.stack([places_of(face, found[face.case.name][at]) for face in done])
    apart = np.linalg.norm(places - places.mean(0), axis=2)
    # the mean of n places is drawn towards each of them
    apart *= np.sqrt(len(done) / (len(done) - 1))
    row |= {"spread": float(apart.mean()), "p95": float(np.quantile(apart, 0.95))}
    row["each"] = {f.case.name: float(a.mean()) for f, a in zip(done, apart, strict=True)}
    row["cpu_s"] = float(np.mean([result.cpu_s for result in results]))
    return row


def places_of(face: Face, points: Array) -> Array:
    """(N,3) points -> (N,3) the nearest of the face's skin, at its place on the mean mesh."""
    nearest = SurfaceIndex(face.vertices, face.faces).query(points)
    corners = face.mean_mm[face.faces[nearest.triangle]]
    return np.einsum("nk,nkd->nd", nearest.barycentric, corners)


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        figures = {k: row.get(k, np.nan) for k in ("spread", "p95", "cpu_s")}
        print(
            f"{row['scans']:15} with {row['model']:12} {row['method']:10}"
            + "".join(f"  {name} {value:5.2f}" for name, value in figures.items())
            + f"  {row['faces']} of {row['of']} faces"
        )
        print("   " + ", ".join(f"{name} {x:.2f}" for name, x in row.get("each", {}).items()))


if __name__ == "__main__":
    sys.exit(main())
