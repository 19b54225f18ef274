"""What becomes of scans whose unit or axes are declared wrongly.

python tests/benchmarks/units.py [--quick] [--json] [--shared-data DIR]
Scans of known size and pose (ICT faces: whole heads, crops, halves, expressions, noise, shoulders;
real scans, whole and cropped) go through normalising, registration and the gates with every
declared unit, or `auto`, for every true one, then with some of the 24 axis conventions for the true
one, with landmarks and without. A wrong declaration must be refused; a line counts at which stage,
and whether the reason tells the truth (alone, or with another unit that stays plausible).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import poses
from ict_cases import IctModel
from open_models import add_shared_data, open_model
from poses import ICT_KINDS, REAL_PARTS, ict_face, part_of, real_scans
from scipy.spatial import cKDTree

from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.normalise import normalise
from pipeline.normalise.axes import CONVENTIONS, said
from pipeline.quality.refusing import judged
from pipeline.quality.thresholds import Gates
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.template import Template, prepare_template
from pipeline.registry import Axes, Limits
from pipeline.types import Array, RawScan, Refusal
from pipeline.units import UNITS

UPRIGHT = Axes(up="+y", forward="+z")
WRONG_AXES = 6
QUICK_KINDS = ("whole head", "face only", "half face, 1 mm noise", "shoulders and debris")


@dataclass(frozen=True, eq=False)
class Upright:
    """A scan in canonical millimetres; marks_mm (68,3) iBUG landmarks, NaN where missing."""

    kind: str
    vertices_mm: Array
    faces: Array
    marks_mm: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four ICT faces")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_shared_data(parser)
    arguments = parser.parse_args()
    rows = run(arguments.shared_data, arguments.quick)
    if arguments.json:
        print(json.dumps({"trials": rows, "summary": summary(rows)}))
        return
    for line in summary(rows):
        print("  ".join(f"{name} {value}" for name, value in line.items()))


def run(data: Path, quick: bool) -> list[dict[str, Any]]:
    """One row a scan, declaration, and with or without landmarks."""
    model = open_model(data, "flame_ict")
    template = prepare_template(model, "cpu", RegistrationOptions().modes)
    rng = np.random.default_rng(0)
    return [row for case in cases(data, model, quick, rng) for row in trials(template, case, rng)]


def cases(
    data: Path, model: FlameModel, quick: bool, rng: np.random.Generator
) -> Iterator[Upright]:
    ict = IctModel.load(data)
    for kind in QUICK_KINDS if quick else ICT_KINDS:
        yield upright(model, ict_face(ict, model, kind, rng))
    for n, real in enumerate([] if quick else real_scans(data, model)):
        yield upright(model, real)
        yield upright(model, part_of(real, REAL_PARTS[1 + n % 4], rng))


def upright(model: FlameModel, case: poses.Upright) -> Upright:
    """With landmarks where the template's lie within 5 mm of a point of the case's face."""
    assert model.landmarks is not None
    own = model.landmarks.positions(model.template_mm.astype(np.float64), model.faces)
    distance, nearest = cKDTree(case.source).query(own)
    found = np.full((68, 3), np.nan)
    found[model.landmarks.indices_68] = np.where(
        distance[:, None] < 5, case.target[nearest], np.nan
    )
    return Upright(case.kind, case.scan.vertices_mm, case.scan.faces, found)


def trials(template: Template, case: Upright, rng: np.random.Generator) -> list[dict[str, Any]]:
    """All declarations of the unit, and the true axes and some of the 23 others."""
    wrong = [axes for axes in CONVENTIONS if axes != UPRIGHT]
    chosen = [UPRIGHT, *(wrong[i] for i in rng.choice(len(wrong), WRONG_AXES, replace=False))]
    rows = []
    for landmarks in (True, False):
        kept: dict[float, tuple[str, str]] = {}  # by size, which is all that units differ in
        for true, declared in product(UNITS, (*UNITS, "auto")):
            size = round(UNITS.get(declared, 0) / UNITS[true], 9)
            if declared == "auto" or kept.get(size, ("normalise",))[0] == "normalise":
                kept[size] = outcome(template, case, landmarks, true, declared, UPRIGHT)
            rows.append(row(case, landmarks, "unit", true, declared, *kept[size]))
        for axes in chosen:
            found = outcome(template, case, landmarks, "mm", "mm", axes)
            rows.append(row(case, landmarks, "axes", said(UPRIGHT), said(axes), *found))
    return rows


def outcome(
    template: Template, case: Upright, landmarks: bool, true: str, declared: str, axes: Axes
) -> tuple[str, str]:
    """Stage and reason of the refusal, or "kept", and the unit that `auto` found."""
    raw = RawScan(case.vertices_mm / UNITS[true], case.faces)
    try:
        scan = normalise(
            raw,
            scan_id=case.kind,
            unit=declared,
            axes=axes,
            landmarks=case.marks_mm / UNITS[true] if landmarks else None,
            scheme="ibug68" if landmarks else None,
        )
    except FacefoldError as error:
        return Refusal.of(error).stage, str(error)
    if declared == "auto":
        return "kept", f"likely in {scan.unit}"
    registration = register([scan], template.model)[0]
    stage, reason, _ = judged(scan, registration, template, Gates(), axes, Limits())
    return stage or "kept", reason


def row(
    case: Upright, landmarks: bool, what: str, true: str, declared: str, stage: str, reason: str
) -> dict[str, Any]:
    """`told` compares what is called likely with the truth."""
    text = " ".join(re.findall(r"likely (.*?)(?:$|;|: a face)", reason))
    if stays := re.search(r"(\w+ and \w+) stay plausible", reason):
        text = stays[1]
    pattern = r"\{.*?\}" if what == "axes" else r"\b(?:mm|cm|m|inch)\b"
    named = re.findall(pattern, text)
    told = "nothing" if not named else "wrong"
    if true in named:
        told = "the truth" if named == [true] else "the truth and others"
    return {
        "kind": case.kind,
        "landmarks": landmarks,
        "what": what,
        "true": true,
        "declared": declared,
        "stage": stage,
        "told": told,
        "reason": reason,
    }


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each pair of units, for `auto`, and for right and wrong axes."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        axes = "right" if row["true"] == row["declared"] else "wrong"
        pair = (row["true"], row["declared"]) if row["what"] == "unit" else ("", axes)
        witness = "landmarks" if row["landmarks"] else "surface"
        groups.setdefault((row["what"], witness, *pair), []).append(row)
    return [
        {
            **dict(zip(("what", "witness", "true", "declared"), key, strict=True)),
            "trials": len(some),
            "outcome": dict(Counter(row["stage"] for row in some)),
            "told": dict(Counter(row["told"] for row in some)),
        }
        for key, some in groups.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
