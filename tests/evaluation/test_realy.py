"""REALY beside its authors' figures, and what its users get wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, Case, Given, Score
from pipeline.evaluation.realy import ALIGNED, METRIC, REALY, cases, mean_head, read, rows, score
from pipeline.evaluation.realy_fit import Predicted, errors, regional, start
from pipeline.evaluation.realy_truth import REGIONS, WARPED_BY, read_truth, single
from pipeline.geometry.closest import SurfaceIndex
from pipeline.types import Array
from tests.evaluation import miniature_realy
from tests.evaluation.commanding import evaluate, kinds, row
from tests.evaluation.scenes import Scene, stand_in_scene, write_obj

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

Means = Mapping[tuple[str, str, str], float]
"""Mode, variant, part -> mm."""


def given_of(folder: Path, scene: Scene, **more: str) -> Given:
    return Given(folder / "root", folder / "predictions", scene.model, "m", choices=more)


def written(folder: Path, scene: Scene, *names: str) -> Given:
    miniature_realy.write(folder / "root", folder / "predictions", scene, names)
    return given_of(folder, scene)


def case_of(given: Given, name: str) -> Case:
    (found,) = [case for case in cases(given).cases if case.id == f"1_{name}"]
    return found


def scores_of(given: Given, name: str) -> list[Score]:
    case = case_of(given, name)
    return score(case, read(case, given), given)


def means_of(scores: list[Score]) -> Means:
    return {(s.mode, s.variant, s.part): s.figures["mean_mm"] for s in scores}


@pytest.mark.oracles
def test_the_authors_alignments_and_figures(oracles: Path, tmp_path: Path) -> None:
    scene, delivery = miniature_realy.oracle(oracles, tmp_path)
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    miniature_realy.write(root, predictions, scene, tuple(scene.predictions_m), delivery)
    given = given_of(tmp_path, scene)
    with np.load(oracles / "realy.npz") as found:
        known = dict(found)
    for place, name in enumerate(known["names"]):
        case = case_of(given, name)
        prediction, truth = read(case, given), read_truth(case)
        assert prediction.landmarks_85 is not None
        marks = single(prediction.landmarks_85)
        whole = start(marks, truth.keypoints, variant=AS_PUBLISHED, unit_scale=None)
        assert np.abs(whole.affine - known["global_affine"][place]).max() < 1e-4, name
        assert whole.scale == pytest.approx(known["global_scale"][place], abs=1e-4)
        assert whole.determinant == np.sign(known["global_determinant"][place])
        index = SurfaceIndex(single(prediction.vertices), prediction.faces)
        predicted = Predicted(index, marks)
        for region in truth.regions:
            fit = regional(predicted, whole, region, truth.keypoints, variant=AS_PUBLISHED)
            at = list(known["regions"]).index(region.name)
            off = np.abs(fit.affine - known["regional_affine"][place, at]).max()
            assert off < 1e-4, (name, region.name)
            (apart,) = errors(predicted, [fit], region, truth)
            mm = truth.mm_per_unit * apart.mean()
            assert mm == pytest.approx(known["error_mm"][place, at], abs=0.002), (name, region.name)


@pytest.mark.oracles
def test_the_authors_keypoints(oracles: Path) -> None:
    with np.load(oracles / "realy.npz") as known:
        for region, ids in REGIONS.items():
            name = "nose_part" if region == "nose" else region
            assert set(ids) == set(known[f"keypoint_ids_{name}"]), region
            if WARPED_BY[region]:
                # the last of a vertex that two keypoints share counts
                assert [*WARPED_BY[region]] == [*known[f"keypoint_ids_{region}"]], region


@pytest.mark.oracles
def test_the_authors_figures_through_the_command(oracles: Path, tmp_path: Path) -> None:
    scene, delivery = miniature_realy.oracle(oracles, tmp_path)
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    names = ("near", "near_scaled_105", "near_mirrored")
    miniature_realy.write(root, predictions, scene, names, delivery)
    found = evaluate("realy", root, predictions, tmp_path / "out", *scene.model_options)
    with np.load(oracles / "realy.npz") as known:
        places = [list(known["names"]).index(name) for name in names]
        expected = known["error_mm"][places].mean(0)
        regions = [str(region) for region in known["regions"]]
    for region, mm in zip(regions, expected, strict=True):
        line = row(found, ALIGNED, AS_PUBLISHED, part=region)
        assert line["n"] == len(names)
        assert line["mean_mm"] == pytest.approx(mm, abs=0.002)
    line = row(found, ALIGNED, AS_PUBLISHED)
    assert line["mean_mm"] == pytest.approx(expected.mean(), abs=0.002)
    assert "mirrored" in kinds(found, "1_near_mirrored")
    assert "scaled" in kinds(found, "1_near_scaled_105")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return stand_in_scene()


@pytest.fixture(scope="module")
def made(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Given:
    return written(tmp_path_factory.mktemp("realy"), scene, *scene.predictions_m)


@pytest.fixture(scope="module")
def of_made(made: Given) -> Callable[[str], list[Score]]:
    """Scores of a prediction that no test changes."""
    return cache(lambda name: scores_of(made, name))


@pytest.fixture(scope="module")
def near(of_made: Callable[[str], list[Score]]) -> Means:
    return means_of(of_made("near"))


def test_reflections_and_size_are_hidden_as_published_and_not_in_strict(
    of_made: Callable[[str], list[Score]],
) -> None:
    near, mirrored, large = (
        means_of(of_made(name)) for name in ("near", "near_mirrored", "near_scaled_105")
    )
    for part in REGIONS:
        slot = (ALIGNED, AS_PUBLISHED, part)
        assert mirrored[slot] == pytest.approx(near[slot], abs=0.002)
        assert large[slot] == pytest.approx(near[slot], abs=0.002)
        slot = (ALIGNED, STRICT, part)
        assert large[slot] == pytest.approx(near[slot], abs=0.002)
    assert sum(mirrored[ALIGNED, STRICT, p] - near[ALIGNED, STRICT, p] for p in REGIONS) > 0.4
    assert sum(large[METRIC, STRICT, p] - near[METRIC, STRICT, p] for p in REGIONS) > 0.15


def test_figures_say_what_alignment_hides(
    of_made: Callable[[str], list[Score]],
) -> None:
    for name, scale, sign in (("near_scaled_105", 1 / 1.05, 1.0), ("near_mirrored", 1.0, -1.0)):
        for found in of_made(name):
            published = found.variant == AS_PUBLISHED
            expected = 1.0 if found.mode == METRIC else scale
            if name == "near_mirrored" and not published and found.mode == ALIGNED:
                assert found.figures["scale"] < 0.99, "no rotation fits a mirrored face"
            else:
                assert found.figures["scale"] == pytest.approx(expected, rel=0.03)
            assert found.figures["determinant"] == (sign if published else 1.0)


def test_the_truth_scores_best_and_a_move_changes_nothing(
    of_made: Callable[[str], list[Score]],
) -> None:
    means = {name: means_of(of_made(name)) for name in ("truth", "mean", "near_moved_noisy")}
    for part in REGIONS:
        slot = (METRIC, STRICT, part)
        assert means["truth"][slot] < 0.7 * means["mean"][slot], part
        assert abs(means["near_moved_noisy"][slot] - means["truth"][slot]) < 1.5, part


def test_rows_are_means_of_predictions_and_all_that_of_regions(
    made: Given, of_made: Callable[[str], list[Score]]
) -> None:
    scored = [(case_of(made, name), of_made(name)) for name in ("near", "mean")]
    table = {(r.mode, r.variant, r.group, r.part): r for r in rows(scored)}
    own = [means_of(scores) for _, scores in scored]
    assert len(table) == 2 * 2 * 5
    for mode in (ALIGNED, METRIC):
        parts = [[one[mode, STRICT, part] for one in own] for part in REGIONS]
        for part, means in zip(REGIONS, parts, strict=True):
            line = table[mode, STRICT, "", part]
            assert line.n == 2
            assert line.figures["mean_mm"] == pytest.approx(np.mean(means))
            assert line.figures["std_mm"] == pytest.approx(np.std(means, ddof=1))
        assert table[mode, STRICT, "", ""].figures["mean_mm"] == pytest.approx(np.mean(parts))


def test_the_mean_head_scores_as_its_prediction(
    made: Given, of_made: Callable[[str], list[Score]]
) -> None:
    case = case_of(made, "mean")
    found = means_of(score(case, mean_head(case, made), made))
    assert found == pytest.approx(means_of(of_made("mean")), abs=1e-4)


def test_mirrored_scaled_and_misunited_predictions_are_named(scene: Scene, tmp_path: Path) -> None:
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    names = ("near", "near_scaled_105", "near_mirrored")
    miniature_realy.write(root, predictions, scene, names)
    for times in (10, 1000):
        path = predictions / f"1_times{times}.obj"
        write_obj(path, times * scene.predictions_m["near"], scene.prediction_faces)
    options = (*scene.model_options, "--unit", "m")
    found = evaluate("realy", root, predictions, tmp_path / "out", *options)
    assert "mirrored" in kinds(found, "1_near_mirrored")
    assert "scaled" in kinds(found, "1_near_scaled_105")
    assert "unit" in kinds(found, "1_times10")
    assert "unit" in kinds(found, "1_times1000")
    assert not kinds(found, "1_near") & {"mirrored", "scaled", "unit", "keypoints", "components"}


def test_without_a_table_the_models_landmarks_serve_and_that_is_said(
    scene: Scene, tmp_path: Path, near: Means
) -> None:
    given = written(tmp_path, scene, "near")
    (given.root / "data" / "FLAME.txt").unlink()
    case = case_of(given, "near")
    prediction = read(case, given)
    said = {finding.kind: finding for finding in prediction.findings}["keypoints"]
    assert "70, 71, 76, 77" in said.said
    assert "not REALY's" in said.said
    found = means_of(score(case, prediction, given))
    assert found == pytest.approx(near, abs=0.3)
    assert found != pytest.approx(near, abs=1e-3)


def keypoints_on(scene: Scene, name: str) -> Array:
    """(85,3) m."""
    table = miniature_realy.table_of(scene)
    corners = scene.predictions_m[name][scene.prediction_faces[table[:, 0].astype(int)]]
    weights = np.column_stack([table[:, 1:], 1 - table[:, 1:].sum(1)])
    return np.asarray(np.einsum("lkd,lk->ld", corners, weights))


def test_other_topologies_bring_keypoints_or_where_they_lie(
    scene: Scene, tmp_path: Path, near: Means
) -> None:
    given = written(tmp_path, scene, "near")
    # without the back of the head, in another order
    order = np.random.default_rng(3).permutation(len(scene.prediction_faces))
    faces = scene.prediction_faces[order]
    used = np.unique(faces)[::-1]
    number = np.empty(used.max() + 1, np.int64)
    number[used] = np.arange(len(used))
    extra = np.concatenate([scene.predictions_m["near"][used], np.full((1, 3), 0.05)])
    path = given.predictions / "1_near.obj"
    write_obj(path, extra, np.concatenate([number[faces], [[len(used)] * 3]]))
    with pytest.raises(FacefoldError, match="keypoints that regions need are unknown"):
        read(case_of(given, "near"), given)
    np.save(path.with_suffix(".npy"), keypoints_on(scene, "near"))
    assert means_of(scores_of(given, "near")) == pytest.approx(near, abs=0.01)
    path.with_suffix(".npy").unlink()
    table = [[int(np.flatnonzero(order == t)[0]), *w] for t, *w in miniature_realy.table_of(scene)]
    own = tmp_path / "own.json"
    own.write_text(json.dumps(table), encoding="utf-8")
    chosen = given_of(tmp_path, scene, keypoints=str(own))
    assert means_of(scores_of(chosen, "near")) == pytest.approx(near, abs=0.01)
    case = case_of(chosen, "near")
    assert own in case.truth, "what is scored depends on it"
    assert np.isfinite(mean_head(case, chosen).landmarks_85).all(), "by FLAME's table"


def test_a_region_in_two_pieces_is_named_and_strict_takes_the_largest(
    scene: Scene, tmp_path: Path, near: Means
) -> None:
    given = written(tmp_path, scene, "near")
    delivery = miniature_realy.cut(scene)
    vertices, faces = delivery.regions["nose"]
    apart = vertices[:40] + np.array([0.0, 0.0, 0.5])
    rest = np.column_stack([np.arange(38), np.arange(1, 39), np.arange(2, 40)]) + len(vertices)
    two = np.concatenate([vertices, apart]), np.concatenate([faces, rest])
    write_obj(given.root / "REALY_scan_region" / "1" / "nose.obj", *two)
    case = case_of(given, "near")
    prediction = read(case, given)
    (said,) = [finding for finding in prediction.findings if finding.kind == "components"]
    assert "nose is in 2 pieces, expected 1" in said.said
    found = means_of(score(case, prediction, given))
    for mode in (ALIGNED, METRIC):
        assert found[mode, STRICT, "nose"] == pytest.approx(near[mode, STRICT, "nose"], abs=0.05)
        assert found[mode, AS_PUBLISHED, "nose"] > near[mode, AS_PUBLISHED, "nose"] + 0.3


def test_cases_and_what_is_missing(scene: Scene, tmp_path: Path) -> None:
    given = written(tmp_path, scene, "near", "mean")
    root, folder = given.root, given.predictions
    miniature_realy.write(root, folder, scene, ("near",), person=2)
    (folder / "1_near.npy").write_bytes(b"no mesh")
    write_obj(folder / "3_near.obj", np.eye(3), np.array([[0, 1, 2]]))
    found = cases(given)
    known = {case.id: case.prediction is not None for case in found.cases}
    assert known == {"1_mean": True, "2_mean": False, "1_near": True, "2_near": True}
    assert {case.group for case in found.cases} == {"multi-view"}
    assert found.extra == (folder / "3_near.obj",)
    (folder / "1_near.obj").rename(folder / "1.obj")
    views = {case.id: case.group for case in cases(given).cases}
    assert views["1"] == views["2"] == "frontal"
    for path in folder.glob("*.obj"):
        path.unlink()
    assert [(c.id, c.group, c.prediction) for c in cases(given).cases] == [
        ("1", "frontal", None),
        ("2", "frontal", None),
    ]


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("REALY_scan_region", "no folder REALY_scan_region"),
        ("REALY_HIFI3D_keypoints", "no folder REALY_HIFI3D_keypoints"),
        ("metrical_scale.txt", "no metrical_scale.txt"),
    ],
)
def test_a_root_without_its_parts(scene: Scene, tmp_path: Path, lost: str, said: str) -> None:
    given = written(tmp_path, scene, "near")
    (given.root / lost).rename(tmp_path / "elsewhere")
    with pytest.raises(FacefoldError, match=said):
        cases(given)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metrical_scale.txt", "", "0 rows, expected one for scan 1"),
        ("metrical_scale.txt", "eight\n", "expected a number a row"),
        ("metrical_scale.txt", "-8.0\n", "a scale of -8.0, expected > 0"),
        ("REALY_HIFI3D_keypoints/1.obj", "v 1 2 3\n" * 84, "84 keypoints, expected 85"),
        ("REALY_HIFI3D_keypoints/1.obj", "v 1 2 nan\n" * 85, "85 keypoints, expected 85 finite"),
        ("REALY_scan_region/1/nose.obj", "v 1 2 3\nv 1 2 4\n", "no faces"),
        ("data/FLAME.txt", "[[1, 0.5, 0.5]]", "expected a JSON list of 85"),
        ("data/FLAME.txt", "1 2 3", "expected a JSON list of 85"),
        ("data/FLAME.txt", json.dumps([[10**6, 0.5, 0.5]] * 85), "names triangle 1000000"),
        ("../predictions/1_near.obj", "v 1 2", "1_near.obj"),
    ],
)
def test_damaged_files(scene: Scene, tmp_path: Path, name: str, text: str, said: str) -> None:
    given = written(tmp_path, scene, "near")
    (given.root / name).write_text(text, encoding="utf-8")
    with pytest.raises(FacefoldError, match=said):
        read(case_of(given, "near"), given)


def test_a_scan_without_a_region(scene: Scene, tmp_path: Path) -> None:
    given = written(tmp_path, scene, "near")
    (given.root / "REALY_scan_region" / "1" / "mouth.obj").unlink()
    with pytest.raises(FacefoldError, match=r"mouth\.obj: not there, expected"):
        read(case_of(given, "near"), given)


def test_a_chosen_table_that_is_not_there(scene: Scene, tmp_path: Path) -> None:
    written(tmp_path, scene, "near")
    with pytest.raises(FacefoldError, match="no such file"):
        cases(given_of(tmp_path, scene, keypoints="nowhere.json"))


def test_what_a_score_is_of(
    of_made: Callable[[str], list[Score]],
) -> None:
    assert REALY.choices.keys() == {"keypoints"}
    for found in of_made("near"):
        assert found.vertices_mm is not None
        assert found.faces is not None
        assert found.distances.shape == (len(found.vertices_mm),)
        assert found.faces.max() < len(found.vertices_mm)
        assert found.upright is not None
        assert np.abs(found.upright @ found.upright.T - np.eye(3)).max() < 1e-9
        assert 30 < np.ptp(found.vertices_mm, axis=0).max() < 250, "millimetres"
