"""M3DFB's files: what is found of them, and what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import Given
from pipeline.evaluation.modular import MODULAR
from pipeline.flame.stand_in import stand_in
from tests.evaluation.miniature_modular import (
    given_of,
    scores_of,
    stand_in_points,
    write,
    write_points,
    write_topology,
)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with the stand-in's scene."""
    write(tmp_path / "root", tmp_path / "predictions", stand_in_points())
    return tmp_path


def test_missing_and_extra_predictions_are_listed(made: Path) -> None:
    (made / "predictions" / "near.txt").rename(made / "predictions" / "nobody.txt")
    cases = MODULAR.cases(given_of(made))
    assert [case.id for case in cases.cases if case.prediction is None] == ["near"]
    assert [path.name for path in cases.extra] == ["nobody.txt"]


def test_folders_of_another_layout_are_refused(made: Path) -> None:
    for root, predictions in ((made, made / "predictions"), (made / "root", made / "nowhere")):
        given = Given(root, predictions, stand_in(), "m")
        with pytest.raises(FacefoldError, match="no such folder; --root is the folder of one data"):
            MODULAR.cases(given)
    (made / "root" / "Gmeshes" / "near.lmks").unlink()
    with pytest.raises(FacefoldError, match=r"1 of 6 truths have no landmarks.*near.lmks"):
        MODULAR.cases(given_of(made))


def test_wrong_counts_and_odd_values_are_refused(made: Path) -> None:
    marks = made / "root" / "Gmeshes" / "near.lmks"
    rows = marks.read_text().splitlines(keepends=True)
    marks.write_text("".join(rows[:-1]))
    with pytest.raises(FacefoldError, match="50 finite landmarks x y z, expected iBUG's 51"):
        scores_of(given_of(made, recipe="E1"), "near")
    marks.write_text("".join([*rows[:-1], "nan nan nan\n"]))
    with pytest.raises(FacefoldError, match="50 finite landmarks"):
        scores_of(given_of(made, recipe="E1"), "near")
    points = made / "predictions" / "mean.txt"
    points.write_text("".join(points.read_text().splitlines(keepends=True)[:-7]))
    with pytest.raises(FacefoldError, match=r"points, but the topology has .* cut off"):
        scores_of(given_of(made), "mean")
    write_points(made / "predictions" / "mean.txt", np.full((len(rows), 3), np.inf))
    with pytest.raises(FacefoldError):
        scores_of(given_of(made), "mean")


def test_truths_of_no_unit_are_refused(made: Path) -> None:
    scene = stand_in_points()
    write_points(made / "root" / "Gmeshes" / "near.lmks", 37 * scene.true_landmarks_m)
    with pytest.raises(FacefoldError, match=r"outer eye corners 3.* expected 80–105 mm in m, cm"):
        scores_of(given_of(made, recipe="E1"), "near")
    assert scores_of(given_of(made, recipe="E1", truth_unit="um"), "near")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"lmk_indices": [0] * 50}, "50 lmk_indices, expected iBUG's 51"),
        ({"lmk_indices": [10**6] * 51}, "lmk_indices name point 1000000 of"),
        ({"lmk_indices": None}, "lmk_indices holds no numbers"),
        ({"mean_face_shape": [[0, 1]]}, "mean_face_shape has the shape"),
        ({"leye_oc_rel_index": 60}, "are .*60.*, expected places among 51"),
    ],
)
def test_topologies_that_cannot_be_are_refused(
    made: Path, change: dict[str, object], fault: str
) -> None:
    path = made / "other.json"
    said = json.loads((made / "root" / "info" / "points.json").read_text())
    path.write_text(json.dumps({**said, **change}))
    with pytest.raises(FacefoldError, match=fault):
        scores_of(given_of(made, recipe="E1", topology=str(path)), "near")


def test_topologies_that_are_missing_damaged_or_ambiguous(made: Path) -> None:
    info = made / "root" / "info"
    with pytest.raises(FacefoldError, match="no such file; correct --choose topology"):
        scores_of(given_of(made, topology=str(info / "none.json")), "near")
    (info / "second.json").write_text("{")
    with pytest.raises(FacefoldError, match=r"points.json and second.json may both"):
        scores_of(given_of(made), "near")
    with pytest.raises(FacefoldError, match="no JSON"):
        scores_of(given_of(made, topology=str(info / "second.json")), "near")
    (info / "second.json").unlink()
    said = json.loads((info / "points.json").read_text())
    del said["mean_face_shape"]
    (info / "points.json").write_text(json.dumps(said))
    with pytest.raises(FacefoldError, match="mean_face_shape is missing"):
        scores_of(given_of(made), "near")
    (info / "points.json").unlink()
    with pytest.raises(FacefoldError, match="no JSON file beside the predictions describes"):
        scores_of(given_of(made), "near")


def test_a_topology_of_another_count_is_said(made: Path) -> None:
    scene = stand_in_points()
    mean = np.concatenate([scene.mean_face, scene.mean_face[:1]])
    write_topology(made / "root" / "info" / "points.json", replace(scene, mean_face=mean))
    with pytest.raises(FacefoldError, match=f"{len(mean) - 1} points, but the topology has"):
        scores_of(given_of(made), "near")
