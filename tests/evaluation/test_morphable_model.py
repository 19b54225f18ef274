"""`facefold model`: from a store to a file that commands take, and what it says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.terminal.command import app
from pipeline.errors import ModelError, StoreError
from pipeline.evaluation.morphable.model import Asked, make_model, said_in
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.flame.morphable import placed_mutually
from pipeline.flame.stand_in import stand_in
from pipeline.formats.ply import read_ply
from pipeline.geometry.closest import SurfaceIndex
from pipeline.store import attach, current_version, open_store
from pipeline.synthetic.files import write_ply
from pipeline.types import Array
from tests.evaluation.people_store import heads_of, write_people
from tests.store.random_store import make_store

KNOWN = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("model") / "unified.zarr"
    write_people(store, stand_in(), heads_of(stand_in(), 30, 5, KNOWN))
    return store


@pytest.fixture(scope="module")
def made(store: Path) -> Path:
    out = store.parent / "own.npz"
    make_model(Asked(str(store), out, KNOWN, other=stand_in()))
    return out


def test_the_file_is_the_people(store: Path, made: Path) -> None:
    heads = heads_of(stand_in(), 30, 5, KNOWN)
    used = placed_mutually(heads[[i for i in range(30) if i % 5]].astype(np.float64))
    model = load_model(made)
    assert model.name == "own" and not model.is_stand_in
    assert model.template_mm == pytest.approx(used.mean(0), abs=1e-6)
    assert model.shape_basis_mm.shape[2] == KNOWN
    coefficients = np.linalg.lstsq(
        model.shape_basis_mm.reshape(-1, KNOWN), (used - model.template_mm).reshape(24, -1).T
    )[0]
    assert coefficients.std(1, ddof=1) == pytest.approx(np.ones(KNOWN), abs=1e-4)
    with np.load(made) as held:
        assert held["mean_mm"] == pytest.approx(1000 * held["v_template"])
        assert held["variances_mm2"].sum() == pytest.approx(
            float(held["total_variance_mm2"]), rel=1e-3
        )


def test_expressions_and_joints_are_the_other_models(made: Path) -> None:
    model, other = load_model(made), stand_in()
    assert model.expression_basis_mm == pytest.approx(other.expression_basis_mm, abs=1e-5)
    assert (model.parents == other.parents).all()
    assert model.landmarks is not None and other.landmarks is not None
    placed = model.landmarks.positions_68(other.template_mm, other.faces)
    truth = other.landmarks.positions_68(other.template_mm, other.faces)
    assert placed == pytest.approx(truth, abs=1e-3, nan_ok=True)


def test_it_says_all_that_makes_it_again(store: Path, made: Path, tmp_path: Path) -> None:
    said = said_in(made)
    assert said["people"] == 24 and said["left_out"] == {"in the split val": 6}
    assert said["version"] == current_version(store).name
    assert said["people_left_out"]["in the split val"][1] == "person:00005"
    assert said["landmarks_from"] == "the store" and said["commercial"]
    beside = json.loads(made.with_suffix(".json").read_text())
    assert beside.pop("curves")["generalisation"]["people"] == 6
    assert beside == said
    assert made.with_suffix(".png").stat().st_size > 10_000
    again = tmp_path / "own.npz"
    make_model(Asked(str(store), again, KNOWN, other=stand_in()))
    for suffix in (".npz", ".json", ".png"):
        assert again.with_suffix(suffix).read_bytes() == made.with_suffix(suffix).read_bytes()


def test_an_unseen_persons_scan_is_registered_with_it(made: Path, tmp_path: Path) -> None:
    other = stand_in()
    head = heads_of(other, 1, 99, KNOWN)[0].astype(np.float64)
    assert other.landmarks is not None
    landmarks = other.landmarks.positions_68(head, other.faces)
    skin = other.faces[(other.faces < 3931).all(1)]
    angle = 0.3
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    write_ply(tmp_path / "scan.ply", head @ turn.T, skin)
    np.save(tmp_path / "scan.npy", landmarks @ turn.T)
    options = ["--landmarks", str(tmp_path / "scan.npy"), "--unit", "mm", "--model", str(made)]
    words = ["register", str(tmp_path / "scan.ply"), "--out", str(tmp_path / "out"), *options]
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = read_ply(tmp_path / "out" / "scan.ply").vertices
    face = load_model(made).regions["face"]
    assert error(found, head @ turn.T, face) < 0.3
    surface = SurfaceIndex(found, other.faces).query((head @ turn.T)[face])
    assert surface.distance.mean() < 0.1


def error(found: Array, truth: Array, face: Array) -> float:
    return float(np.linalg.norm(found - truth, axis=1)[face].mean())


def test_a_store_without_landmarks_says_so(tmp_path: Path) -> None:
    write_people(tmp_path / "s", stand_in(), heads_of(stand_in(), 6, 7), landmarks=False)
    said = make_model(Asked(str(tmp_path / "s"), tmp_path / "own.npz"))
    assert said["landmarks_from"].startswith("nobody: name an embedding")
    assert load_model(tmp_path / "own.npz").landmarks is None
    said = make_model(Asked(str(tmp_path / "s"), tmp_path / "own.npz", other=stand_in()))
    assert said["landmarks_from"] == "the model stand-in"
    assert load_model(tmp_path / "own.npz").landmarks is not None
    marks = stand_in().landmarks
    assert marks is not None
    corners = stand_in().faces[marks.triangles]
    np.save(tmp_path / "l.npy", corners[np.arange(68), marks.barycentric.argmax(1)])
    asked = Asked(str(tmp_path / "s"), tmp_path / "own.npz", embedding=tmp_path / "l.npy")
    assert make_model(asked)["landmarks_from"] == str(tmp_path / "l.npy")
    assert load_model(tmp_path / "own.npz").landmarks is not None


def test_landmarks_that_lie_elsewhere_are_not_believed(tmp_path: Path) -> None:
    model, store = stand_in(), tmp_path / "s"
    assert model.landmarks is not None
    write_people(store, model, heads_of(model, 6, 7))
    marks = open_store(store).read("registered_landmarks_mm", slice(None)) + np.float32(2)
    given = open_store(store).columns("scan_id")["scan_id"].to_pylist()
    np.savez(tmp_path / "a.npz", scan_id=given, registered_landmarks_mm=marks)
    attach(store, "registered_landmarks_mm", tmp_path / "a.npz")
    said = make_model(Asked(str(store), tmp_path / "own.npz"))
    assert "off the registered surface" in said["landmarks_from"]
    assert load_model(tmp_path / "own.npz").landmarks is None


def test_people_without_labels_make_a_model_of_their_scans(tmp_path: Path) -> None:
    heads = heads_of(stand_in(), 6, 8)
    write_people(tmp_path / "s", stand_in(), heads, labels=False, scans=2)
    said = make_model(Asked(str(tmp_path / "s"), tmp_path / "own.npz"))
    assert (said["field"], said["people"], said["components"]) == ("neutral_mm", 4, 3)
    model = load_model(tmp_path / "own.npz")
    assert model.template_mm == pytest.approx(placed_mutually(heads[1:5]).mean(0), abs=1e-3)
    # five folds of four people leave too few for one
    assert said["curves"]["generalisation"]["people"] == 4


@pytest.mark.parametrize(("asked", "said"), [
    ({"components": 24}, r"got 24 components of 24 people, expected 1 … 23.*left out: 6 in the"),
    ({"where": "subject == '1' or subject == '2'"}, r"got 2 people, expected at least 3"),
    ({"out": Path("model.pkl")}, "model.pkl: a model is written as .npz"),
    ({"store": "nowhere"}, "holds no published store"),
])  # fmt: skip
def test_bad_input(store: Path, tmp_path: Path, asked: dict[str, object], said: str) -> None:
    given = Asked(str(store), tmp_path / "own.npz")._replace(**asked)
    with pytest.raises((ModelError, StoreError), match=said):
        make_model(given)
    assert not list(tmp_path.iterdir())


def test_stores_of_no_heads_or_no_triangles_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "random", people=True)
    with pytest.raises(StoreError, match="which holds no triangles"):
        make_model(Asked(str(tmp_path / "random"), tmp_path / "own.npz"))
    for size in (4, 100):  # a head of the latter size passes for one in centimetres
        heads, store = size * heads_of(stand_in(), 4, 7), tmp_path / f"{size}"
        write_people(store, stand_in(), heads, landmarks=False)
        with pytest.raises(StoreError, match=r"none that commands take: .* expected a head of"):
            make_model(Asked(str(store), tmp_path / "own.npz"))
    assert not list(tmp_path.glob("*.npz")) and not list(tmp_path.glob(".*.npz"))


def test_another_topology_gives_no_expressions(store: Path, tmp_path: Path) -> None:
    other: FlameModel = replace(stand_in(), faces=stand_in().faces[:, ::-1].copy())
    with pytest.raises(StoreError, match="triangles of the model"):
        make_model(Asked(str(store), tmp_path / "own.npz", other=other))
