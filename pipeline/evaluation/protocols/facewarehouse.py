"""FaceWarehouse: fitted meshes of people and their expressions (Cao et al., TVCG 2014).

After MoFA's protocol (Tewari et al., ICCV 2017), which tests on 180 meshes, 9 people in 20
expressions, on a small and on a large region of the face. Neither these people nor the masks are
public, and the dataset has no 3D landmarks: people are a choice, the regions are balls around the
face by its landmarks (`SMALL`, `LARGE`), and the user says which vertices are landmarks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import FacefoldError, UnitError
from pipeline.evaluation.benchmark import (
    VARIANTS,
    Benchmark,
    Case,
    Cases,
    Choice,
    Finding,
    Given,
    Prediction,
    Row,
    Score,
)
from pipeline.evaluation.crops import face_ball
from pipeline.evaluation.distances import to_surface
from pipeline.evaluation.predictions.meshes import mean_head
from pipeline.evaluation.protocols.means import mean_std, rows_of
from pipeline.evaluation.protocols.truths import (
    Delivered,
    Truth,
    delivered,
    extra_meshes,
    first_found,
    laid_on,
    read_truth,
    read_with_seven,
    scored,
)
from pipeline.landmarks.check import check_order
from pipeline.units import OUTER_EYE_MM

SMALL, LARGE = 0.9, 1.4
"""Radii of the regions in `face_ball`'s lengths, some 62 and 96 mm: eyes, nose and mouth, or with
cheeks, chin and much of the forehead."""
NEUTRAL = "pose_0"
LANDMARKS = "landmarks.txt"
PUBLISHED = 180
"""Meshes that published figures are of."""
UNITS_MM = (1.0, 10.0, 100.0, 1000.0)
"""Of which the truth's unit is one: it is not stated, and all its files have the same."""
SLACK = 0.15
"""Of the usual distance of eye corners, by which the truth's may be smaller or larger."""


def cases(given: Given) -> Cases:
    """A case a mesh `Tester_<n>/TrainingPose/pose_<k>.obj`, of all people or of those chosen.

    Predictions are `Tester_<n>/pose_<k>.obj`, as the truth is, or `Tester_<n>_pose_<k>.obj`. Raises
    FacefoldError if the root has no meshes, or none of a person who is chosen, and if no file says
    which vertices are landmarks.
    """
    meshes = delivered("facewarehouse", given.root)
    people = _people(given, {scan.groups["subject"] for scan in meshes})
    landmarks = _landmarks(given)
    asked = tuple(
        _case(given, scan, landmarks)
        for scan in sorted(meshes, key=_numbers)
        if scan.groups["subject"] in people
    )
    return Cases(asked, tuple(_another_set(asked)), extra_meshes(given, asked))


def _case(given: Given, scan: Delivered, landmarks: Path) -> Case:
    person, pose = f"Tester_{scan.groups['subject']}", f"pose_{scan.groups['expression']}"
    places = ((person, pose), (f"{person}/TrainingPose", pose), ("", f"{person}_{pose}"))
    prediction, own = first_found(given, places)
    group = "neutral" if pose == NEUTRAL else "expressions"
    return Case(f"{person}/{pose}", person, group, (scan.path, landmarks), prediction, own)


def _numbers(scan: Delivered) -> tuple[int, int]:
    return int(scan.groups["subject"]), int(scan.groups["expression"])


def _people(given: Given, known: set[str]) -> set[str]:
    chosen = {word for word in re.split(r"[\s,]+", given.choices.get("people", "")) if word}
    people = {word.removeprefix("Tester_") for word in chosen}
    if unknown := people - known:
        raise FacefoldError(
            f"people: {', '.join(sorted(unknown))} have no mesh below {given.root}, expected some "
            f"of {', '.join(sorted(known, key=int))}; correct people=, or deliver their meshes"
        )
    return people or known


def _landmarks(given: Given) -> Path:
    path = given.root / (given.choices.get("landmarks") or LANDMARKS)
    if not path.is_file():
        raise FacefoldError(
            f"{path}: no such file, expected vertices of FaceWarehouse's meshes, one a landmark "
            "(7 of FG2018, 51 or 68 of iBUG, counted from 0), for the dataset has no 3D landmarks; "
            "write it, or name it by --choose landmarks=FILE"
        )
    return path


def _another_set(asked: Sequence[Case]) -> Iterator[Finding]:
    if len(asked) != PUBLISHED:
        people = len({case.person for case in asked})
        yield Finding(
            "another_set",
            f"{len(asked)} meshes of {people} people, where published figures are of {PUBLISHED} "
            "of 9, who are not named: compare with none of them; choose people by --choose "
            "people=1,2,…",
            figures={"meshes": float(len(asked)), "people": float(people)},
        )


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    """`aligned`, by a similarity, and `metric`, by a rigid motion that keeps the declared unit:
    from the seven landmarks to the least sum of squared distances of the large region.

    Both variants are the same but in what becomes of missing predictions.
    """
    mesh, landmarks = case.truth
    truth = _in_mm(read_truth(mesh, landmarks, 1.0), mesh)
    large = truth.within(face_ball(truth.seven_mm, LARGE))
    small = face_ball(truth.seven_mm, SMALL).holds(large.vertices_mm)
    vertices = prediction.unit_mm * prediction.vertices
    scores: list[Score] = []
    for mode, scaled in (("aligned", True), ("metric", False)):
        fit = laid_on(large, prediction, scaled)
        found = to_surface(large.vertices_mm, fit.apply(vertices), prediction.faces)
        distances = found.distance.astype(np.float32)
        for variant in VARIANTS:
            scores += [
                scored(mode, variant, distances[small], large.part(small), fit, "small"),
                scored(mode, variant, distances, large, fit, "large"),
            ]
    return scores


def _in_mm(truth: Truth, path: Path) -> Truth:
    """In the only unit in which its eyes are a person's. Raises UnitError if there is none, and
    FacefoldError for landmarks that are not a face's."""
    if faults := check_order("ibug68", truth.points_68_mm):
        raise FacefoldError(
            f"{path}: {'; '.join(faults)}; check that the file of landmarks names vertices of this "
            "topology, counted from 0, in the order of iBUG or FG2018"
        )
    low, high = OUTER_EYE_MM
    apart = float(np.linalg.norm(truth.seven_mm[0] - truth.seven_mm[3]))
    for unit_mm in UNITS_MM:
        if low * (1 - SLACK) <= unit_mm * apart <= high * (1 + SLACK):
            return truth.times(unit_mm)
    raise UnitError(
        f"{path}: outer eye corners {apart:.4g} units apart, expected {low:g}–{high:g} mm in mm, "
        "cm, dm or m; deliver the mesh in one of these"
    )


def rows(found: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """Means over meshes, of all, of neutral ones and of expressions, by region."""
    return rows_of(found, _columns)


def _columns(scores: Sequence[Score]) -> Mapping[str, float]:
    mean, std = mean_std(scores, "mean_mm")
    rest = {name: mean_std(scores, name)[0] for name in ("median_mm", "rmse_mm")}
    return {"mean_mm": mean, "std_mm": std, **rest}


FACEWAREHOUSE = Benchmark(
    title="FaceWarehouse",
    citation="Cao et al., FaceWarehouse, IEEE TVCG 2014; scored after Tewari et al., MoFA, ICCV "
    "2017",
    cases=cases,
    read=read_with_seven,
    score=score,
    rows=rows,
    mean_head=lambda case, given: mean_head(given),
    choices={
        "people": Choice("numbers of the people to test on, such as 1,2,3; all if empty", ()),
        "landmarks": Choice(
            f"file of the truth's landmark vertices, {LANDMARKS} in the root if empty", ()
        ),
    },
    neutral=False,
)
