"""Predicted heads of the people of a store: what is known of them is what the command says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import FacefoldError, StoreError
from pipeline.evaluation.benchmark import STRICT, Case, Given
from pipeline.evaluation.crops import SEVEN_68
from pipeline.evaluation.protocols.people import (
    ALIGNED,
    METRIC,
    PEOPLE,
    face_of,
    file_name,
    people_in,
)
from pipeline.flame.stand_in import stand_in
from pipeline.store import open_store
from pipeline.store.reader import Store
from pipeline.types import Array
from tests.evaluation.commanding import evaluate, kinds, row
from tests.evaluation.people_store import heads_of, write_people
from tests.evaluation.scenes import write_obj

TRUE, MEAN, LARGER, MIRRORED, IN_METRES, LOST = (f"made:{i}/a" for i in range(6))
OF_VAL, OF_TRAIN, SIZELESS = (f"made:{i}/a" for i in range(6, 9))
SPLITS = ["test"] * 6 + ["val", "train", "test_non_metric"]
MODEL = stand_in()


class Made(NamedTuple):
    store: Path
    heads: dict[str, Array]
    """Person -> (V,3) mm at rest."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    heads = heads_of(MODEL, len(SPLITS), seed=3, components=40)
    names = [f"made:{i}/a" for i in range(len(SPLITS))]
    told = [{"identity": name, "split": s} for name, s in zip(names, SPLITS, strict=True)]
    of_people = [{"identity": name} for name in names]
    folder = tmp_path_factory.mktemp("people") / "made.zarr"
    write_people(folder, MODEL, heads, told, of_people=of_people)
    return Made(folder, dict(zip(names, heads.astype(np.float64), strict=True)))


class Run(NamedTuple):
    found: dict[str, Any]
    figures: dict[tuple[str, str], dict[str, Any]]
    """Person and mode -> row of scores.parquet."""


@pytest.fixture(scope="module")
def run(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Right and wrong heads through the command."""
    folder = tmp_path_factory.mktemp("predicted")
    turned = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    heads = made.heads
    predicted = {
        TRUE: heads[TRUE] @ turned.T + [30, -200, 55],
        MEAN: MODEL.template_mm,
        LARGER: 1.02 * heads[LARGER],
        MIRRORED: heads[MIRRORED] * [-1, 1, 1],
        IN_METRES: heads[IN_METRES] / 1000,
        OF_VAL: heads[OF_VAL],
    }
    for person, head in predicted.items():
        write_obj(folder / "heads" / f"{file_name(person)}.obj", head, MODEL.faces)
    found = evaluate("people", made.store, folder / "heads", folder / "out")
    scores = pq.read_table(folder / "out" / "scores.parquet").to_pylist()
    return Run(found, {(line["case"], line["mode"]): line for line in scores})


def test_a_perfect_head_scores_nothing_wherever_it_stands(run: Run) -> None:
    for mode in (METRIC, ALIGNED):
        assert run.figures[TRUE, mode]["median_mm"] < 1e-3
        assert run.figures[TRUE, mode]["mean_head_median_mm"] > 0.2
    assert run.figures[TRUE, METRIC]["scale"] == 1
    assert not kinds(run.found, TRUE)


def test_the_mean_head_scores_what_stands_beside_it(run: Run) -> None:
    for mode in (METRIC, ALIGNED):
        line = run.figures[MEAN, mode]
        assert line["median_mm"] == pytest.approx(line["mean_head_median_mm"], abs=1e-4)


def test_another_size_is_counted_by_metric_scores_and_named(run: Run) -> None:
    assert run.figures[LARGER, METRIC]["median_mm"] > 0.15
    assert run.figures[LARGER, ALIGNED]["median_mm"] < 1e-3
    assert run.figures[LARGER, ALIGNED]["scale"] == pytest.approx(1 / 1.02, abs=1e-5)
    assert kinds(run.found, LARGER) == {"scaled"}


def test_mirrored_heads_and_those_in_another_unit_are_named(run: Run) -> None:
    assert run.found["unit"]["unit"] == "mm"
    named = {person for person in (TRUE, MEAN, LARGER, MIRRORED, IN_METRES)
             if kinds(run.found, person) & {"mirrored", "unit"}}  # fmt: skip
    assert named == {MIRRORED, IN_METRES}
    assert "mirrored" in kinds(run.found, MIRRORED) and "unit" in kinds(run.found, IN_METRES)
    assert run.figures[MIRRORED, ALIGNED]["median_mm"] > 0.3
    assert run.figures[IN_METRES, METRIC]["median_mm"] > 10


def test_a_missing_head_counts_as_the_worst_that_was_predicted(run: Run) -> None:
    assert (run.found["status"], run.found["asked"], run.found["scored"]) == (3, 6, 5)
    assert [missing["case"] for missing in run.found["missing"]] == [LOST]
    assert row(run.found, METRIC, STRICT)["n"] == 6
    assert row(run.found, METRIC, STRICT)["mean_mm"] > 20  # twice the one in metres


def test_people_of_other_splits_are_not_asked_for(made: Made, run: Run) -> None:
    assert list(people_in(open_store(made.store), "test")) == [
        TRUE, MEAN, LARGER, MIRRORED, IN_METRES, LOST,
    ]  # fmt: skip
    (said,) = [f["said"] for f in run.found["findings"] if f["kind"] == "another_set"]
    assert said.startswith(f"1 predictions are of people of other splits, such as {OF_VAL}")
    assert run.found["choices"] == {"split": "test"}


def test_people_that_networks_are_trained_on_are_named(made: Made, tmp_path: Path) -> None:
    found = PEOPLE.cases(given(made, tmp_path, split="train"))
    assert [case.id for case in found.cases] == [OF_TRAIN]
    assert "score test or val" in found.findings[0].said
    assert not PEOPLE.cases(given(made, tmp_path, split="val")).findings


def given(made: Made, predictions: Path, **choices: str) -> Given:
    return Given(made.store, predictions, MODEL, "mm", choices=choices)


def test_only_what_a_scanner_sees_of_the_face_counts(made: Made) -> None:
    face = face_of(open_store(made.store), 0, MODEL)
    head = made.heads[TRUE]
    eyeballs = head[MODEL.regions["eyeballs"]]
    apart = np.linalg.norm(face.vertices_mm[:, None] - eyeballs[None, ::10], axis=2)
    assert 1500 < len(face.vertices_mm) < 3000 and apart.min() > 0
    middle = face.seven_mm.mean(0)
    assert np.linalg.norm(face.vertices_mm - middle, axis=1).max() < 130
    assert np.isin(face.vertices_mm, head).all()


def test_meshes_of_another_topology_bring_their_landmarks(made: Made, tmp_path: Path) -> None:
    """The same surface, its vertices in another order."""
    here, person = given(made, tmp_path), made.heads[MEAN]
    order = np.random.default_rng(0).permutation(len(person))
    path = tmp_path / f"{file_name(TRUE)}.obj"
    write_obj(path, person[order], np.argsort(order)[MODEL.faces])
    with pytest.raises(FacefoldError, match="landmarks"):
        PEOPLE.read(case_of(here, TRUE), here)
    assert MODEL.landmarks is not None
    seven = MODEL.landmarks.positions_68(person, MODEL.faces)[list(SEVEN_68)]
    np.save(path.with_suffix(".npy"), seven)
    foreign = scored(here, TRUE)
    path.with_suffix(".npy").unlink()
    write_obj(path, person, MODEL.faces)
    assert foreign == pytest.approx(scored(here, TRUE), abs=1e-4)


def case_of(here: Given, person: str) -> Case:
    (case,) = [case for case in PEOPLE.cases(here).cases if case.person == person]
    return case


def scored(here: Given, person: str) -> dict[str, float]:
    case = case_of(here, person)
    scores = PEOPLE.score(case, PEOPLE.read(case, here), here)
    return {score.mode: score.figures["median_mm"] for score in scores}


def test_every_person_has_a_file_of_their_own() -> None:
    names = ["a:b_c", "a_b:c", "a/b", "a%2Fb", "A", "a", "Müller 1", "..", ".a", "%2Ea", "", "%"]
    names += ["x" * 400 + end for end in "yz"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(files)
    assert not any("/" in file or file.startswith(".") or len(file) > 200 for file in files)
    assert [unquote(file) for file in files[:10]] == names[:10]
    assert file_name("made:0042") == "made%3A0042"


@pytest.mark.parametrize("split", ["dev", "test_non_metric"])
def test_a_split_without_people_of_true_size_is_an_error(
    made: Made, tmp_path: Path, split: str
) -> None:
    with pytest.raises(StoreError, match=f"'{split}' .* name one of test, train, val"):
        PEOPLE.cases(given(made, tmp_path, split=split))


def test_people_of_no_usable_scan_are_left_out(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their head at rest is the template's."""
    usable = {"identity_scans": np.array([0, 1, 1, 1, 1, 1])}
    monkeypatch.setattr(Store, "read_identities", lambda store, name, rows: usable[name])
    assert TRUE not in people_in(open_store(made.store), "test")


def test_people_of_whom_a_scan_has_no_true_size_are_left_out(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be part of their head at rest."""
    of_the_first = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0])  # SIZELESS's scan
    monkeypatch.setattr(Store, "identity_row", of_the_first)
    assert TRUE not in people_in(open_store(made.store), "test")


def test_a_store_without_heads_at_rest_is_an_error(tmp_path: Path) -> None:
    bare = write_people(tmp_path / "bare.zarr", MODEL, heads_of(MODEL, 2, seed=0), labels=False)
    with pytest.raises(StoreError, match="no heads at rest of its people; build it again"):
        PEOPLE.cases(Given(bare, tmp_path, MODEL, "mm"))


def test_models_that_cannot_be_compared_are_errors(made: Made, tmp_path: Path) -> None:
    here = given(made, tmp_path)
    turned = replace(MODEL, faces=np.roll(MODEL.faces, 1, axis=0))
    with pytest.raises(StoreError, match=r"triangles of the model .* with --model"):
        PEOPLE.cases(replace(here, model=turned))
    with pytest.raises(FacefoldError, match=r"no landmarks.*--embedding"):
        PEOPLE.cases(replace(here, model=replace(MODEL, landmarks=None)))


def test_predictions_have_to_be_named(made: Made) -> None:
    with pytest.raises(FacefoldError, match="--predictions: got none"):
        PEOPLE.cases(given(made, made.store))
