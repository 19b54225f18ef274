from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from cases import scan_of, without_landmarks
from model_scans import Truth, make_scan
from remeshing import keep_triangles

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import rotation_matrices, umeyama
from pipeline.registration import RegistrationOptions
from pipeline.registration.coefficients import posed_vertices, rest_coefficients
from pipeline.registration.search import search
from pipeline.registration.search.face import face_of, modes_of
from pipeline.registration.search.poses import Poses
from pipeline.registration.search.surface import past_edge
from pipeline.registration.search.verdict import Verdict, chosen
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, Scan

TURN = np.array([1.2, -1.9, 0.7])


@pytest.fixture(scope="module")
def turned(model: FlameModel) -> Truth:
    return make_scan(model, 4, turn=TURN)


def off_by(model: FlameModel, truth: Truth, found: tuple[torch.Tensor, torch.Tensor]) -> Array:
    """Degrees and millimetres from the motion that lies closest to the true face."""
    at = model.regions["face"]
    source = torch.from_numpy(model.template_mm[at].astype(np.float64))
    rotation, translation = umeyama(source, torch.from_numpy(truth.vertices_mm[at]))
    cosine = ((rotation * found[0]).sum() - 1) / 2
    centre = source.mean(0)
    shift = (found[0] - rotation) @ centre + found[1] - translation
    return np.array([float(torch.rad2deg(torch.arccos(cosine.clamp(max=1)))), float(shift.norm())])


def cut(scan: Scan, keep: Array) -> Scan:
    vertices, faces = keep_triangles(scan.vertices_mm, scan.faces, keep)
    return scan_of(scan.scan_id, vertices, faces, None, oriented=False)


def test_finds_any_pose_and_the_same_each_time(
    model: FlameModel, template: Template, turned: Truth
) -> None:
    scan = without_landmarks(turned.scan, oriented=False)
    found = search(template, scan)
    assert (off_by(model, turned, found) < [3, 5]).all()
    again = search(template, scan)
    assert torch.equal(found[0], again[0]) and torch.equal(found[1], again[1])


def test_a_bare_template_finds_it_as_well(bare: FlameModel, turned: Truth) -> None:
    template = prepare_template(bare, "cpu", RegistrationOptions().modes)
    found = search(template, without_landmarks(turned.scan, oriented=False))
    assert (off_by(bare, turned, found) < [6, 10]).all()


@pytest.mark.parametrize("side", [-1, 1])
def test_half_a_face_is_enough(
    model: FlameModel, template: Template, turned: Truth, side: int
) -> None:
    across = rotation_matrices(torch.from_numpy(TURN)).numpy()[:, 0]
    x = (turned.scan.vertices_mm - turned.vertices_mm.mean(0)) @ across
    half = cut(turned.scan, side * x[turned.scan.faces].mean(1) > -5)
    assert 0.4 < len(half.faces) / len(turned.scan.faces) < 0.6
    assert (off_by(model, turned, search(template, half)) < [4, 5]).all()


def test_past_the_edge_is_beside_the_scan_not_over_it() -> None:
    height, aside = np.array([0.0, 30.0, 2.0, -30.0]), np.array([20.0, 10.0, 3.0, 40.0])
    np.testing.assert_array_equal(past_edge(height, aside), [True, False, False, True])


def test_declared_axes_are_believed(template: Template, turned: Truth) -> None:
    with pytest.raises(RegistrationError, match="test:4"):
        search(template, without_landmarks(turned.scan, oriented=True))


@pytest.mark.parametrize(
    ("verdicts", "turns", "expected"),
    [
        ([(0.5, 0.59, 1.0), (0.1, 0.3, 1.0)], [0.0, 2.0], "no pose lays a face on it"),
        ([(0.5, 0.9, 0.44), (0.1, 0.3, 1.0)], [0.0, 2.0], "no pose lays a face on it"),
        ([(0.50, 0.9, 1.0), (0.52, 0.9, 1.0)], [0.0, 2.0], "two poses fit about equally"),
        ([(0.2, 0.5, 1.0), (0.5, 0.9, 1.0)], [0.0, 2.0], 1),
        ([(0.50, 0.9, 1.0), (0.49, 0.9, 1.0)], [0.0, 0.05], 0),  # the same twice is no rival
    ],
)
def test_the_best_pose_must_fit_and_beat_every_other(
    template: Template,
    verdicts: list[tuple[float, float, float]],
    turns: list[float],
    expected: str | int,
) -> None:
    axis_angle = torch.tensor([[0.0, turn, 0.0] for turn in turns], dtype=torch.float64)
    poses = Poses(rotation_matrices(axis_angle).numpy(), np.zeros((2, 3)))
    given = [Verdict(*v) for v in verdicts]
    if isinstance(expected, str):
        with pytest.raises(RegistrationError, match=expected):
            chosen("a", face_of(template), given, poses)
    else:
        assert chosen("a", face_of(template), given, poses) == expected


@pytest.mark.parametrize("kind", ["ball", "box", "plane"])
def test_what_is_no_face_is_refused(template: Template, kind: str) -> None:
    shape = {
        "ball": trimesh.creation.icosphere(subdivisions=5, radius=90),
        "box": trimesh.creation.box([150, 200, 180]).subdivide_to_size(5.0),
        "plane": trimesh.creation.box([300, 300, 1]).subdivide_to_size(5.0),
    }[kind]
    scan = scan_of(kind, np.asarray(shape.vertices), np.asarray(shape.faces), None, False)
    with pytest.raises(RegistrationError, match=f"scan {kind}: no landmarks"):
        search(template, scan)


def test_a_speck_and_a_face_inside_out_are_refused(template: Template, turned: Truth) -> None:
    scan = without_landmarks(turned.scan, oriented=False)
    with pytest.raises(RegistrationError, match="scan test:4: no landmarks"):
        search(template, replace(scan, normals=-scan.normals))
    with pytest.raises(RegistrationError, match="scan test:4: no landmarks"):
        search(template, replace(scan, vertices_mm=scan.vertices_mm / 1000))


def test_modes_hold_what_the_model_and_the_jaw_can_do(
    model: FlameModel, template: Template, bare: FlameModel
) -> None:
    at = model.regions["face"][::7]
    modes = modes_of(template, at).reshape(3 * len(at), -1)
    identity = template.tensors.shape_basis[0, torch.from_numpy(at)].numpy().ravel()
    rest = rest_coefficients(template, 1)
    opened = rest.rotations.clone()
    opened[:, 2] = rotation_matrices(torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64))
    moved = posed_vertices(template, replace(rest, rotations=opened))
    jaw = (moved - posed_vertices(template, rest))[0, torch.from_numpy(at)].numpy().ravel()
    for motion in (identity, jaw):
        explained = modes @ np.linalg.lstsq(modes, motion, rcond=None)[0]
        assert np.linalg.norm(explained - motion) < 0.05 * np.linalg.norm(motion)
    # a bare template still bends smoothly, by as much everywhere
    smooth = modes_of(prepare_template(bare, "cpu", RegistrationOptions().modes), at)
    deviation = np.sqrt(np.square(smooth).sum((1, 2)) / 3)
    assert np.quantile(deviation, 0.05) > 2.5 and deviation.max() < 4.01
