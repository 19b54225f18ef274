"""What a user declares of files by hand: limits, axes, scale, and landmarks of their own; and
world coordinates, which come back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.build.register_files import register_files
from pipeline.errors import RegistrationError
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.formats import read_scan
from pipeline.registration import RegistrationOptions
from pipeline.types import Array
from tests.flows.conftest import facefold

RIGID = RegistrationOptions(method="rigid", model_iterations=2, modes=1, tolerance_mm=99)
FAR = np.array([665187.0, 5648349.0, 241.0])
"""Metres east, north and up, as surveys have them."""


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


def write_obj(path: Path, vertices: Array, faces: Array) -> Path:
    with path.open("w") as file:
        np.savetxt(file, vertices, "v %.7f %.7f %.7f")
        np.savetxt(file, faces + 1, "f %d %d %d")
    return path


def inner_marks(model: FlameModel) -> Array:
    """The 51 landmarks of the stand-in, mm."""
    assert model.landmarks is not None
    return model.landmarks.positions(model.template_mm, model.faces)[17:]


def registered(path: Path, model: FlameModel, **given: Any) -> dict[str, Any]:
    [report] = register_files([path], path.parent / "out", model, device="cpu", **given)
    return report


def test_world_coordinates_come_back_as_they_were(model: FlameModel, tmp_path: Path) -> None:
    """The same head at the origin and far from it: one result, to a thousandth of a millimetre."""
    meshes, reports = [], []
    for name, offset in (("near", 0 * FAR), ("far", FAR)):
        path = write_obj(tmp_path / f"{name}.obj", model.template_mm / 1000 + offset, model.faces)
        np.save(tmp_path / f"{name}_lmk.npy", inner_marks(model) / 1000 + offset)
        marks = "{stem}_lmk.npy"
        report = registered(path, model, unit="m", landmarks=marks, options=RIGID)
        assert report["status"] == "converged", report["reason"]
        reports.append(report)
        meshes.append(read_scan(Path(report["mesh"]), "ply").vertices)
    assert np.abs(meshes[1] - 1000 * FAR - meshes[0]).max() < 0.001
    # 1 mm is what float32 keeps of five million metres at best
    assert b"property double x" in Path(reports[1]["mesh"]).read_bytes()[:100]
    assert b"property float x" in Path(reports[0]["mesh"]).read_bytes()[:100]
    shift = np.array(reports[1]["source_to_canonical"])[:3, 3]
    assert np.abs(shift + 1000 * FAR).max() < 300


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.72, 0.75, 0.78])
def test_limits_of_small_faces(shared_data: Path, tmp_path: Path, factor: float) -> None:
    """A real scan of a child's size, with landmarks and without: accepted by the limits that are
    declared, and by the usual ones looked at both ways, or refused both ways."""
    raw = read_scan(shared_data / "scans" / "flame_fitting" / "scan.obj", "obj")
    marks = np.load(shared_data / "scans" / "flame_fitting" / "scan_lmks.npy")
    np.save(tmp_path / "child_lmk.npy", factor * marks)
    path = write_obj(tmp_path / "child.obj", factor * raw.vertices, raw.faces)
    flame = shared_data / "flame"
    of_people = load_model(
        shared_data / "flame_ict" / "flame_ict.npz",
        flame / "landmark_embedding.npy",
        flame / "FLAME_masks.pkl",
    )
    for given in ({"landmarks": "{stem}_lmk.npy"}, {}):
        found = registered(path, of_people, unit="m", outer_eye_mm=(60.0, 105.0), **given)
        assert found["quality"]["verdict"] == "accept", found["reason"]
        if factor > 0.74:
            usual = registered(path, stand_in(), unit="m", **given)
            assert usual["quality"]["verdict"] == "review"
            assert "size" in {f["code"] for f in usual["quality"]["findings"]}


def test_declared_axes_are_used_and_checked(model: FlameModel, tmp_path: Path) -> None:
    lying = model.template_mm @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    marks = inner_marks(model) @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    path = write_obj(tmp_path / "lying.obj", lying, model.faces)
    np.save(tmp_path / "lying_lmk.npy", marks)
    given = {"unit": "mm", "landmarks": "{stem}_lmk.npy", "options": RIGID}
    right = registered(path, model, axes="up=+z, forward=-y", **given)
    mesh = read_scan(Path(right["mesh"]), "ply").vertices
    np.testing.assert_allclose(mesh, lying, atol=0.01)
    matrix = np.array(right["source_to_canonical"])
    np.testing.assert_allclose(lying @ matrix[:3, :3].T, model.template_mm, atol=1e-9)
    wrong = registered(path, model, axes="up=+y,forward=+z", **given)
    assert (wrong["status"], wrong["code"]) == ("failed", "axes")
    assert "likely {up: +z, forward: -y}" in wrong["reason"]
    assert wrong["figures"]["turned_deg"] == pytest.approx(90, abs=5)


def test_a_file_in_no_unit_needs_a_scale(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "scans" / "open" / "nricp_faceTarget.ply"
    scan = read_scan(source, "ply")
    model = stand_in()
    path = write_obj(tmp_path / "face.obj", scan.vertices, scan.faces)
    for unit in ("auto", "mm", "cm", "m", "inch"):
        refused = registered(path, model, unit=unit)
        if refused["status"] == "failed" and refused["code"] in ("size", "unit_open"):
            assert "`scale`" in refused["reason"] and "`metric: false`" in refused["reason"]
            assert "likely no face" not in refused["reason"]
        else:
            assert refused["status"] == "failed", unit
    found = registered(path, model, unit="mm", scale=100.0)
    assert found["status"] != "failed", found["reason"]
    assert found["unit_evidence"].startswith("file × 100, declared mm")
    mesh = read_scan(Path(found["mesh"]), "ply").vertices
    assert np.ptp(mesh, axis=0).max() < 400 and found["quality"]["verdict"] in ("accept", "review")


@pytest.mark.parametrize("number", [4, 7])
def test_landmarks_of_the_users_own_template(
    model: FlameModel, tmp_path: Path, number: int
) -> None:
    """Paired with its vertices in order: the bare template lands on itself, wherever it lies."""
    template = write_obj(tmp_path / "template.obj", model.template_mm / 1000, model.faces)
    chin = np.argsort(np.abs(model.template_mm[:, 0]) - model.template_mm[:, 2])
    face = np.intersect1d(model.regions["face"], chin)
    own = face[np.linspace(0, len(face) - 1, number).astype(int)]
    np.savetxt(tmp_path / "own.txt", own, "%d")
    bare = load_model(template, tmp_path / "own.txt")
    turn = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    moved = model.template_mm @ turn.T + (10, 20, 30)
    path = write_obj(tmp_path / "scan.obj", moved, model.faces)
    np.savetxt(tmp_path / "scan_lmk.txt", moved[own])
    given = {"unit": "mm", "landmarks": "{stem}_lmk.txt", "options": RIGID}
    report = registered(path, bare, **given)
    assert report["mesh"], report["reason"]
    assert report["landmark_scheme"] == "own"
    mesh = read_scan(Path(report["mesh"]), "ply").vertices
    np.testing.assert_allclose(mesh, moved, atol=0.01)
    assert report["quality"]["landmark_error_mm"] < 0.01
    np.savetxt(tmp_path / "scan_lmk.txt", moved[own[:-1]])
    fewer = registered(path, bare, **given)
    assert (fewer["stage"], fewer["code"]) == ("landmarks", "landmarks_unreadable")
    expected = f"holds {number - 1} landmarks, the template's embedding {number}"
    assert expected in fewer["reason"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"axes": "up=+y"}, "axes 'up=\\+y': expected such as up=\\+y,forward=\\+z"),
        ({"axes": "up=+y,forward=-y"}, "two different axes"),
        ({"axes": "sideways"}, "axes 'sideways'"),
        ({"outer_eye_mm": (105.0, 60.0)}, "outer_eye_mm .*two positive numbers, smaller first"),
        ({"extent_mm": (-1.0, 60.0)}, "extent_mm"),
        ({"scale": 0.0}, "scale 0.0: expected a positive factor"),
        ({"scale": float("nan")}, "scale nan"),
    ],
)
def test_wrong_declarations_are_wrong_calls(
    model: FlameModel, tmp_path: Path, given: dict[str, Any], word: str
) -> None:
    with pytest.raises(RegistrationError, match=word):
        register_files([tmp_path / "x.obj"], tmp_path / "out", model, **given)
    assert not (tmp_path / "out").exists()


def test_the_command_takes_what_is_declared(tmp_path: Path) -> None:
    options = ("--axes", "up=+y,forward=+z", "--outer-eye-mm", "60", "105", "--scale", "2")
    options += ("--extent-mm", "50", "700", "--out", str(tmp_path / "out"), "--json")
    done = facefold("register", tmp_path / "gone.obj", *options)
    assert done.status == 3, done.stderr
    assert json.loads(done.stdout)[0]["stage"] == "read"
