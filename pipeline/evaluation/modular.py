"""M3DFB: predictions compared by many recipes, made of exchangeable parts.

Sariyanidi et al. 2023, "Meta-evaluation for 3D face reconstruction via synthetic data" (IJCB).
Layout: `ROOT/Gmeshes/<id>.txt` (rows x y z) with `<id>.lmks` (iBUG's 51 points), predictions
`<id>.txt` in one topology that a JSON file describes. Meshes in the model's topology need no such
file; what counts of them is a ball round the face. Distances are one a point of the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import (
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
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.crops import faces_within, upright
from pipeline.evaluation.point_sets import (
    SEVEN,
    UNITS_MM,
    Topology,
    point_file,
    read_points,
    read_true_landmarks,
    topology_file,
    topology_of,
    truth_unit_mm,
)
from pipeline.evaluation.predictions import MESHES, read_mesh, stem_of
from pipeline.evaluation.recipes import RECIPES, Recipe, recipes_of
from pipeline.types import Array
from pipeline.units import mm_per

TRUTHS, MARKS = "Gmeshes", ".lmks"
KNOWN = "True"
"""The recipe that is run by itself only where the truth is in the predictions' topology."""
BY_ITSELF = tuple(name for name in RECIPES if name != KNOWN)
SAME_MM = 3.0
"""A truth is in the predictions' topology if half of its landmarks lie so near the points that have
their numbers; in another order they are centimetres away."""
MM_PER_M = 1000.0
WHERE = (
    "--root is the folder of one data set, such as data/BFMsynth, --predictions that of one method,"
    " such as data/BFMsynth/Rmeshes/BFM/p23470/3DDFAv2"
)


def _cases(given: Given) -> Cases:
    folder = given.root / TRUTHS
    truths = _by_stem(folder)
    if not truths:
        raise FacefoldError(
            f"{folder}: no truths <id>.txt, expected them with <id>{MARKS} beside; {WHERE}"
        )
    unmarked = [stem for stem in truths if not (folder / (stem + MARKS)).is_file()]
    if unmarked:
        raise FacefoldError(
            f"{folder}: {len(unmarked)} of {len(truths)} truths have no landmarks, the first is "
            f"{unmarked[0]}; write iBUG's 51 points x y z to {unmarked[0]}{MARKS}"
        )
    _refuse_without_triangles(folder, truths, _recipes(given) or ())
    predicted, topology = _by_stem(given.predictions), _topology_file(given)
    shared = () if topology is None else (topology,)
    cases = [
        Case(stem, stem, "", (path, folder / (stem + MARKS), *shared), predicted.get(stem))
        for stem, path in truths.items()
    ]
    extra = [path for stem, path in predicted.items() if stem not in truths]
    return Cases(tuple(cases), extra=tuple(extra))


def _by_stem(folder: Path) -> dict[str, Path]:
    """The meshes or points of a folder by name, in order."""
    suffixes = tuple(f".{form}" for form in ("txt", *MESHES))
    if not folder.is_dir():
        raise FacefoldError(f"{folder}: no such folder; {WHERE}")
    files = folder.iterdir()
    stems = {stem_of(p) for p in files if p.name.lower().removesuffix(".gz").endswith(suffixes)}
    found = {stem: point_file(folder, stem) for stem in sorted(stems)}
    return {stem: path for stem, path in found.items() if path is not None}


def _refuse_without_triangles(
    folder: Path, truths: dict[str, Path], recipes: Sequence[Recipe]
) -> None:
    points = [path.name for path in truths.values() if path.suffix.lower() == ".txt"]
    asking = [recipe.name for recipe in recipes if recipe.correspondence == "P2Tri"]
    if points and asking:
        raise FacefoldError(
            f"{folder}: {len(points)} truths are points, the first is {points[0]}, but {asking[0]} "
            "measures to triangles; put meshes there, or take chamfer for P2Tri"
        )


def _recipes(given: Given) -> tuple[Recipe, ...] | None:
    """Those that the user named; None if nothing is said."""
    said = given.choices.get("recipe", "")
    return recipes_of(said) if said else None


def _topology_file(given: Given) -> Path | None:
    named = given.choices.get("topology", "")
    return topology_file(named, given.predictions, given.root, given.root / "info")


def _topology(given: Given) -> Topology:
    return topology_of(_topology_file(given), given.model)


def _read(case: Case, given: Given) -> Prediction:
    assert case.prediction is not None
    topology = _topology(given)
    points_only = case.prediction.suffix.lower() == ".txt"
    n = len(topology.mean_mm)
    if topology.of_model and not points_only:
        found = read_mesh(case, given, needs_landmarks=False)
        if found.in_model_topology:
            return found
    if topology.of_model:
        raise FacefoldError(
            f"{case.prediction}: not in the topology of {given.model.name} ({n} vertices), and no "
            "JSON file beside the predictions describes another; name one by --choose topology=…"
        )
    scan = read_points(case.prediction)
    if len(scan.vertices) != n:
        raise FacefoldError(
            f"{case.prediction}: {len(scan.vertices)} points, but the topology has {n}; the file "
            "is cut off, or the topology of another crop: name its own by --choose topology=…"
        )
    unit_mm = 1.0 if given.unit == "auto" else mm_per(given.unit)
    return Prediction(scan.vertices, scan.faces, topology.landmarks_68(scan.vertices), unit_mm)


def _mean_head(case: Case, given: Given) -> Prediction:
    topology = _topology(given)
    marks = topology.landmarks_68(topology.mean_mm)
    return Prediction(topology.mean_mm, topology.faces, marks, 1.0, topology.of_model)


def _score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    topology = _topology(given)
    comparison, known = _comparison(case, prediction, topology, given)
    recipes = _recipes(given) or recipes_of(",".join([*BY_ITSELF, *([KNOWN] if known else [])]))
    faces = faces_within(prediction.faces, topology.counted)
    shown = {
        "faces": faces if len(faces) else None,
        "upright": upright(comparison.truth_landmarks[list(SEVEN)]),
    }
    return [
        _one(comparison, recipe, scaled, variant, shown)
        for recipe in recipes
        for scaled in (True, False)
        for variant in VARIANTS
    ]


def _one(
    comparison: Comparison,
    recipe: Recipe,
    scaled: bool,
    variant: Variant,
    shown: dict[str, Array | None],
) -> Score:
    placed, distances = comparison.distances(recipe, scaled, variant)
    distances_mm = (MM_PER_M * distances).astype(np.float32)
    figures = {
        "mean_mm": float(distances_mm.mean(dtype=np.float64)),
        "scale": placed.motion.scale,
        "determinant": placed.motion.determinant,
    }
    mode = recipe.name if scaled else f"{recipe.name} metric"
    return Score(mode, variant, distances_mm, "", figures, MM_PER_M * placed.points, **shown)


def _comparison(
    case: Case, prediction: Prediction, topology: Topology, given: Given
) -> tuple[Comparison, bool]:
    """In metres; and whether the truth is in the predictions' topology."""
    path, marks_path = case.truth[:2]
    marks, scan = read_true_landmarks(marks_path), read_points(path)
    unit_mm = truth_unit_mm(marks_path, marks, given.choices.get("truth_unit", "auto"))
    to_m, truth_to_m = prediction.unit_mm / MM_PER_M, unit_mm / MM_PER_M
    same = len(scan.vertices) == len(topology.mean_mm)
    off = np.linalg.norm(topology.landmarks(scan.vertices) - marks, axis=1) if same else np.inf
    comparison = Comparison(
        points=prediction.vertices[topology.counted] * to_m,
        landmarks=topology.landmarks(prediction.vertices) * to_m,
        truth=scan.vertices * truth_to_m,
        truth_faces=scan.faces,
        truth_landmarks=marks * truth_to_m,
        corresponding=scan.vertices[topology.counted] * truth_to_m if same else None,
        weights=topology.weights,
    )
    return comparison, bool(np.median(off) * unit_mm <= SAME_MM)


def _rows(scored: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """Mean and standard deviation over predictions of each prediction's mean distance."""
    means: dict[tuple[str, Variant], list[float]] = {}
    for _, scores in scored:
        for score in scores:
            found = means.setdefault((score.mode, score.variant), [])
            found.append(float(score.distances.mean(dtype=np.float64)))
    return [
        Row(
            mode,
            variant,
            "",
            "",
            len(of),
            {"mean_mm": float(np.mean(of)), "std_mm": float(np.std(of))},
        )
        for (mode, variant), of in means.items()
    ]


MODULAR = Benchmark(
    title="M3DFB: one prediction, many recipes",
    citation=(
        "Sariyanidi, Ferrari, Berretti, Schultz, Tunc: Meta-evaluation for 3D face reconstruction "
        "via synthetic data, IJCB 2023"
    ),
    cases=_cases,
    read=_read,
    score=_score,
    rows=_rows,
    mean_head=_mean_head,
    choices={
        "recipe": Choice(
            f"list of recipes: {', '.join(RECIPES)}, or parts such as RLR+ELR+NICP+chamfer+ETC or "
            f"ICP+P2Tri; else {', '.join(BY_ITSELF)}, and {KNOWN} if the truth's points are the "
            "predictions'; those with NICP, E8 and E16, take a minute a subject at 5,000 points",
            (),
        ),
        "topology": Choice(
            "JSON file with lmk_indices, leye_oc_rel_index, reye_oc_rel_index, mean_face_shape; "
            "else the only one beside the predictions, in the root or its folder info",
            (),
        ),
        "truth_unit": Choice(
            "unit of truths; auto goes by the outer eye corners", ("auto", *UNITS_MM)
        ),
    },
)
