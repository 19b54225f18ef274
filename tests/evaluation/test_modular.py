"""M3DFB: recipes beside the authors' numbers, its layout, what users get wrong."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, Case, Given, Prediction, Score
from pipeline.evaluation.protocols.modular import BY_ITSELF, MODULAR
from pipeline.flame.stand_in import stand_in
from tests.evaluation.commanding import evaluate, kinds, row
from tests.evaluation.miniature_modular import (
    PointScene,
    given_of,
    oracle_points,
    scores_of,
    stand_in_points,
    write,
    write_points,
    write_subject,
)
from tests.evaluation.scenes import stand_in_scene, write_obj

MEAN_MM = 0.003
"""What means with an elastic deformation or a correction may differ from the authors'."""
POINT_MM = 1e-4
"""What points may of recipes without a deformation."""
PLAIN = ("E1", "RLR_chamfer", "RLR_correct")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with the stand-in's scene."""
    write(tmp_path / "root", tmp_path / "predictions", stand_in_points())
    return tmp_path


@pytest.mark.oracles
def test_every_recipe_gives_the_authors_numbers(oracles: Path, tmp_path: Path) -> None:
    write(tmp_path / "root", tmp_path / "predictions", oracle_points(oracles))
    with np.load(oracles / "m3dfb.npz") as found:
        recipes, names = found["recipes"].tolist(), found["names"].tolist()
        error_mm = 1000 * found["error_m"]
    given = given_of(tmp_path, recipe=",".join(recipes))
    for k, name in enumerate(names):
        scores = scores_of(given, name)
        for i, recipe in enumerate(recipes):
            mine = scores[recipe, AS_PUBLISHED].distances
            assert abs(mine.mean(dtype=float) - error_mm[i, k].mean()) < MEAN_MM, (recipe, name)
            if recipe in PLAIN:
                assert np.abs(mine - error_mm[i, k]).max() < POINT_MM, (recipe, name)
        mirrored = scores["E1", AS_PUBLISHED].figures["determinant"] < 0
        assert mirrored == (name == "near_mirrored")


def test_mirrored_and_scaled_show_in_figures(made: Path) -> None:
    given = given_of(made, recipe="E1,RLR_chamfer")
    near, scaled = scores_of(given, "near"), scores_of(given, "near_scaled_105")
    mirrored = scores_of(given, "near_mirrored")
    for mode in ("E1", "RLR_chamfer"):
        published, strict = (mode, AS_PUBLISHED), (mode, STRICT)
        assert near[published].figures["determinant"] == 1
        assert mirrored[published].figures["determinant"] == -1
        assert np.isclose(
            mirrored[published].figures["mean_mm"], near[published].figures["mean_mm"], rtol=1e-9
        )
        assert mirrored[strict].figures["determinant"] == 1
        assert mirrored[strict].figures["mean_mm"] > 2 * near[strict].figures["mean_mm"]
        ratio = scaled[strict].figures["scale"] / near[strict].figures["scale"]
        assert np.isclose(ratio, 1 / 1.05, rtol=1e-9)
        metric = (f"{mode} metric", STRICT)
        assert scaled[metric].figures["scale"] == 1
        assert scaled[metric].figures["mean_mm"] > 1.1 * near[metric].figures["mean_mm"]


def test_a_wrong_unit_shows_in_scale(made: Path) -> None:
    """A prediction that is too small is near the truth everywhere: distances do not show it."""
    right = scores_of(given_of(made, recipe="E1"), "near")
    small = scores_of(given_of(made, "cm", recipe="E1"), "near")
    scale = right["E1", STRICT].figures["scale"]
    assert np.isclose(small["E1", STRICT].figures["scale"], 100 * scale)
    near_mm = right["E1", STRICT].figures["mean_mm"]
    assert small["E1 metric", STRICT].figures["mean_mm"] < 1.5 * near_mm


def test_noise_and_pose_of_a_prediction(made: Path) -> None:
    scores = scores_of(given_of(made), "near_moved_noisy")
    assert {mode for mode, _ in scores} == {m for r in BY_ITSELF for m in (r, f"{r} metric")}
    near = scores_of(given_of(made, recipe="E12"), "near")
    noisy = scores["E12", STRICT].figures["mean_mm"]
    assert abs(noisy - near["E12", STRICT].figures["mean_mm"]) < 0.5


def test_the_mean_head_has_its_own_size(made: Path) -> None:
    """The mean face of the JSON is in no unit of its own here."""
    given = given_of(made, recipe="RLR_chamfer")
    case = MODULAR.cases(given).cases[0]
    mean = MODULAR.mean_head(case, given)
    assert mean.unit_mm == 1 and len(mean.vertices) == len(stand_in_points().mean_face)
    assert 80 < np.linalg.norm(mean.landmarks_68[36] - mean.landmarks_68[45]) < 105
    beside = scores_of(given, "mean")
    for score in MODULAR.score(case, mean, given):
        expected = beside[score.mode, score.variant].figures["mean_mm"]
        assert abs(score.figures["mean_mm"] - expected) < 0.1


def test_known_correspondence_is_seen_and_scored(tmp_path: Path) -> None:
    scene = stand_in_points()
    points = scene.predictions_m["truth"]
    same = PointScene(
        points, points[scene.landmark_ids], scene.predictions_m, scene.mean_face, scene.landmark_ids
    )
    write(tmp_path / "root", tmp_path / "predictions", same, ["truth", "near"])
    given = given_of(tmp_path)
    scores = scores_of(given, "near")
    assert ("True", STRICT) in scores
    assert scores["True", STRICT].figures["mean_mm"] > scores["E1", STRICT].figures["mean_mm"]
    assert scores_of(given, "truth")["True metric", STRICT].distances.max() < 1e-3
    order = np.random.default_rng(1).permutation(len(points))
    write_points(tmp_path / "root" / "Gmeshes" / "near.txt", 1e6 * points[order])
    assert ("True", STRICT) not in scores_of(given, "near")


def test_known_correspondence_needs_as_many_points(made: Path) -> None:
    with pytest.raises(FacefoldError, match="not as many as the predictions' topology"):
        scores_of(given_of(made, recipe="True"), "near")


def mesh_miniature(folder: Path, names: tuple[str, ...]) -> None:
    """The stand-in's scene as meshes, of truths and predictions."""
    scene, points = stand_in_scene(), stand_in_points()
    for name in names:
        write_subject(folder / "root", name, points)
        (folder / "root" / "Gmeshes" / f"{name}.txt").unlink()
        write_obj(folder / "root" / "Gmeshes" / f"{name}.obj", 1e3 * scene.vertices_mm, scene.faces)
        write_obj(
            folder / "predictions" / f"{name}.obj",
            scene.predictions_m[name],
            scene.prediction_faces,
        )


def test_meshes_in_the_models_topology_are_measured_to_triangles(tmp_path: Path) -> None:
    mesh_miniature(tmp_path, ("truth", "near"))
    given = given_of(tmp_path, recipe="RLR+chamfer,RLR+P2Tri,RLR+ELR+P2Tri+ETC")
    truth, near = scores_of(given, "truth"), scores_of(given, "near")
    nearest, surface = truth["RLR+chamfer metric", STRICT], truth["RLR+P2Tri metric", STRICT]
    assert (surface.distances <= nearest.distances + 1e-4).all()
    assert np.median(surface.distances) < 0.6 * np.median(nearest.distances)
    assert near["RLR+P2Tri", STRICT].figures["mean_mm"] > surface.figures["mean_mm"]
    assert surface.faces is not None and surface.vertices_mm is not None
    assert surface.faces.max() < len(surface.vertices_mm) == len(surface.distances)
    assert len(surface.distances) < len(stand_in().template_mm)
    assert np.isfinite(near["RLR+ELR+P2Tri+ETC", AS_PUBLISHED].distances).all()


def test_triangles_that_are_not_there_are_asked_for(made: Path) -> None:
    with pytest.raises(FacefoldError, match=r"6 truths are points.*take chamfer for P2Tri"):
        MODULAR.cases(given_of(made, recipe="E1,RLR+P2Tri"))


def test_the_table_is_a_mean_of_means(made: Path) -> None:
    given = given_of(made, recipe="E1")
    cases = [case for case in MODULAR.cases(given).cases if case.id in ("near", "mean")]
    scored = [(case, MODULAR.score(case, MODULAR.read(case, given), given)) for case in cases]
    rows = {(row.mode, row.variant): row for row in MODULAR.rows(scored)}
    means = [
        score.figures["mean_mm"]
        for _, scores in scored
        for score in scores
        if (score.mode, score.variant) == ("E1 metric", STRICT)
    ]
    row = rows["E1 metric", STRICT]
    assert row.n == 2 and np.isclose(row.figures["mean_mm"], np.mean(means))
    assert list(rows) == [
        (mode, variant) for mode in ("E1", "E1 metric") for variant in (AS_PUBLISHED, STRICT)
    ]


TOY = "FACEFOLD_BFMSYNTH"
"""Names the folder of the authors' toy data: `data/BFMsynth` in their repository, or a copy of it
with `info/BFM-p23470.json` in it."""
EXACT, ELASTIC = 1e-5, 5e-3


@pytest.mark.oracles
@pytest.mark.slow
def test_toy_data_of_the_authors(oracles: Path) -> None:
    root = Path(os.environ.get(TOY) or oracles / "BFMsynth")
    if not root.is_dir():
        pytest.skip(f"the toy data of M3DFB are not at {root}; set {TOY} to their folder")
    reported = json.loads((oracles / "m3dfb_toy.json").read_text())["methods"]
    described = [folder / "info" / "BFM-p23470.json" for folder in (root, *root.parents)]
    for method, recipes in reported.items():
        folder, name = method.split("/")
        given = Given(
            root,
            next((root / "Rmeshes" / folder).glob(f"*/{name}")),
            stand_in(),
            "m",
            choices={
                "recipe": ",".join(recipes),
                "topology": str(next(path for path in described if path.is_file())),
            },
        )
        for i, case in enumerate(MODULAR.cases(given).cases):
            prediction: Prediction = MODULAR.read(case, given)
            for score in MODULAR.score(case, prediction, given):
                known = recipes.get(score.mode, {}).get("mean_error_of_subject", [])
                if score.variant == AS_PUBLISHED and i < len(known):
                    error = score.figures["mean_mm"] / known[i] - 1
                    assert abs(error) < (ELASTIC if score.mode == "E12" else EXACT), case.id


@pytest.mark.oracles
def test_a_methods_figure_is_the_mean_of_its_peoples_means(oracles: Path) -> None:
    reported = json.loads((oracles / "m3dfb_toy.json").read_text())["methods"]
    assert reported
    for recipes in reported.values():
        for mode, known in recipes.items():
            people = [
                (
                    Case(str(i), str(i)),
                    [Score(mode, AS_PUBLISHED, np.full(3, mean), figures={"mean_mm": mean})],
                )
                for i, mean in enumerate(known["mean_error_of_subject"])
            ]
            [found] = [row for row in MODULAR.rows(people) if not row.group]
            assert found.n == len(people)
            assert found.figures["mean_mm"] == pytest.approx(known["mean"], rel=EXACT)


@pytest.mark.oracles
def test_the_command_prints_the_authors_means(oracles: Path, tmp_path: Path) -> None:
    names = ["truth", "near"]
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    write(root, predictions, oracle_points(oracles), names)
    found = evaluate("modular", root, predictions, tmp_path / "out", "--unit", "m")
    with np.load(oracles / "m3dfb.npz") as known:
        chosen = [known["names"].tolist().index(name) for name in names]
        recipes, error_mm = known["recipes"].tolist(), 1000 * known["mean_error_m"][:, chosen]
    for recipe, means in zip(recipes, error_mm, strict=True):
        printed = row(found, recipe, AS_PUBLISHED)
        assert printed["n"] == len(names)
        assert printed["mean_mm"] == pytest.approx(means.mean(), abs=MEAN_MM), recipe
        assert printed["std_mm"] == pytest.approx(means.std(), abs=MEAN_MM), recipe
    assert not kinds(found, "truth")


def test_the_command_names_what_is_wrong_in_predictions(tmp_path: Path) -> None:
    scene = stand_in_points()
    wrong = {
        "truth": scene.predictions_m["truth"],
        "near": scene.predictions_m["near"],
        "larger": 1.05 * scene.predictions_m["truth"],
        "near_mirrored": scene.predictions_m["near_mirrored"],
        "in_mm": 1000 * scene.predictions_m["near"],
    }
    scene = replace(scene, predictions_m=wrong)
    root, predictions = tmp_path / "root", tmp_path / "predictions"
    write(root, predictions, scene, list(wrong))
    write_subject(root, "absent", scene)
    found = evaluate(
        "modular", root, predictions, tmp_path / "out", "--choose", "recipe=E1,RLR_chamfer"
    )
    of = {name: kinds(found, name) for name in (*wrong, "absent")}
    assert "scaled" in of["larger"]
    assert "mirrored" in of["near_mirrored"]
    assert "unit" in of["in_mm"]
    assert of["absent"] == {"missing"}
    assert not of["truth"] and not of["near"]
    assert found["status"] == 3
    strict, published = (row(found, "E1 metric", v) for v in (STRICT, AS_PUBLISHED))
    assert (strict["n"], published["n"]) == (6, 5)
    assert row(found, "E1 metric", STRICT, of="mean head")["mean_mm"] > 0.5
