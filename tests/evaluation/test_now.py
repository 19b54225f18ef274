"""NoW: the authors' figures, through the command too; what users get wrong is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation.alignment import Similarity
from pipeline.evaluation.benchmark import (
    AS_PUBLISHED,
    STRICT,
    VARIANTS,
    Case,
    Given,
    Score,
    Variant,
)
from pipeline.evaluation.now import METRICAL, NONMETRICAL, NOW, starts
from pipeline.types import Array
from tests.evaluation import miniature_now as miniature
from tests.evaluation.commanding import evaluate, kinds, row
from tests.evaluation.scenes import NAMES, Scene, oracle_scene, stand_in_scene

FAIR_MM = {"median_mm": 0.01, "mean_mm": 0.003, "std_mm": 0.003}
"""By how much the authors' solver moves the figures when it is started again from its end."""
WORSE = 1e-4
"""Share by which a mean of squares may be above theirs."""


def given(root: Path, predictions: Path, scene: Scene, **choices: str) -> Given:
    return Given(root, predictions, scene.model, "m", choices=choices)


@cache
def scene_of(person: int = 40) -> Scene:
    """With a tenth of the triangles of its scan, which is quicker to fit."""
    scene = stand_in_scene(person)
    used, faces = np.unique(scene.faces[::10], return_inverse=True)
    return replace(scene, vertices_mm=scene.vertices_mm[used], faces=faces.reshape(-1, 3))


class Run(NamedTuple):
    """The oracles' predictions through the command."""

    scene: Scene
    metric: dict[str, Array]
    """Of now_metric.npz."""
    found: dict[str, Any]
    scores: pa.Table

    @property
    def images(self) -> dict[str, str]:
        return miniature.images(list(map(str, self.metric["names"])))


@pytest.fixture(scope="module")
def run(oracles: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("oracles")
    root, predictions, out = (folder / name for name in ("root", "predictions", "out"))
    scene = oracle_scene(oracles, folder)
    with np.load(oracles / "now_metric.npz") as found:
        metric = dict(found)
    miniature.write(root, predictions, scene, list(map(str, metric["names"])))
    found = evaluate("now", root, predictions, out, *scene.model_options, "--workers", "1")
    return Run(scene, metric, found, pq.read_table(out / "scores.parquet"))


@pytest.mark.oracles
def test_each_prediction_scores_as_by_the_authors(run: Run) -> None:
    rows = {(r["case"], r["mode"], r["variant"]): r for r in run.scores.to_pylist()}
    for mode in (NONMETRICAL, METRICAL):
        for i, (name, image) in enumerate(run.images.items()):
            row = rows[image, mode, AS_PUBLISHED]
            theirs = run.metric[f"{mode}_distances_mm"][i].astype(np.float64)
            assert row["n"] == len(theirs)
            expected = run.metric[f"{mode}_median_mean_std_mm"][i]
            for (figure, fair), value in zip(FAIR_MM.items(), expected, strict=True):
                assert row[figure] == pytest.approx(value, abs=fair), (name, mode, figure)
            squares = row["mean_mm"] ** 2 + row["std_mm"] ** 2
            assert squares <= np.square(theirs).mean() * (1 + WORSE), (name, mode)
            determinant = run.metric[f"{mode}_landmark_fit_determinant"][i]
            assert row["determinant"] == pytest.approx(determinant)
            assert row["scale"] == pytest.approx(size_of(run.metric, mode, i), abs=2e-3)


def size_of(metric: dict[str, Array], mode: str, i: int) -> float:
    """What a final affine of the oracles, from metres to millimetres, multiplies sizes by."""
    volume = np.linalg.det(metric[f"{mode}_final_affine"][i][:, :3])
    return float(np.cbrt(abs(volume)) / 1000)


@pytest.mark.oracles
def test_the_table_pools_the_distances_of_the_authors(run: Run) -> None:
    challenge_of = [image.split("/")[1] for image in run.images.values()]
    for mode in (NONMETRICAL, METRICAL):
        for group in ("", *set(challenge_of)):
            rows = [i for i, challenge in enumerate(challenge_of) if group in ("", challenge)]
            pooled = run.metric[f"{mode}_distances_mm"][rows].astype(np.float64)
            line = row(run.found, mode, AS_PUBLISHED, group=group)
            assert line["n"] == len(rows)
            expected = np.median(pooled), pooled.mean(), pooled.std()
            for (figure, fair), value in zip(FAIR_MM.items(), expected, strict=True):
                assert line[figure] == pytest.approx(value, abs=fair)
        mean_head = row(run.found, mode, AS_PUBLISHED, of="mean head")
        theirs = run.metric[f"{mode}_median_mean_std_mm"][list(run.images).index("mean")]
        assert mean_head["mean_mm"] == pytest.approx(theirs[1], abs=FAIR_MM["mean_mm"])


@pytest.mark.oracles
def test_what_is_wrong_with_the_predictions_of_the_oracles(run: Run) -> None:
    assert run.found["status"] == 0
    named = {name: kinds(run.found, image) for name, image in run.images.items()}
    assert {name for name, found in named.items() if "mirrored" in found} == {"near_mirrored"}
    assert "scaled" in named["near_scaled_105"]
    assert not named["truth"]


@pytest.mark.oracles
def test_starts_where_the_authors_start(run: Run) -> None:
    """From the similarity of seven landmarks; metrically with its translation and another scale."""
    for i, name in enumerate(run.images):
        begun = starts_of(run.scene, name)
        for mode in (NONMETRICAL, METRICAL):
            affine = begun[mode][AS_PUBLISHED].affine
            affine[:, :3] *= 1000  # from a prediction in millimetres to one in metres
            np.testing.assert_allclose(affine, run.metric[f"{mode}_initial_affine"][i], atol=1e-9)


def starts_of(scene: Scene, name: str) -> dict[str, dict[Variant, Similarity]]:
    return starts(1000 * scene.seven_m(name), scene.seven_mm)


def test_what_users_get_wrong_is_named(tmp_path: Path) -> None:
    names = ("near", "near_mirrored", "near_scaled_105", "truth", "mean")
    scene = scene_of()
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    miniature.write(root, predictions, scene, names)
    images = miniature.images(names)
    miniature.predict(predictions, images["truth"], scene, "near", times=10)
    miniature.predict(predictions, images["mean"], scene, "near", times=1000)
    with (root / miniature.LISTS["validation"]).open("a") as stream:
        stream.write(f"{miniature.SUBJECTS[0]}/selfie/lost.jpg\n")
    found = evaluate("now", root, predictions, tmp_path / "out", "--workers", "1")
    named = {name: kinds(found, image) for name, image in images.items()}
    assert found["unit"]["unit"] == "m"
    assert {name for name, of in named.items() if "mirrored" in of} == {"near_mirrored"}
    assert "scaled" in named["near_scaled_105"] and "scaled" not in named["near"]
    assert {name for name, of in named.items() if "unit" in of} == {"truth", "mean"}
    assert found["status"] == 3
    assert "missing" in kinds(found, f"{miniature.SUBJECTS[0]}/selfie/lost")


@pytest.fixture(scope="module")
def two_people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Root and predictions of two people of the stand-in."""
    folder = tmp_path_factory.mktemp("now")
    root, predictions = folder / "root", folder / "predictions"
    for person, subject in zip((40, 41), miniature.SUBJECTS, strict=True):
        miniature.write(root, predictions, scene_of(person), NAMES, subject)
    return root, predictions


@pytest.fixture
def changed(two_people: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same, to be changed."""
    root, predictions = (shutil.copytree(path, tmp_path / path.name) for path in two_people)
    return root, predictions


def scored(folders: tuple[Path, Path], name: str) -> dict[tuple[str, str], Score]:
    """Of a prediction of the first person."""
    here = given(*folders, scene_of())
    case = case_of(here, miniature.images()[name])
    scores = NOW.score(case, NOW.read(case, here), here)
    return {(score.mode, score.variant): score for score in scores}


Scores = Callable[[str], dict[tuple[str, str], Score]]


@pytest.fixture(scope="module")
def scores(two_people: tuple[Path, Path]) -> Scores:
    """Name of a prediction -> mode and variant -> its score."""
    return cache(lambda name: scored(two_people, name))


def case_of(here: Given, id: str) -> Case:
    (case,) = [case for case in NOW.cases(here).cases if case.id == id]
    return case


def test_the_truth_scores_best(scores: Scores) -> None:
    means = {
        name: {way: score.figures["mean_mm"] for way, score in scores(name).items()}
        for name in ("truth", "near", "mean")
    }
    for way in means["truth"]:
        assert means["truth"][way] < 0.2
        assert means["truth"][way] < means["near"][way] < means["mean"][way]


def test_every_mode_and_variant_and_what_it_says(scores: Scores) -> None:
    found = scores("near")
    assert set(found) == {(m, v) for m in (NONMETRICAL, METRICAL) for v in VARIANTS}
    scan = scene_of()
    for (mode, _), score in found.items():
        assert score.vertices_mm is not None and score.faces is not None
        assert score.upright is not None
        assert len(score.distances) == len(score.vertices_mm) < len(scan.vertices_mm)
        assert score.distances.dtype == np.float32
        assert score.faces.max() < len(score.vertices_mm)
        expected = {"median_mm": np.median, "mean_mm": np.mean, "std_mm": np.std}
        for name, figure in expected.items():
            assert score.figures[name] == pytest.approx(figure(score.distances), abs=1e-5)
        assert score.figures["determinant"] == 1
        if mode == METRICAL:
            assert score.figures["scale"] == 1


def test_a_mirrored_prediction_scores_as_its_mirror_image_as_published_only(
    scores: Scores,
) -> None:
    near, mirrored = (scores(name) for name in ("near", "near_mirrored"))
    for mode in (NONMETRICAL, METRICAL):
        hidden, shown = mirrored[mode, AS_PUBLISHED], mirrored[mode, STRICT]
        assert hidden.figures["determinant"] == -1
        assert hidden.figures["mean_mm"] == pytest.approx(
            near[mode, AS_PUBLISHED].figures["mean_mm"], abs=1e-3
        )
        assert shown.figures["determinant"] == 1
        assert shown.figures["mean_mm"] > 2 * hidden.figures["mean_mm"]


def test_a_scaled_prediction_is_hidden_by_scale_and_told_by_its_figure(
    scores: Scores,
) -> None:
    near, scaled = (scores(name) for name in ("near", "near_scaled_105"))
    for variant in VARIANTS:
        right, wrong = near[NONMETRICAL, variant].figures, scaled[NONMETRICAL, variant].figures
        assert wrong["mean_mm"] == pytest.approx(right["mean_mm"], abs=1e-3)
        assert wrong["scale"] == pytest.approx(right["scale"] / 1.05, abs=1e-4)
        metric = scaled[METRICAL, variant].figures
        assert metric["scale"] == 1
        assert metric["mean_mm"] > near[METRICAL, variant].figures["mean_mm"] + 0.2


def test_the_unit_makes_the_size(changed: tuple[Path, Path], scores: Scores) -> None:
    """The same prediction in metres, millimetres, or in one taken for the other."""
    scene, (root, predictions) = scene_of(), changed
    id = miniature.images()["near"]
    expected = scores("near")[METRICAL, STRICT].figures["mean_mm"]
    miniature.predict(predictions, id, scene, "near", times=1000)
    for unit, times in (("mm", 1.0), ("cm", 0.1)):
        here = Given(root, predictions, scene.model, unit)  # type: ignore[arg-type]
        case = case_of(here, id)
        found = {(s.mode, s.variant): s for s in NOW.score(case, NOW.read(case, here), here)}
        scale = found[NONMETRICAL, STRICT].figures["scale"]
        assert scale == pytest.approx(times, rel=0.05)
        same = found[METRICAL, STRICT].figures["mean_mm"] == pytest.approx(expected, abs=1e-3)
        assert same == (unit == "mm")


def test_metrical_starts_at_the_rigid_fit_if_strict() -> None:
    scene = scene_of()
    found = starts_of(scene, "near_scaled_105")
    seven = 1000 * scene.seven_m("near_scaled_105")

    def off(mode: str, variant: Variant) -> float:
        """How far the middles of the landmarks lie apart where a fit starts."""
        start = found[mode][variant]
        return float(np.linalg.norm((start.apply(seven) - scene.seven_mm).mean(0)))

    assert off(METRICAL, STRICT) == pytest.approx(0, abs=1e-9)
    scale = found[NONMETRICAL][AS_PUBLISHED].scale
    shift = abs(1 - scale) * np.linalg.norm(seven.mean(0))
    assert off(METRICAL, AS_PUBLISHED) == pytest.approx(shift, rel=1e-6)
    assert shift > 1


def test_landmarks_beside_a_mesh_of_another_topology(
    changed: tuple[Path, Path], scores: Scores
) -> None:
    scene, (root, predictions) = scene_of(), changed
    id = miniature.images()["near"]
    expected = scores("near")[NONMETRICAL, STRICT].figures["mean_mm"]
    order = np.random.default_rng(0).permutation(len(scene.predictions_m["near"]))
    place = np.argsort(order)
    miniature.write_obj(
        predictions / f"{id}.obj",
        scene.predictions_m["near"][order],
        place[scene.prediction_faces],
    )
    here = given(root, predictions, scene)
    with pytest.raises(FacefoldError, match="landmarks"):
        NOW.read(case_of(here, id), here)
    miniature.mark(predictions, id, scene.seven_m("near"))
    assert scored(changed, "near")[NONMETRICAL, STRICT].figures["mean_mm"] == pytest.approx(
        expected, abs=1e-3
    )
    miniature.mark(predictions, id, scene.seven_m("near")[:6])
    with pytest.raises(FacefoldError, match="6 landmarks, expected 7"):
        NOW.read(case_of(here, id), here)


def test_rows_pool_distances_of_all_images() -> None:
    """Not a mean of images: those with many distances count as much as they have."""
    few, many = np.array([1.0, 2.0]), np.full(98, 5.0)
    scored = [
        (Case("a", "p", "selfie"), [Score(METRICAL, STRICT, few)]),
        (Case("b", "q", "multiview_neutral"), [Score(METRICAL, STRICT, many)]),
    ]
    rows = {row.group: row for row in NOW.rows(scored)}
    assert set(rows) == {"", "selfie", "multiview_neutral"}
    assert rows[""].n == 2
    assert rows[""].figures["mean_mm"] == pytest.approx((3 + 490) / 100)
    assert rows[""].figures["median_mm"] == 5
    assert rows["selfie"].figures == {"median_mm": 1.5, "mean_mm": 1.5, "std_mm": 0.5}


def test_missing_predictions_are_cases(changed: tuple[Path, Path]) -> None:
    root, predictions = changed
    id = miniature.images()["near"]
    (predictions / f"{id}.obj").unlink()
    cases = NOW.cases(given(root, predictions, scene_of())).cases
    assert [case.id for case in cases if case.prediction is None] == [id]
    assert len(cases) == 2 * len(NAMES)
    assert {case.group for case in cases} == set(miniature.CHALLENGES)


def test_a_ply_will_do(changed: tuple[Path, Path]) -> None:
    scene, (root, predictions) = scene_of(), changed
    id = miniature.images()["near"]
    (predictions / f"{id}.obj").unlink()
    path = predictions / f"{id}.ply"
    miniature.files.ply(scene.predictions_m["near"], scene.prediction_faces)(path)
    assert case_of(given(root, predictions, scene), id).prediction == path


def test_predictions_of_the_other_set_are_never_mixed(changed: tuple[Path, Path]) -> None:
    root, predictions = changed
    scene = scene_of()
    miniature.write(root, predictions, scene, ("near",), miniature.SUBJECTS[0], "test")
    listed = root / miniature.LISTS["test"]
    listed.write_text(f"{miniature.SUBJECTS[0]}/selfie/IMG_0777.jpg\n")
    miniature.predict(predictions, f"{miniature.SUBJECTS[0]}/selfie/IMG_0777", scene, "near")
    miniature.predict(predictions, "nobody/selfie/IMG_0001", scene, "near")
    for chosen, asked, of_other in (("validation", 2 * len(NAMES), 1), ("test", 1, 2 * len(NAMES))):
        found = NOW.cases(given(root, predictions, scene, image_set=chosen))
        assert len(found.cases) == asked
        of_other_set, of_none = found.findings
        assert of_other_set.kind == of_none.kind == "another_set"
        assert of_other_set.figures == {"predictions": of_other}
        assert f"expected the {chosen} set only" in of_other_set.said
        assert "nobody/selfie/IMG_0001" in of_none.said
        assert len(found.extra) == of_other + 1
    listed.unlink()
    (finding,) = NOW.cases(given(root, predictions, scene)).findings
    assert "those of the test set are unknown without imagepathstest.txt" in finding.said


def test_a_list_that_is_not_there(changed: tuple[Path, Path]) -> None:
    root, predictions = changed
    scene = scene_of()
    with pytest.raises(
        FacefoldError, match="no list of the test images; choose --choose image_set=v"
    ):
        NOW.cases(given(root, predictions, scene, image_set="test"))
    (root / miniature.LISTS["validation"]).unlink()
    with pytest.raises(FacefoldError, match="no list of the validation images; name NoW's folder"):
        NOW.cases(given(root, predictions, scene))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("selfie/IMG_1.jpg\n", r"line 1: 'selfie/IMG_1.jpg', expected …/subject/challenge/image"),
        ("\n\nIMG_1.jpg\n", "line 3: 'IMG_1.jpg'"),
        ("a/selfie/I.jpg\nx/a/selfie/I.png\n", "lines 1 and 2 are both of a/selfie/I"),
        ("\n \n", "no images, expected one a line"),
        ("", "the file is empty"),
    ],
)
def test_a_list_that_is_damaged(changed: tuple[Path, Path], text: str, said: str) -> None:
    root, predictions = changed
    (root / miniature.LISTS["validation"]).write_text(text)
    with pytest.raises(FacefoldError, match=said):
        NOW.cases(given(root, predictions, scene_of()))


@pytest.mark.parametrize(("folder", "suffix"), [("scans", "obj"), ("scans_lmks_onlypp", "pp")])
def test_a_root_that_lacks_truth(changed: tuple[Path, Path], folder: str, suffix: str) -> None:
    root, predictions = changed
    shutil.rmtree(root / folder / miniature.SUBJECTS[1])
    with pytest.raises(
        FacefoldError, match=rf"no \*\.{suffix}, expected the truth of FaMoS_180426"
    ):
        NOW.cases(given(root, predictions, scene_of()))


def test_a_truth_that_is_damaged(changed: tuple[Path, Path]) -> None:
    scene, (root, predictions) = scene_of(), changed
    here = given(root, predictions, scene)
    case = case_of(here, miniature.images()["near"])
    prediction = NOW.read(case, here)
    scan, marks = case.truth
    miniature.files.picked_points(scene.seven_mm[:6])(marks)
    with pytest.raises(FacefoldError, match="2 of the seven points"):
        NOW.score(case, prediction, here)
    miniature.files.picked_points(scene.seven_mm / 1000)(marks)
    with pytest.raises(FacefoldError, match="no vertex of the truth lies within"):
        NOW.score(case, prediction, here)
    scan.write_text(scan.read_text()[: scan.stat().st_size // 2])
    with pytest.raises(FacefoldError):
        NOW.score(case, prediction, here)


def test_degenerate_triangles_change_nothing(changed: tuple[Path, Path], scores: Scores) -> None:
    scene, (root, predictions) = scene_of(), changed
    expected = scores("near")[NONMETRICAL, STRICT].figures
    faces = np.concatenate([scene.prediction_faces, scene.prediction_faces[:900, [0, 1, 1]]])
    path = predictions / f"{miniature.images()['near']}.obj"
    miniature.write_obj(path, scene.predictions_m["near"], faces)
    found = scored((root, predictions), "near")[NONMETRICAL, STRICT].figures
    assert found == pytest.approx(expected, abs=1e-4)
