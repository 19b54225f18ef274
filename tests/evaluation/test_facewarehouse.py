"""FaceWarehouse: distances on shapes that are known, and what its files do not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError, FormatError, UnitError
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, VARIANTS, Given, Prediction, Score
from pipeline.evaluation.crops import SEVEN_68, face_ball
from pipeline.evaluation.facewarehouse import FACEWAREHOUSE, LARGE, SMALL
from pipeline.types import Array
from tests.evaluation.commanding import evaluate, kinds, row
from tests.evaluation.miniature_facewarehouse import UNIT_MM, write, write_landmarks
from tests.evaluation.scenes import Scene, oracle_scene, stand_in_scene, write_obj
from tests.miniatures.heads import head

PARTS = ("small", "large")


def given_of(tmp_path: Path, scene: Scene, choices: Mapping[str, str] | None = None) -> Given:
    roots = tmp_path / "root", tmp_path / "predictions"
    return Given(*roots, scene.model, "mm", None, dict(choices or {}))


def scores_of(
    tmp_path: Path, scene: Scene, vertices: Array, seven: Array
) -> dict[tuple[str, str, str], Score]:
    """Of a prediction in the scan's topology, in millimetres."""
    write(tmp_path / "root", tmp_path / "predictions", scene, ("absent",))
    given = given_of(tmp_path, scene)
    (case,) = FACEWAREHOUSE.cases(given).cases
    points = np.full((68, 3), np.nan)
    points[list(SEVEN_68)] = seven
    found = FACEWAREHOUSE.score(case, Prediction(vertices, scene.faces, points), given)
    return {(s.mode, s.variant, s.part): s for s in found}


def test_a_moved_truth_has_no_error(tmp_path: Path) -> None:
    scene = stand_in_scene()
    turned, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned *= np.sign(np.linalg.det(turned))
    moved, seven = (points @ turned.T + 70 for points in (scene.vertices_mm, scene.seven_mm))
    for score in scores_of(tmp_path, scene, moved, seven).values():
        assert score.distances.max() < 1e-3
        assert score.figures["scale"] == pytest.approx(1, abs=1e-5)


def test_size_is_hidden_by_the_alignment_alone(tmp_path: Path) -> None:
    scene = stand_in_scene()
    scores = scores_of(tmp_path, scene, 1.05 * scene.vertices_mm, 1.05 * scene.seven_mm)
    for variant in VARIANTS:
        for part in PARTS:
            assert scores["aligned", variant, part].distances.max() < 1e-3
            scale = scores["aligned", variant, part].figures["scale"]
            assert scale == pytest.approx(1 / 1.05, abs=1e-5)
            assert scores["metric", variant, part].figures["mean_mm"] > 0.5


def test_regions_are_balls_around_the_face(tmp_path: Path) -> None:
    scene = stand_in_scene()
    scores = scores_of(tmp_path, scene, scene.vertices_mm, scene.seven_mm)
    # landmarks are vertices, so up to a millimetre off the scene's
    for part, times in (("small", SMALL), ("large", LARGE)):
        held = face_ball(scene.seven_mm, times).holds(scene.vertices_mm).sum()
        assert len(scores["aligned", STRICT, part].distances) == pytest.approx(held, rel=0.03)
    assert len(scores["aligned", STRICT, "large"].distances) > 1.3 * len(
        scores["aligned", STRICT, "small"].distances
    )


def test_a_wrong_chin_is_wrong_in_the_large_region_alone(tmp_path: Path) -> None:
    scene = stand_in_scene()
    outside = ~face_ball(scene.seven_mm, SMALL * 1.02).holds(scene.vertices_mm)
    below = outside & (scene.vertices_mm[:, 1] < scene.seven_mm[4, 1])
    vertices = scene.vertices_mm + np.where(below, 4.0, 0.0)[:, None] * [0.0, 0.0, 1.0]
    scores = scores_of(tmp_path, scene, vertices, scene.seven_mm)
    small, large = (scores["metric", STRICT, part].figures["mean_mm"] for part in PARTS)
    assert large > 1.3 * small


def test_expressions_are_no_fault(tmp_path: Path) -> None:
    assert not FACEWAREHOUSE.neutral
    smiling = head(40, "smile", kind="face")
    scene = replace(
        stand_in_scene(),
        vertices_mm=smiling.vertices_mm.astype(np.float64),
        faces=smiling.faces,
        seven_mm=smiling.landmarks_mm[list(SEVEN_68)].astype(np.float64),
        predictions_m={"smile": smiling.truth_mm / 1000},
    )
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    write(root, predictions, scene, ("absent", "smile"))
    found = evaluate("facewarehouse", root, predictions, tmp_path / "out")
    assert kinds(found, "Tester_1/pose_1") <= {"scaled"}
    printed = row(found, "metric", AS_PUBLISHED, part="small", group="expressions")
    assert printed["mean_mm"] < 0.3


def test_people_and_meshes_that_are_asked_for(tmp_path: Path) -> None:
    scene, root = stand_in_scene(), tmp_path / "root"
    write_landmarks(root, scene)
    for name in ("Tester_10/TrainingPose/pose_0", "Tester_9/TrainingPose/pose_12"):
        write_obj(root / f"{name}.obj", scene.vertices_mm / UNIT_MM, scene.faces)
    predictions = tmp_path / "predictions"
    for name in ("Tester_10_pose_0", "Tester_9/TrainingPose/pose_12", "Tester_9/pose_13"):
        (predictions / name).parent.mkdir(parents=True, exist_ok=True)
        (predictions / f"{name}.obj").touch()
    found = FACEWAREHOUSE.cases(given_of(tmp_path, scene))
    assert [(c.id, c.group, c.prediction is not None) for c in found.cases] == [
        ("Tester_9/pose_12", "expressions", True),
        ("Tester_10/pose_0", "neutral", True),
    ]
    assert [path.name for path in found.extra] == ["pose_13.obj"]
    (finding,) = found.findings
    assert finding.kind == "another_set"
    assert finding.said.startswith("2 meshes of 2 people, where published figures are of 180 of 9")
    only = FACEWAREHOUSE.cases(given_of(tmp_path, scene, {"people": "Tester_9"})).cases
    assert [case.person for case in only] == ["Tester_9"]
    with pytest.raises(FacefoldError, match=r"people: 3 have no mesh below .*some of 9, 10"):
        FACEWAREHOUSE.cases(given_of(tmp_path, scene, {"people": "9,3"}))


def test_a_root_without_meshes_or_landmarks_is_refused(tmp_path: Path) -> None:
    scene, root = stand_in_scene(), tmp_path / "root"
    root.mkdir()
    with pytest.raises(FacefoldError, match=r"no scan of FaceWarehouse.*Tester_17/TrainingPose"):
        FACEWAREHOUSE.cases(given_of(tmp_path, scene))
    write_obj(root / "Tester_1/TrainingPose/pose_0.obj", scene.vertices_mm, scene.faces)
    with pytest.raises(FacefoldError, match=r"landmarks\.txt: no such file.*landmarks=FILE"):
        FACEWAREHOUSE.cases(given_of(tmp_path, scene))
    with pytest.raises(FacefoldError, match=r"mine\.txt: no such file"):
        FACEWAREHOUSE.cases(given_of(tmp_path, scene, {"landmarks": "mine.txt"}))


def test_landmarks_of_another_topology_are_named(tmp_path: Path) -> None:
    scene, root = stand_in_scene(), tmp_path / "root"
    write(root, tmp_path / "predictions", scene, ("absent",))
    given = given_of(tmp_path, scene)
    (case,) = FACEWAREHOUSE.cases(given).cases
    prediction = Prediction(scene.vertices_mm, scene.faces, np.zeros((68, 3)))
    marks = root / "landmarks.txt"
    right = np.loadtxt(marks, dtype=int)
    np.savetxt(marks, np.arange(68), fmt="%d")
    with pytest.raises(FacefoldError, match="names vertices of this topology"):
        FACEWAREHOUSE.score(case, prediction, given)
    np.savetxt(marks, right, fmt="%d")
    write_obj(case.truth[0], 2 * scene.vertices_mm, scene.faces)
    with pytest.raises(UnitError, match=r"outer eye corners .* units apart, expected 80–105 mm"):
        FACEWAREHOUSE.score(case, prediction, given)
    np.savetxt(marks, np.arange(68) + 10**6, fmt="%d")
    with pytest.raises(FormatError, match="10000"):
        FACEWAREHOUSE.score(case, prediction, given)
    np.savetxt(marks, np.arange(40), fmt="%d")
    with pytest.raises(FacefoldError, match="no landmark scheme has 40 points"):
        FACEWAREHOUSE.score(case, prediction, given)


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    scene = stand_in_scene()
    known = scene.predictions_m
    wrong = {"larger": 1.05 * known["truth"], "in_mm": 1000 * known["near"]}
    scene = replace(scene, predictions_m={**known, **wrong})
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    names = ("truth", "larger", "near_mirrored", "in_mm", "absent")
    write(root, predictions, scene, names)
    found = evaluate("facewarehouse", root, predictions, tmp_path / "out", *scene.model_options)
    of = {name: kinds(found, f"Tester_1/pose_{i}") for i, name in enumerate(names)}
    assert "scaled" in of["larger"]
    assert "mirrored" in of["near_mirrored"]
    assert "unit" in of["in_mm"]
    assert of["absent"] == {"missing"}
    assert not of["truth"]
    assert found["status"] == 3
    assert row(found, "metric", STRICT, part="large")["n"] == 5


@pytest.mark.oracles
def test_the_oracles_scene_through_the_command(oracles: Path, tmp_path: Path) -> None:
    """Nobody's figures are public: the command gives those of the functions."""
    scene = oracle_scene(oracles, tmp_path)
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    write(root, predictions, scene, ("near",))
    options = (*scene.model_options, "--unit", "m")
    found = evaluate("facewarehouse", root, predictions, tmp_path / "out", *options)
    given = replace(given_of(tmp_path, scene), unit="m")
    (case,) = FACEWAREHOUSE.cases(given).cases
    for score in FACEWAREHOUSE.score(case, FACEWAREHOUSE.read(case, given), given):
        printed = row(found, score.mode, score.variant, part=score.part, group="neutral")
        assert printed["mean_mm"] == pytest.approx(score.figures["mean_mm"], abs=1e-9)
        assert 0.5 < printed["mean_mm"] < 3
