"""MICC: what its protocols measure on shapes with known distances, and what they hide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipeline.errors import FacefoldError, FormatError
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, Case, Given, Prediction, Score
from pipeline.evaluation.crops import SEVEN_68
from pipeline.evaluation.micc import MICC
from pipeline.landmarks.check import average_face
from pipeline.types import Array
from tests.evaluation.commanding import evaluate, kinds, row
from tests.evaluation.miniature_micc import VIEWS, points_68, write, write_scan
from tests.evaluation.scenes import Scene, oracle_scene, stand_in_scene

RADIUS_MM = 40.0
"""Of heads that are spheres with a nose and a chin: the crop, 95 mm around the nose, holds them
whole."""
SPHERE = trimesh.creation.icosphere(4)
BUMPS = ((0.0, 0.0, 1.0), (0.3, -0.8, 0.5))
"""Directions of nose and chin."""
DIRECTIONS = average_face()[0] - average_face()[0].mean(0) + [0.0, 0.0, 60.0]
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
"""Of a sphere's 68 landmarks from its middle."""


def given_of(tmp_path: Path, scene: Scene, protocol: str = "ganfit") -> Given:
    choices = {"protocol": protocol, "setting": "cooperative"}
    return Given(tmp_path / "root", tmp_path / "predictions", scene.model, "mm", None, choices)


def scores_of(case: Case, prediction: Prediction, given: Given) -> dict[tuple[str, str], Score]:
    return {(s.mode, s.variant): s for s in MICC.score(case, prediction, given)}


def case_of(tmp_path: Path, scene: Scene, views: tuple[str, ...] = ("frontal1",)) -> Case:
    """The only subject's."""
    write(tmp_path / "root", tmp_path / "predictions", scene, ("absent",), views=views)
    (case,) = MICC.cases(given_of(tmp_path, scene)).cases
    return case


def sphere(radius_mm: float) -> Scene:
    """One of another radius is everywhere as far away as the radii differ, but for the flanks of
    the bumps."""
    faces = np.asarray(SPHERE.faces)
    vertices, seven = (
        directions * (radius_mm + 5 * sum(_bump(directions, bump) for bump in BUMPS))[:, None]
        for directions in (np.asarray(SPHERE.vertices), DIRECTIONS[list(SEVEN_68)])
    )
    return replace(stand_in_scene(), vertices_mm=vertices, faces=faces, seven_mm=seven)


def _bump(directions: Array, at: tuple[float, ...]) -> Array:
    away = directions - np.asarray(at) / np.linalg.norm(at)
    bump: Array = np.exp(-np.square(away).sum(1) / 0.2)
    return bump


def predicted(vertices: Array, faces: Array, seven: Array) -> Prediction:
    points = np.full((68, 3), np.nan)
    points[list(SEVEN_68)] = seven
    return Prediction(vertices, faces, points)


def predicted_sphere(radius_mm: float) -> Prediction:
    scene = sphere(radius_mm)
    return predicted(scene.vertices_mm, scene.faces, scene.seven_mm)


@pytest.mark.parametrize("protocol", ["ganfit", "deep3d"])
def test_a_moved_truth_has_no_error(tmp_path: Path, protocol: str) -> None:
    scene = stand_in_scene()
    turned, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned *= np.sign(np.linalg.det(turned))
    moved = predicted(
        scene.vertices_mm @ turned.T + 70, scene.faces, scene.seven_mm @ turned.T + 70
    )
    given = given_of(tmp_path, scene, protocol)
    for score in scores_of(case_of(tmp_path, scene), moved, given).values():
        assert score.figures["error_mm"] < 1e-4
        assert score.figures["scale"] == pytest.approx(1, abs=1e-6)


def test_ganfit_halves_the_distances_both_ways(tmp_path: Path) -> None:
    scores = scores_of(
        case_of(tmp_path, sphere(RADIUS_MM)),
        predicted_sphere(RADIUS_MM + 1),
        given_of(tmp_path, sphere(RADIUS_MM)),
    )
    for variant in (AS_PUBLISHED, STRICT):
        assert scores["metric", variant].figures["error_mm"] == pytest.approx(1, abs=0.07)
        assert scores["aligned", variant].figures["error_mm"] < 0.05
        scale = scores["aligned", variant].figures["scale"]
        assert scale == pytest.approx(RADIUS_MM / (RADIUS_MM + 1), abs=0.002)


def test_the_better_of_two_scans_is_no_choice_of_strict_scores(tmp_path: Path) -> None:
    case = case_of(tmp_path, sphere(RADIUS_MM), tuple(VIEWS))
    write_scan(tmp_path / "root", "01", "frontal2", sphere(RADIUS_MM - 1))
    given = given_of(tmp_path, sphere(RADIUS_MM))
    scores = scores_of(case, predicted_sphere(RADIUS_MM + 1), given)
    better, mean = (scores["metric", variant] for variant in (AS_PUBLISHED, STRICT))
    assert better.figures["error_mm"] == pytest.approx(1, abs=0.07)
    assert mean.figures["error_mm"] == pytest.approx(1.5, abs=0.1)
    n = len(SPHERE.vertices)
    assert (len(better.distances), len(mean.distances)) == (n, 2 * n)
    assert mean.vertices_mm is not None and mean.faces is not None
    assert mean.vertices_mm.shape == (2 * n, 3) and mean.faces.max() < 2 * n


def test_ganfit_measures_in_the_prediction_s_millimetres(tmp_path: Path) -> None:
    scene = stand_in_scene()
    case, given = case_of(tmp_path, scene), given_of(tmp_path, scene)
    near, seven = 1000 * scene.predictions_m["near"], 1000 * scene.seven_m("near")
    own, larger = (
        scores_of(case, predicted(k * near, scene.prediction_faces, k * seven), given)
        for k in (1.0, 1.05)
    )
    errors = {
        key: larger[key].figures["error_mm"] / score.figures["error_mm"]
        for key, score in own.items()
    }
    assert errors["aligned", AS_PUBLISHED] == pytest.approx(1.05, rel=1e-3)
    assert errors["aligned", STRICT] == pytest.approx(1, rel=1e-3)
    assert errors["metric", STRICT] > 1.1


def test_strictly_what_the_scan_does_not_show_is_no_error(tmp_path: Path) -> None:
    scene = stand_in_scene()
    whole = predicted(
        1000 * scene.predictions_m["truth"], scene.prediction_faces, 1000 * scene.seven_m("truth")
    )
    scores = scores_of(case_of(tmp_path, scene), whole, given_of(tmp_path, scene))
    published, strict = (scores["metric", v].figures["error_mm"] for v in (AS_PUBLISHED, STRICT))
    # the scan ends before the ears, where the prediction goes on
    assert published > 1.5 * strict


def test_deep3d_leaves_the_forehead_out_and_forgives_what_lies_beside(tmp_path: Path) -> None:
    scene = sphere(RADIUS_MM)
    case, given = case_of(tmp_path, scene), given_of(tmp_path, scene, "deep3d")
    whole = predicted_sphere(RADIUS_MM)
    half = replace(whole, faces=whole.faces[SPHERE.triangles_center[:, 1] > -0.3])
    up = np.array([0.0, 1.0, 0.0])
    scores = scores_of(case, half, given)
    published, strict = scores["metric", AS_PUBLISHED], scores["metric", STRICT]
    assert published.figures["error_mm"] < 0.9 * strict.figures["error_mm"]
    brows = points_68(scene)[17:27] @ up
    kept = len(strict.distances)
    assert (scene.vertices_mm @ up <= brows.max()).sum() == pytest.approx(kept, rel=0.07)
    assert kept < 0.9 * len(scene.vertices_mm)


def test_subject_28_is_cropped_closer_by_ganfit(tmp_path: Path) -> None:
    scene, root = stand_in_scene(), tmp_path / "root"
    for subject in ("27", "28"):
        write_scan(root, subject, "frontal1", scene)
    for protocol, expected in (("ganfit", [95.0, 60.0]), ("deep3d", [95.0, 95.0])):
        found = MICC.cases(given_of(tmp_path, scene, protocol)).cases
        assert [case.facts["crop_mm"] for case in found] == expected


def test_what_is_asked_for(tmp_path: Path) -> None:
    scene, root = stand_in_scene(), tmp_path / "root"
    write_scan(root, "01", "frontal1", scene)
    write_scan(root, "01", "frontal2", scene, landmarks=False)
    write_scan(root, "02", "frontal2", scene, landmarks=False)
    write_scan(root, "03", "frontal2", scene)
    predictions = tmp_path / "predictions"
    names = ("indoor/subject_01", "subject_03/outdoor", "subject_03_cooperative", "subject_02")
    for name in names:
        (predictions / name).parent.mkdir(parents=True, exist_ok=True)
        (predictions / f"{name}.ply").touch()
    given = Given(root, predictions, scene.model, "mm")
    found = MICC.cases(given)
    assert {case.id: case.prediction is not None for case in found.cases} == {
        "cooperative/subject_01": False,
        "cooperative/subject_03": True,
        "indoor/subject_01": True,
        "indoor/subject_03": False,
        "outdoor/subject_01": False,
        "outdoor/subject_03": True,
    }
    assert [path.name for path in found.extra] == ["subject_02.ply"]
    assert [finding.kind for finding in found.findings] == ["no_truth", "no_truth"]
    first, second = (finding.said for finding in found.findings)
    assert "subject_01" in first and "1 of 2 is left out" in first
    assert "subject_02" in second and "the subject is left out" in second
    assert "MICC_landmarks" in second


def test_a_root_without_landmarks_is_refused(tmp_path: Path) -> None:
    scene = stand_in_scene()
    given = given_of(tmp_path, scene)
    (tmp_path / "root").mkdir()
    with pytest.raises(FacefoldError, match=r"no scan of Florence.*subject_08/Model/frontal1"):
        MICC.cases(given)
    write_scan(tmp_path / "root", "01", "frontal1", scene, landmarks=False)
    with pytest.raises(FacefoldError, match="none of 1 subjects has a frontal scan with landmarks"):
        MICC.cases(given)


def test_damaged_landmarks_are_named(tmp_path: Path) -> None:
    scene = sphere(RADIUS_MM)
    case, given = case_of(tmp_path, scene), given_of(tmp_path, scene)
    marks = case.truth[1]
    whole = marks.read_text()
    without = json.loads(whole)
    without["groups"]["LJSON"]["landmarks"]["points"][30] = [None, None, None]
    marks.write_text(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="not whole JSON"):
        scores_of(case, predicted_sphere(RADIUS_MM), given)
    marks.write_text(json.dumps(without))
    with pytest.raises(FacefoldError, match="the tip of the nose are missing"):
        scores_of(case, predicted_sphere(RADIUS_MM), given)


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    scene = stand_in_scene()
    known = scene.predictions_m
    wrong = {"larger": 1.05 * known["truth"], "in_mm": 1000 * known["near"]}
    scene = replace(scene, predictions_m={**known, **wrong})
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    names = ("truth", "larger", "near_mirrored", "in_mm", "absent")
    write(root, predictions, scene, names, views=("frontal1",))
    options = (*scene.model_options, "--choose", "setting=cooperative")
    found = evaluate("micc", root, predictions, tmp_path / "out", *options)
    of = {name: kinds(found, f"cooperative/subject_{i:02d}") for i, name in enumerate(names, 1)}
    assert "scaled" in of["larger"]
    assert "mirrored" in of["near_mirrored"]
    assert "unit" in of["in_mm"]
    assert of["absent"] == {"missing"}
    assert not of["truth"]
    assert found["status"] == 3
    assert row(found, "metric", STRICT, group="cooperative")["n"] == 5


@pytest.mark.oracles
def test_the_oracles_scene_through_the_command(oracles: Path, tmp_path: Path) -> None:
    """Nobody's figures are public: the command gives those of the functions."""
    scene = oracle_scene(oracles, tmp_path)
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    write(root, predictions, scene, ("near",), views=("frontal1",))
    options = ("--choose", "protocol=deep3d", "--choose", "setting=cooperative", "--unit", "m")
    found = evaluate("micc", root, predictions, tmp_path / "out", *scene.model_options, *options)
    given = given_of(tmp_path, scene, "deep3d")
    (case,) = MICC.cases(given).cases
    near = MICC.read(case, replace(given, unit="m"))
    for (mode, variant), score in scores_of(case, near, given).items():
        printed = row(found, mode, variant, group="cooperative")
        assert printed["error_mm"] == pytest.approx(score.figures["error_mm"], abs=1e-9)
        assert 0.5 < printed["error_mm"] < 3
