"""REALY: four regions of a scan, each aligned and warped to the prediction on its own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation import predictions
from pipeline.evaluation.alignment import Similarity
from pipeline.evaluation.benchmark import (
    AS_PUBLISHED,
    STRICT,
    VARIANTS,
    Benchmark,
    Case,
    Cases,
    Choice,
    Given,
    Prediction,
    Row,
    Score,
    Variant,
)
from pipeline.evaluation.crops import SEVEN_68, upright
from pipeline.evaluation.realy_fit import Predicted, errors, regional, start
from pipeline.evaluation.realy_keypoints import TABLE, TEMPLATE, chosen_table, mean_head, read
from pipeline.evaluation.realy_truth import (
    REGIONS,
    Region,
    Truth,
    read_truth,
    single,
)
from pipeline.geometry.closest import SurfaceIndex
from pipeline.types import Array

SCANS, KEYPOINTS, SCALES = "REALY_scan_region", "REALY_HIFI3D_keypoints", "metrical_scale.txt"
ALIGNED, METRIC = "aligned", "metric"
MODES = (ALIGNED, METRIC)
FRONTAL, MULTI_VIEW = "frontal", "multi-view"
NAMED = re.compile(r"(?P<id>\d+)(?:_(?P<view>.+))?")
"""A prediction without its format."""

Slot = tuple[str, Variant]
"""Mode and variant."""


def cases(given: Given) -> Cases:
    """A frontal image a scan; several views of each if predictions are named `<id>_<view>`.

    Raises FacefoldError where the root is not laid out as REALY is.
    """
    root = given.root
    people = sorted((p.name for p in _folder(root, SCANS).iterdir() if p.name.isdigit()), key=int)
    if not people:
        raise FacefoldError(f"{root / SCANS}: no folder 1, 2, …; deliver REALY's scans there")
    scales = _scales(root)
    found, extra = _delivered(given.predictions, set(people))
    views = sorted({view for _, view in found if view})
    wanted = [(person, "") for person in people if not views or any(v == "" for _, v in found)]
    wanted += [(person, view) for view in views for person in people]
    tables = tuple(p for p in (root / TABLE, root / TEMPLATE, *chosen_table(given)) if p.is_file())
    listed = [
        Case(
            f"{person}_{view}" if view else person,
            person,
            MULTI_VIEW if view else FRONTAL,
            (
                _folder(root, KEYPOINTS) / f"{person}.obj",
                *(root / SCANS / person / f"{region}.obj" for region in REGIONS),
                *tables,
            ),
            found.get((person, view)),
            None,
            {"mm_per_unit": _scale(scales, person, root)},
        )
        for person, view in wanted
    ]
    return Cases(tuple(listed), (), tuple(extra))


def _folder(root: Path, name: str) -> Path:
    if not (root / name).is_dir():
        raise FacefoldError(
            f"{root}: no folder {name}, expected REALY as its authors deliver it, with {SCANS}, "
            f"{KEYPOINTS} and {SCALES}; name its folder by --root"
        )
    return root / name


def _scales(root: Path) -> Array:
    """Millimetres in a unit of each scan; row 1 is scan 1."""
    path = next((p for p in (root / SCALES, root / "data" / SCALES) if p.is_file()), None)
    if path is None:
        raise FacefoldError(
            f"{root}: no {SCALES}, without which nothing is in millimetres; copy it from the data "
            "of REALY's code"
        )
    words = path.read_text(encoding="utf-8").split()
    try:
        scales = np.array(words, np.float64)
    except ValueError as error:
        raise FacefoldError(f"{path}: {error}, expected a number a row; copy it again") from error
    if not (scales > 0).all():
        raise FacefoldError(f"{path}: a scale of {scales.min()}, expected > 0; copy it again")
    return scales


def _scale(scales: Array, person: str, root: Path) -> float:
    if not 1 <= int(person) <= len(scales):
        raise FacefoldError(
            f"{root / SCALES}: {len(scales)} rows, expected one for scan {person}; copy it again"
        )
    return float(scales[int(person) - 1])


def _delivered(folder: Path, people: set[str]) -> tuple[dict[tuple[str, str], Path], list[Path]]:
    """(Person, view) -> its prediction, and the meshes that nobody asked for."""
    found: dict[tuple[str, str], Path] = {}
    extra: list[Path] = []
    for path in sorted(folder.iterdir()):
        stem = predictions.stem_of(path)
        if not path.is_file() or predictions.prediction_file(folder, stem) != path:
            continue
        named = NAMED.fullmatch(stem)
        if named and named["id"] in people:
            found[named["id"], named["view"] or ""] = path
        else:
            extra.append(path)
    return found, extra


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    """Both modes and variants, a score a region; `metric` keeps the declared unit."""
    del given
    truth = read_truth(case)
    assert prediction.landmarks_85 is not None
    keypoints = single(prediction.landmarks_85)
    index = SurfaceIndex(single(prediction.vertices), prediction.faces)
    predicted = Predicted(index, keypoints)
    unit = prediction.unit_mm / truth.mm_per_unit
    starts = {
        (mode, variant): start(
            keypoints,
            truth.keypoints,
            variant=variant,
            unit_scale=unit if mode == METRIC else None,
        )
        for mode in (ALIGNED, METRIC)
        for variant in VARIANTS
    }
    return [
        made for region in truth.regions for made in _scores(predicted, starts, region, truth, unit)
    ]


def _scores(
    predicted: Predicted,
    starts: Mapping[Slot, Similarity],
    region: Region,
    truth: Truth,
    unit: float,
) -> list[Score]:
    """Of one region."""
    parts = {AS_PUBLISHED: region, STRICT: region.largest()}
    fits = _fits(predicted, starts, parts, truth)
    distances = dict[Slot, Array]()
    for part in {id(part): part for part in parts.values()}.values():
        slots = [slot for slot in fits if parts[slot[1]] is part]
        own = list({id(fits[slot]): fits[slot] for slot in slots}.values())
        found = dict(zip(map(id, own), errors(predicted, own, part, truth), strict=True))
        distances |= {slot: found[id(fits[slot])] for slot in slots}
    return [_score(slot, fits[slot], distances[slot], parts[slot[1]], truth, unit) for slot in fits]


def _fits(
    predicted: Predicted,
    starts: Mapping[Slot, Similarity],
    parts: Mapping[Variant, Region],
    truth: Truth,
) -> dict[Slot, Similarity]:
    """The prediction on a region in each mode and variant. A strict fit is that of the published
    variant where both start equally and nothing is reflected."""
    fits = dict[Slot, Similarity]()
    for mode, variant in product(MODES, VARIANTS):
        begin, published = starts[mode, variant], starts[mode, AS_PUBLISHED]
        alike = np.allclose(begin.affine, published.affine, rtol=0, atol=1e-12)
        whole = parts[variant] is parts[AS_PUBLISHED]
        if variant == STRICT and whole and alike and fits[mode, AS_PUBLISHED].determinant > 0:
            fits[mode, variant] = fits[mode, AS_PUBLISHED]
        else:
            fits[mode, variant] = regional(
                predicted, begin, parts[variant], truth.keypoints, variant=variant
            )
    return fits


def _score(
    slot: Slot, fit: Similarity, distances: Array, part: Region, truth: Truth, unit: float
) -> Score:
    mode, variant = slot
    distances_mm = (truth.mm_per_unit * distances).astype(np.float32)
    figures = {
        "mean_mm": truth.mm_per_unit * float(distances.mean()),
        "scale": fit.scale / unit,
        "determinant": fit.determinant,
    }
    return Score(
        mode,
        variant,
        distances_mm,
        part.name,
        figures,
        truth.mm_per_unit * part.vertices,
        part.faces,
        upright(truth.keypoints[list(SEVEN_68)]),
    )


def rows(scored: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """Means over predictions of each region's mean; of all, the mean of the four."""
    means: dict[tuple[str, Variant, str, str], list[float]] = defaultdict(list)
    for case, scores in scored:
        for mode, variant in product(MODES, VARIANTS):
            own = [s for s in scores if (s.mode, s.variant) == (mode, variant)]
            if not own:
                continue
            figures = {"": float(np.mean([s.figures["mean_mm"] for s in own]))}
            figures |= {s.part: s.figures["mean_mm"] for s in own}
            for group, (part, mean) in product(("", case.group), figures.items()):
                means[mode, variant, group, part].append(mean)
    groups = {group for _, _, group, _ in means if group}
    return [
        Row(mode, variant, group, part, len(of), mean_std(of))
        for (mode, variant, group, part), of in means.items()
        if not group or len(groups) > 1
    ]


def mean_std(means: Sequence[float]) -> dict[str, float]:
    """The standard deviation is that of a sample, NaN for one."""
    std = float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")
    return {"mean_mm": float(np.mean(means)), "std_mm": std}


REALY = Benchmark(
    title="REALY",
    citation=("Chai et al., REALY: Rethinking the Evaluation of 3D Face Reconstruction, ECCV 2022"),
    cases=cases,
    read=read,
    score=score,
    rows=rows,
    mean_head=mean_head,
    choices={
        "keypoints": Choice(
            "where the 85 keypoints lie on the predictions' triangles: a file as data/FLAME.txt of "
            "REALY's code",
            (),
        )
    },
)
