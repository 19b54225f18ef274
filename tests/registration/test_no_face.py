"""Scans that determine no registration: refused one by one, with a code, the others unharmed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.normalise import normalise
from pipeline.quality.assess import assess
from pipeline.refusals import Code
from pipeline.registration import METHODS, RegistrationOptions, register
from pipeline.registration.methods import Fitted, Task
from pipeline.registration.search import face_sizes, search
from pipeline.registration.solvable import solvable
from pipeline.registration.template import Template
from pipeline.types import Array, RawScan, Scan
from tests.normalise.pieces import grid

QUICK = RegistrationOptions(method="rigid", model_iterations=2, modes=1, tolerance_mm=99)
FACES = np.empty((0, 3), np.int64)


def scan_of(name: str, vertices: Array, faces: Array, marks: Array | None = None) -> Scan:
    """As it is, without what normalising would refuse."""
    given = {}
    if marks is not None:
        given = {"landmarks_mm": marks, "landmark_scheme": "ibug68", "landmark_source": "file"}
        given["landmark_confidence"] = np.isfinite(marks).all(axis=1)
    normals = np.tile([0.0, 0, 1], (len(vertices), 1))
    return Scan(name, vertices, faces, normals, np.eye(4), "mm", 1.0, "", **given)


def marks_of(model: FlameModel) -> Array:
    assert model.landmarks is not None
    return model.landmarks.positions_68(model.template_mm, model.faces)


def flat_things() -> dict[str, tuple[Array, Array]]:
    plane, faces = grid(40, 5.0)
    plane -= plane.mean(axis=0)
    rough = plane + np.random.default_rng(0).normal(0, 0.5, plane.shape)
    line = np.linspace([-100.0, -90, 3], [100.0, 90, 3], 500)
    return {
        "a plane": (plane, faces),
        "a rough plane": (rough, faces),
        "a slanted plane": (
            plane @ trimesh.transformations.random_rotation_matrix()[:3, :3],
            faces,
        ),
        "a line": (line, FACES),
        "one place": (np.ones((500, 3)), FACES),
    }


@pytest.mark.parametrize("marked", [True, False])
def test_a_plane_and_a_line_are_no_faces(model: FlameModel, marked: bool) -> None:
    marks = marks_of(model) * (1, 1, 0) if marked else None
    scans = [scan_of(name, *thing, marks) for name, thing in flat_things().items()]
    scans.append(scan_of("good", model.template_mm, model.faces, marks_of(model)))
    *found, other = register(scans, model, QUICK)
    for flat in found:
        assert (flat.status, flat.code) == ("failed", Code.NOT_A_FACE), flat.scan_id
        assert flat.figures["depth_mm"] < 1 and "expected at least 1" in flat.reason
        assert np.isfinite(flat.vertices_mm).all()
    assert other.status == "converged"


def test_too_few_vertices_and_landmarks_at_one_place(model: FlameModel) -> None:
    triangle = scan_of("t", 100 * np.eye(3), np.array([[0, 1, 2]]))
    marks = np.tile([1.0, 2, 3], (68, 1))
    gathered = scan_of("g", model.template_mm, model.faces, marks)
    for found in register([triangle, gathered], model, QUICK):
        assert (found.status, found.code) == ("failed", Code.TOO_FEW_POINTS)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["ball", "tube", "dented plane"])
def test_round_things_are_no_faces(model: FlameModel, shape: str) -> None:
    """The search refuses them; where landmarks place the template, the gates do."""
    if shape == "dented plane":
        vertices, faces = grid(40, 5.0)
        noise = np.random.default_rng(0).normal(0, 3, len(vertices))
        vertices = vertices - vertices.mean(axis=0) + noise[:, None] * (0, 0, 1)
    else:
        thing = (
            trimesh.creation.icosphere(subdivisions=4, radius=90)
            if shape == "ball"
            else trimesh.creation.cylinder(80, 220, sections=80).subdivide().subdivide()
        )
        vertices, faces = np.asarray(thing.vertices), np.asarray(thing.faces)
    raw = RawScan(vertices, faces)
    scan = normalise(raw, scan_id=shape, unit="mm", axes=None)
    (found,) = register([scan], model)
    assert (found.status, found.code) == ("failed", Code.NO_FACE)
    marks = marks_of(model)
    placed = replace(
        scan,
        landmarks_mm=marks,
        landmark_scheme="ibug68",
        landmark_confidence=np.isfinite(marks).all(axis=1),
    )
    (found,) = register([placed], model)
    if found.status != "failed":
        quality = assess(placed, found, model)
        assert quality.verdict == "reject"
        assert {Code.NOT_A_FACE, Code.SURFACE_DISTANCE} & {*quality.codes}


@pytest.mark.parametrize("error", [torch.linalg.LinAlgError, np.linalg.LinAlgError])
def test_singular_equations_are_one_scans_fault(
    model: FlameModel, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Of a person whose scans are solved as one batch, whatever solver gives up."""
    plain = METHODS["rigid"]

    def picky(task: Task) -> Fitted:
        if any(len(surface.index.vertices) < 4000 for surface in task.surfaces):
            raise error("linalg.cholesky: not positive-definite (leading minor 7)\nmore")
        return plain(task)

    monkeypatch.setitem(METHODS, "picky", picky)
    marks = marks_of(model)
    good = scan_of("good", model.template_mm, model.faces, marks)
    bad = scan_of("bad", model.template_mm[:3931], FACES, marks)
    options = RegistrationOptions(method="picky", model_iterations=1, tolerance_mm=99)
    first, wrong, last = register([good, bad, good], model, options, group=["p", "p", "p"])
    assert (wrong.status, wrong.code) == ("failed", Code.SINGULAR)
    assert "not positive-definite" in wrong.reason and "more" not in wrong.reason
    assert first.status == last.status == "converged"


def test_real_solvers_are_understood() -> None:
    for solve in (
        lambda: torch.linalg.cholesky(torch.zeros(3, 3)),
        lambda: torch.linalg.solve(torch.zeros(3, 3), torch.ones(3)),
        lambda: np.linalg.solve(np.zeros((3, 3)), np.ones(3)),
        lambda: np.linalg.svd(np.full((3, 3), np.nan)),
    ):
        with pytest.raises(RegistrationError) as caught, solvable("a"):
            solve()
        assert caught.value.code == Code.SINGULAR


def test_a_failure_keeps_its_figures(model: FlameModel) -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=90)
    scan = normalise(RawScan(ball.vertices, ball.faces), scan_id="b", unit="mm", axes=None)
    (found,) = register([scan], model, QUICK)
    assert found.code == Code.NO_FACE and 0 < found.figures["agreement"] < 0.6


def test_small_faces_are_searched_for_where_a_source_has_them(
    model: FlameModel, template: Template
) -> None:
    assert face_sizes((80.0, 105.0)) == [1.0]
    assert face_sizes((60.0, 105.0)) == [1.0, 0.85]
    assert face_sizes((30.0, 42.0)) == [pytest.approx(0.4)]
    small = RawScan(0.68 * model.template_mm + (5, 6, 7), model.faces)
    scan = normalise(small, scan_id="a", unit="mm", axes=None)
    with pytest.raises(RegistrationError, match="no pose lays a face"):
        search(template, scan)
    rotation, translation = search(template, scan, (60.0, 105.0))
    middle = template.tensors.template[template.face_region].mean(0)
    placed = rotation @ middle + translation
    np.testing.assert_allclose(placed, 0.68 * middle + torch.tensor([5, 6, 7]), atol=8)
    assert torch.trace(rotation) > 2.9
