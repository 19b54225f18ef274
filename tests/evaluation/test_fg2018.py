"""FG2018: the challenge's figures, what its similarity hides, and what is delivered wrongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError, FormatError
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, VARIANTS, Given, Score
from pipeline.evaluation.fg2018 import FG2018
from pipeline.types import Array
from tests.evaluation.commanding import evaluate, kinds, row
from tests.evaluation.miniature_fg2018 import write, write_photo, write_scan
from tests.evaluation.scenes import Scene, oracle_scene, stand_in_scene, write_obj
from tests.miniatures.files import ply

PLANE_SEVEN = np.array(
    [[-45, 35, 0], [-15, 35, 5], [15, 35, 5], [45, 35, 0], [0, 0, 20], [-25, -30, 9], [25, -30, 9]],
    np.float64,
)
"""Millimetres, of a scan that is the plane z = 0."""


def given_of(tmp_path: Path, scene: Scene, unit: str = "m") -> Given:
    assert unit in ("mm", "m")
    roots = tmp_path / "root", tmp_path / "predictions"
    return Given(*roots, scene.model, "m" if unit == "m" else "mm")


def scores_of(given: Given) -> dict[str, dict[tuple[str, str], Score]]:
    """Image -> mode, variant -> score."""
    return {
        case.id: {
            (s.mode, s.variant): s for s in FG2018.score(case, FG2018.read(case, given), given)
        }
        for case in FG2018.cases(given).cases
        if case.prediction is not None
    }


@pytest.mark.oracles
def test_equals_the_challenge(oracles: Path, tmp_path: Path) -> None:
    scene = oracle_scene(oracles, tmp_path)
    with np.load(oracles / "fg2018_distances.npz") as found:
        known = dict(found)
    names = known["names"].tolist()
    write(tmp_path / "root", tmp_path / "predictions", scene, names, ("HQ",))
    scored = list(scores_of(given_of(tmp_path, scene)).values())
    assert len(scored) == len(names)
    for i, scores in enumerate(scored):
        score = scores["aligned", AS_PUBLISHED]
        assert score.vertices_mm is not None
        np.testing.assert_allclose(
            score.vertices_mm, scene.vertices_mm[known["kept_vertices"]], atol=1e-6
        )
        np.testing.assert_allclose(score.distances, known["distances_mm"][i], rtol=0, atol=1e-5)
        for figure in ("rmse_mm", "mean_mm", "median_mm"):
            assert score.figures[figure] == pytest.approx(known[figure][i], abs=1e-5)
    near, mirrored = (scored[names.index(name)] for name in ("near", "near_mirrored"))
    assert mirrored["aligned", AS_PUBLISHED].figures["determinant"] == -1
    assert mirrored["aligned", STRICT].figures["determinant"] == 1
    assert (
        mirrored["aligned", STRICT].figures["rmse_mm"]
        > 3 * near["aligned", STRICT].figures["rmse_mm"]
    )


@pytest.mark.oracles
def test_the_command_prints_the_challenge_s_figures(oracles: Path, tmp_path: Path) -> None:
    scene = oracle_scene(oracles, tmp_path)
    with np.load(oracles / "fg2018_distances.npz") as found:
        known = dict(found)
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    write(root, predictions, scene, known["names"].tolist(), ("HQ",))
    found = evaluate("fg2018", root, predictions, tmp_path / "out", *scene.model_options)
    printed = row(found, "aligned", AS_PUBLISHED, group="HQ")
    assert printed["n"] == len(known["names"])
    assert printed["rmse_mm"] == pytest.approx(known["rmse_mm"].mean(), abs=1e-5)
    assert printed["std_mm"] == pytest.approx(known["rmse_mm"].std(), abs=1e-5)
    assert printed["mean_mm"] == pytest.approx(known["mean_mm"].mean(), abs=1e-5)
    pooled = np.sqrt(np.square(known["distances_mm"].astype(np.float64)).mean())
    assert printed["pooled_rmse_mm"] == pytest.approx(pooled, abs=1e-5)
    mean_head = row(found, "aligned", AS_PUBLISHED, group="HQ", of="mean head")
    at = known["names"].tolist().index("mean")
    assert mean_head["rmse_mm"] == pytest.approx(known["rmse_mm"][at], abs=1e-3)


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    scene = _with_wrong_ones(stand_in_scene())
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    names = ("truth", "mean", "near", "larger", "near_mirrored", "in_mm", "absent")
    write(root, predictions, scene, names, ("HQ",))
    found = evaluate("fg2018", root, predictions, tmp_path / "out", *scene.model_options)
    of = {name: kinds(found, f"HQ/F1001_{i:03d}") for i, name in enumerate(names, 1)}
    assert "scaled" in of["larger"]
    assert "mirrored" in of["near_mirrored"]
    assert "unit" in of["in_mm"]
    assert of["absent"] == {"missing"}
    assert not of["truth"] and not of["mean"]
    assert found["status"] == 3
    strict, published = (row(found, "aligned", v, group="HQ") for v in (STRICT, AS_PUBLISHED))
    assert (strict["n"], published["n"]) == (7, 6)


def test_a_moved_truth_has_no_error(tmp_path: Path) -> None:
    scene = stand_in_scene()
    turned, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    turned *= np.sign(np.linalg.det(turned))
    write(tmp_path / "root", tmp_path / "none", scene, ("moved",), ("LQ",))
    _predict(tmp_path, "LQ/F1001_001", scene.vertices_mm @ turned.T + 70, scene, turned, 70.0)
    (scores,) = scores_of(given_of(tmp_path, scene, "mm")).values()
    for score in scores.values():
        assert score.distances.max() < 1e-4
        assert score.figures["scale"] == pytest.approx(1, abs=1e-6)


def test_a_larger_truth_is_wrong_in_metric_scores_alone(tmp_path: Path) -> None:
    scene = stand_in_scene()
    write(tmp_path / "root", tmp_path / "none", scene, ("larger",), ("HQ",))
    _predict(tmp_path, "HQ/F1001_001", 1.05 * scene.vertices_mm, scene, 1.05 * np.eye(3), 0.0)
    (scores,) = scores_of(given_of(tmp_path, scene, "mm")).values()
    for variant in VARIANTS:
        assert scores["aligned", variant].distances.max() < 1e-4
        assert scores["aligned", variant].figures["scale"] == pytest.approx(1 / 1.05, abs=1e-6)
        assert scores["metric", variant].figures["scale"] == 1
        assert scores["metric", variant].figures["mean_mm"] > 0.5


def test_a_plane_behind_another_is_as_far_as_it_is(tmp_path: Path) -> None:
    scene = _plane(0.0)
    write(tmp_path / "root", tmp_path / "none", scene, ("plane",), ("HQ",))
    away = _plane(-2.5)
    _predict(tmp_path, "HQ/F1001_001", away.vertices_mm, away, np.eye(3), 0.0)
    (scores,) = scores_of(given_of(tmp_path, scene, "mm")).values()
    kept = np.linalg.norm(scene.vertices_mm - [0, 0.3 * 35, 20 - 0.3 * 15], axis=1)
    radius = 1.2 * (90 + np.hypot(35, 15)) / 2
    for score in scores.values():
        np.testing.assert_allclose(score.distances, 2.5, atol=1e-5)
        assert len(score.distances) == (kept <= radius).sum()


def test_the_first_neutral_scan_with_landmarks_is_the_truth(tmp_path: Path) -> None:
    scene, root = stand_in_scene(), tmp_path / "root"
    for stem in ("m1004b_N", "M1004_2_N", "m1004_nh", "M1005_2_N"):
        write_scan(root, stem, scene)
    write_scan(root, "M1004_N", scene, landmarks=False)
    write_scan(root, "F1006_N", scene, landmarks=False)
    for stem in ("m1004_001", "M1005_001", "F1006_001", "F1006_002", "portrait"):
        write_photo(root, "HQ", stem)
    found = FG2018.cases(given_of(tmp_path, scene))
    assert {case.id: case.truth[0].stem for case in found.cases} == {
        "HQ/m1004_001": "m1004_nh",
        "HQ/M1005_001": "M1005_2_N",
    }
    (finding,) = found.findings
    assert finding.kind == "no_truth"
    assert finding.said.startswith("3 images are left out")
    assert "F1006, portrait" in finding.said


def test_predictions_may_lie_in_one_folder(tmp_path: Path) -> None:
    scene, root = stand_in_scene(), tmp_path / "root"
    write(root, tmp_path / "none", scene, ("near",))
    _predict(tmp_path, "F1001_001", scene.vertices_mm, scene, np.eye(3), 0.0)
    _predict(tmp_path, "unasked", scene.vertices_mm, scene, np.eye(3), 0.0)
    found = FG2018.cases(given_of(tmp_path, scene))
    assert [case.id for case in found.cases] == ["HQ/F1001_001", "LQ/F1001_002"]
    assert [case.prediction is not None for case in found.cases] == [True, False]
    assert found.cases[0].landmarks == tmp_path / "predictions" / "F1001_001.npy"
    assert [path.name for path in found.extra] == ["unasked.obj"]
    write_photo(root, "LQ", "F1001_001")
    with pytest.raises(FacefoldError, match="HQ/ and LQ/"):
        FG2018.cases(given_of(tmp_path, scene))


def test_a_root_of_something_else_is_refused(tmp_path: Path) -> None:
    scene, root = stand_in_scene(), tmp_path / "root"
    given = given_of(tmp_path, scene)
    root.mkdir()
    with pytest.raises(FacefoldError, match=r"no scan of Stirling.*scans/F/F1001_N\.obj"):
        FG2018.cases(given)
    write_scan(root, "F1001_N", scene, landmarks=False)
    with pytest.raises(FacefoldError, match=r"no scan has landmarks.*F1001_N\.lnd"):
        FG2018.cases(given)
    write_scan(root, "F1001_N", scene)
    with pytest.raises(FacefoldError, match=r"no images.*HQ/F1001_001\.jpg"):
        FG2018.cases(given)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    scene, root = stand_in_scene(), tmp_path / "root"
    write(root, tmp_path / "predictions", scene, ("near",), ("HQ",))
    given = given_of(tmp_path, scene)
    (case,) = FG2018.cases(given).cases
    prediction = FG2018.read(case, given)
    scan, marks = case.truth
    marks.write_text("".join(marks.read_text().splitlines(keepends=True)[:6]))
    with pytest.raises(FormatError, match="expected 7 numbers"):
        FG2018.score(case, prediction, given)
    write_scan(root, "F1001_N", scene)
    scan.write_bytes(scan.read_bytes()[: scan.stat().st_size // 3])
    with pytest.raises(FacefoldError, match="no faces: cut off"):
        FG2018.score(case, prediction, given)
    np.savetxt(given.predictions / "HQ" / "F1001_001.txt", np.zeros((6, 3)))
    (case,) = FG2018.cases(given).cases
    with pytest.raises(FacefoldError, match=r"6 landmarks, expected 7"):
        FG2018.read(case, given)


def test_a_prediction_needs_all_seven_landmarks(tmp_path: Path) -> None:
    scene = stand_in_scene()
    write(tmp_path / "root", tmp_path / "none", scene, ("near",), ("HQ",))
    seven = scene.seven_mm.copy()
    seven[2] = np.nan
    lacking = replace(scene, seven_mm=seven)
    _predict(tmp_path, "HQ/F1001_001", scene.vertices_mm, lacking, np.eye(3), 0.0)
    given = given_of(tmp_path, scene)
    (case,) = FG2018.cases(given).cases
    with pytest.raises(FacefoldError, match="1 of the seven landmarks"):
        FG2018.read(case, given)


def test_points_without_triangles_are_no_prediction(tmp_path: Path) -> None:
    scene = stand_in_scene()
    write(tmp_path / "root", tmp_path / "none", scene, ("near",), ("HQ",))
    path = tmp_path / "predictions" / "HQ" / "F1001_001.ply"
    path.parent.mkdir(parents=True)
    ply(scene.vertices_mm, np.zeros((0, 3), np.int64))(path)
    np.save(path.with_suffix(".npy"), scene.seven_mm)
    given = given_of(tmp_path, scene)
    (case,) = FG2018.cases(given).cases
    with pytest.raises(FacefoldError, match="points without triangles"):
        FG2018.read(case, given)


def _predict(
    tmp_path: Path, at: str, vertices: Array, scene: Scene, turned: Array, moved: float
) -> None:
    """A mesh of the scan's topology, with the scene's landmarks turned and moved beside it."""
    path = tmp_path / "predictions" / f"{at}.obj"
    write_obj(path, vertices, scene.faces)
    np.save(path.with_suffix(".npy"), scene.seven_mm @ turned.T + moved)


def _with_wrong_ones(scene: Scene) -> Scene:
    known = scene.predictions_m
    wrong = {"larger": 1.06 * known["truth"], "in_mm": 1000 * known["near"]}
    return replace(scene, predictions_m={**known, **wrong})


def _plane(z: float) -> Scene:
    """A scan that is a plane, whose landmarks are where those of the plane z = 0 are."""
    x, y = np.meshgrid(np.arange(-140.0, 141, 4), np.arange(-140.0, 141, 4))
    points = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, z)])
    corner = np.arange(x.size).reshape(x.shape)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    faces = np.concatenate([np.stack([a, b, d], -1), np.stack([b, c, d], -1)]).reshape(-1, 3)
    return replace(stand_in_scene(), vertices_mm=points, faces=faces, seven_mm=PLANE_SEVEN)
