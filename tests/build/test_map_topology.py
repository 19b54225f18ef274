"""The model registered to meshes of other topologies whose correspondence is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flows.terminal.command import app
from flows.terminal.options import MeshUnitName
from pipeline.build.map_topology import SCALED_UNITS, map_topology
from pipeline.errors import RegistrationError, UnitError
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.geometry.mesh import vertex_normals
from pipeline.registration.topology_map import TopologyMap, carried, load_map
from pipeline.types import Array
from pipeline.units import UNITS


class Ict(NamedTuple):
    """A head of ICT's topology, and where each of the model's vertices lies on it."""

    model: FlameModel
    vertices: Array  # (13294,3) cm
    faces: Array
    marks: Array  # (68,) vertices
    truth: Array  # (5023,3) cm
    known: Array  # (5023,) bool


def ict(shared_data: Path, seed: int | None) -> Ict:
    """The mean head, or a person."""
    model = load_model(
        shared_data / "flame_ict" / "flame_ict.npz",
        shared_data / "flame" / "landmark_embedding.npy",
    )
    held = np.load(shared_data / "ict" / "ict_facekit_light.npz")
    places = np.load(shared_data / "flame_ict" / "flame_in_ict.npz")
    vertices, faces = held["neutral"].astype(np.float64), held["triangles"].astype(np.int64)
    if seed is not None:
        weights = np.random.default_rng(seed).normal(0, 0.7, 40)
        vertices = vertices + np.einsum("k,kvd->vd", weights, held["identity_modes"][:40])
    corners = vertices[faces[places["triangle"]]]
    truth = (corners * places["barycentric"][..., None]).sum(1)
    return Ict(model, vertices, faces, held["landmarks68"], truth, places["valid"])


def write_basel(path: Path, head: Ict) -> None:
    """As 3DDFA-V3's face_model.npy, in units of 100 mm."""
    held = {"u": head.vertices.reshape(-1, 1) / 10, "tri": head.faces, "ldm68": head.marks}
    np.save(path, np.array(held, dtype=object), allow_pickle=True)


def write_obj(path: Path, vertices: Array, faces: Array) -> None:
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    path.write_text("\n".join([*lines, *(f"f {a} {b} {c}" for a, b, c in faces + 1)]) + "\n")


class Mapped(NamedTuple):
    head: Ict
    found: TopologyMap
    report: dict[str, Any]


@pytest.fixture(scope="module", params=[None, 1], ids=["mean", "person"])
def mapped(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapped:
    folder, head = tmp_path_factory.mktemp("map"), ict(shared_data, request.param)
    write_basel(folder / "face_model.npy", head)
    out = folder / "map.npz"
    report = map_topology(folder / "face_model.npy", out, head.model, unit="dm", device="cpu")
    return Mapped(head, load_map(out), report)


def test_model_vertices_lie_where_they_were_planted(mapped: Mapped) -> None:
    head, found, _ = mapped
    places = found.to_other
    at = carried(10 * head.vertices, places, head.faces)
    off_mm = np.linalg.norm(at - 10 * head.truth, axis=1)[places.valid & head.known]
    assert len(off_mm) > 0.9 * head.known.sum()
    assert np.median(off_mm) < 0.3
    assert np.quantile(off_mm, 0.95) < 0.8
    assert (places.valid & ~head.known).sum() < 60


def test_mesh_vertices_lie_on_the_model_where_they_belong(mapped: Mapped) -> None:
    head, found, _ = mapped
    places, mm = found.to_model, 10 * head.vertices
    off = carried(10 * head.truth, places, head.model.faces) - mm
    known = places.valid & head.known[head.model.faces[places.triangle]].all(1)
    normals = vertex_normals(torch.from_numpy(mm), torch.from_numpy(head.faces)).numpy()
    along = (off - (off * normals).sum(1, keepdims=True) * normals)[known]
    assert known.sum() > 8000
    assert np.median(np.linalg.norm(along, axis=1)) < 0.3
    assert np.quantile(np.linalg.norm(along, axis=1), 0.95) < 0.8


def test_a_map_says_what_it_is_of(mapped: Mapped) -> None:
    head, found, report = mapped
    assert found.model_digest == head.model.digest == report["model"]["digest"]
    assert found.other_digest == report["mesh_digest"]
    assert report["unit_factor_mm"] == pytest.approx(100.0)
    assert report["status"] == "converged"
    assert report["mesh_to_model"]["valid"] == found.to_model.valid.sum()
    assert report["mesh_to_model"]["median_mm"] < 0.3


def test_the_unit_is_stated_and_never_fitted(shared_data: Path, tmp_path: Path) -> None:
    head = ict(shared_data, None)
    write_basel(tmp_path / "face_model.npy", head)
    with pytest.raises(UnitError, match=r"outer eye corners .* expected 80–105 mm"):
        map_topology(tmp_path / "face_model.npy", tmp_path / "m.npz", head.model, unit="cm")
    assert not (tmp_path / "m.npz").exists()


def test_points_have_no_surface_to_map(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "cloud.xyz", stand_in().template_mm)
    with pytest.raises(RegistrationError, match="no triangles"):
        map_topology(tmp_path / "cloud.xyz", tmp_path / "m.npz", stand_in(), unit="mm")


def test_the_command_maps_a_mesh_with_landmarks(tmp_path: Path) -> None:
    """The stand-in onto itself, in another order of vertices."""
    model, draw = stand_in(), np.random.default_rng(0)
    order = draw.permutation(len(model.template_mm))
    place = np.argsort(order)
    write_obj(tmp_path / "head.obj", model.template_mm[order] / 100, place[model.faces])
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(model.template_mm, model.faces) / 100
    np.save(tmp_path / "marks.npy", marks)
    words = ["map-topology", tmp_path / "head.obj", "--out", tmp_path / "map.npz", "--unit", "dm"]
    words += ["--landmarks", tmp_path / "marks.npy", "--scheme", "ibug68", "--device", "cpu"]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0
    assert "stand-in" in result.stdout and "of 5,023 vertices have a place" in result.stdout
    found = load_map(tmp_path / "map.npz")
    at = carried(model.template_mm[order], found.to_other, found.other_faces)
    off = np.linalg.norm(at - model.template_mm, axis=1)[found.to_other.valid]
    assert len(off) > 3000 and np.median(off) < 0.3
    told = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False).stdout
    assert json.loads(told)["model"]["is_stand_in"] is True


def test_the_units_of_the_command_are_those_that_are_known() -> None:
    assert {*MeshUnitName.__args__} == {*UNITS, *SCALED_UNITS}
