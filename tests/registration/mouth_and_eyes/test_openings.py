from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.build.given_files import Declared, Request, read_request
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.coefficients import rest_coefficients
from pipeline.registration.gauss_newton.model_fit import fit_model
from pipeline.registration.landmarks.targets import landmark_targets
from pipeline.registration.matches import ScanSurface
from pipeline.registration.mouth_and_eyes.openings import (
    PAIRS,
    UNSEEN_MM,
    Openings,
    facts,
    find_openings,
    pairs_of,
    with_unseen,
)
from pipeline.registration.mouth_and_eyes.profiles import GIVEN, OPEN, UNSEEN
from pipeline.registration.task import Task
from pipeline.registration.template import Template, prepare_template
from pipeline.types import Array, Scan
from tests.benchmarks.cases import scan_of, without_landmarks
from tests.benchmarks.remeshing import keep_triangles
from tests.registration.model_scans import make_scan


def openings_on(template: Template, scans: list[Scan], fitted: bool = False) -> Openings:
    """Read from the template at rest, or as the model fits the scans with their landmarks."""
    surfaces = [ScanSurface.of(scan, "cpu") for scan in scans]
    marks = landmark_targets(template, scans)
    coefficients = rest_coefficients(template, len(scans))
    if fitted:
        people = torch.arange(len(scans))
        task = Task(template, surfaces, marks, coefficients, people, RegistrationOptions())
        coefficients = fit_model(task)
        marks = replace(marks, confidence=torch.zeros_like(marks.confidence))
    found = find_openings(template, surfaces, marks, coefficients)
    assert found is not None
    return found


def smooth_face() -> Scan:
    """A bulge where the template's face is: no lips, no lids."""
    y, x = np.meshgrid(np.arange(-90.0, 110.0, 2.0), np.arange(-70.0, 71.0, 2.0))
    z = 110 - x**2 / 90 - (y - 10) ** 2 / 250
    at = np.arange(x.size).reshape(x.shape)
    a, b, c, d = at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return scan_of("smooth", np.stack([x, y, z], -1).reshape(-1, 3), faces, None, True)


@pytest.mark.parametrize("jaw", [0.05, 0.15])
def test_edges_of_an_open_mouth_are_where_they_truly_are(
    model: FlameModel, template: Template, jaw: float
) -> None:
    truth = make_scan(model, 3, jaw=jaw)
    found = openings_on(template, [truth.scan], fitted=True)
    assert found.state[0, 0] == OPEN
    true = torch.as_tensor(truth.vertices_mm, dtype=torch.float64)[None]
    mouth = torch.cat([found.pairs.opening == 0] * 2)
    assert found.gap(true)[0, mouth].abs().max() < 1.0
    assert found.gap(template.tensors.template[None])[0, mouth].abs().max() > 2.0


def test_scans_of_a_batch_are_read_each_by_itself(model: FlameModel, template: Template) -> None:
    scans = [make_scan(model, 3, jaw=jaw).scan for jaw in (0.05, 0.15)]
    found = openings_on(template, scans, fitted=True)
    apart = (found.height_mm[:, 0] - found.height_mm[:, 1])[:, found.pairs.opening == 0]
    assert (apart[1] > apart[0] + 5).all()
    alone = openings_on(template, scans[1:], fitted=True)
    # products of a batch round otherwise on some processors; the scans are 5 mm apart
    torch.testing.assert_close(found.height_mm[1:], alone.height_mm, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.state[1:], alone.state)


def test_the_template_itself_is_left_as_it_is(model: FlameModel, template: Template) -> None:
    skin = (template.areas[template.faces] > 0).all(1).numpy()
    v, f = keep_triangles(model.template_mm, model.faces, skin)
    found = openings_on(template, [scan_of("rest", v, f, None, True)])
    assert found.state[0, 1:].tolist() == [OPEN, OPEN]
    assert (found.gap(template.tensors.template[None]) * found.weight.flatten(1)).abs().max() < 0.1


def test_where_nothing_shows_lips_are_shut_and_lids_half_open(template: Template) -> None:
    found = openings_on(template, [smooth_face()])
    assert found.state[0].tolist() == [UNSEEN] * 3
    apart = (found.height_mm[:, 0] - found.height_mm[:, 1])[0]
    pairs = found.pairs
    assert apart[pairs.opening == 0].abs().max() < 1e-9
    torch.testing.assert_close(apart[pairs.opening > 0], pairs.rest_mm[pairs.opening > 0] / 2)
    assert (found.weight > 0).all()


def test_what_does_not_show_has_a_large_expected_error(template: Template) -> None:
    scan = smooth_face()
    found = openings_on(template, [scan])
    small = torch.full((1, len(template.areas)), 0.5, dtype=torch.float64)
    expected = with_unseen(template, found, small)[0]
    corners, barycentric = found.pairs.flat
    assert ((expected[corners] * barycentric).sum(-1) > 0.75 * UNSEEN_MM).all()
    lowest = template.tensors.template[:, 1].argmin()
    assert expected[lowest] == pytest.approx(0.5, abs=1e-6)
    seen = replace(found, state=torch.full_like(found.state, OPEN))
    torch.testing.assert_close(with_unseen(template, seen, small), small)


def test_given_landmarks_stand_where_nothing_shows(template: Template, model: FlameModel) -> None:
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(model.template_mm, model.faces)
    marks[:17] = np.nan
    smooth = smooth_face()
    scan = scan_of("given", smooth.vertices_mm, smooth.faces, marks, True)
    found = openings_on(template, [scan])
    assert found.state[0].tolist() == [GIVEN] * 3
    assert not found.weight.any()


def test_a_point_cloud_and_a_part_without_a_mouth_pull_nowhere(
    model: FlameModel, template: Template
) -> None:
    scan = without_landmarks(make_scan(model, 3).scan, True)
    cloud = replace(scan, faces=scan.faces[:0])
    forehead = keep_triangles(
        scan.vertices_mm, scan.faces, scan.vertices_mm[scan.faces][..., 1].min(1) > 60
    )
    found = openings_on(template, [cloud, scan_of("forehead", *forehead, None, True)])
    assert not found.weight.any()


def test_a_template_without_those_landmarks_has_no_openings(model: FlameModel) -> None:
    assert model.landmarks is not None
    keep = model.landmarks.indices_68 < 60
    fewer = LandmarkEmbedding(
        model.landmarks.indices_68[keep],
        model.landmarks.triangles[keep],
        model.landmarks.barycentric[keep],
    )
    for landmarks in (None, fewer, replace(fewer, indices_68=np.full(keep.sum(), -1))):
        bare = prepare_template(replace(model, landmarks=landmarks), "cpu", 12)
        assert pairs_of(bare) is None
    assert facts(None, torch.zeros(2, 5, 3)) == [{}, {}]


def test_a_result_says_what_was_read(model: FlameModel) -> None:
    truth = make_scan(model, 4, jaw=0.2)
    figures = register([truth.scan], model)[0].figures
    assert figures["mouth"] == "given"  # the scan's landmarks say how far
    assert set(PAIRS) <= set(figures)
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(truth.vertices_mm, model.faces)
    apart = np.linalg.norm(marks[[61, 62, 63]] - marks[[67, 66, 65]], axis=1).mean()
    assert figures["mouth_gap_mm"] == pytest.approx(apart, abs=1.5)


@pytest.fixture(scope="module")
def flame_ict(shared_data: Path) -> FlameModel:
    flame = shared_data / "flame"
    return load_model(
        shared_data / "flame_ict" / "flame_ict.npz",
        flame / "landmark_embedding.npy",
        flame / "FLAME_masks.pkl",
    )


def apart_on(vertices: Array, model: FlameModel) -> dict[str, float]:
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(vertices.astype(np.float64), model.faces)
    return {
        name: float(np.mean([np.linalg.norm(marks[a] - marks[b]) for a, b in pairs]))
        for name, pairs in PAIRS.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scan", "shut_eyes"),
    [
        ("open/cfwen_face.off", False),  # its eyes show nothing
        ("open/grading_head.ply", True),
        ("scalismo_faces/01.stl", False),
        ("scalismo_faces/06.stl", False),
        ("flame_fitting/scan.obj", False),
        ("james/james.obj", False),
    ],
)
def test_real_scans_with_shut_mouths(
    shared_data: Path, flame_ict: FlameModel, scan: str, shut_eyes: bool
) -> None:
    request = Request(shared_data / "scans" / scan, None, Declared())
    result = register([read_request(request, flame_ict)], flame_ict)[0]
    apart = apart_on(result.vertices_mm, flame_ict)
    assert result.figures["mouth"] == "shut"
    assert apart["mouth"] <= 2.6
    if shut_eyes:
        assert result.figures["right_eye"] == result.figures["left_eye"] == "shut"
        assert max(apart["right_eye"], apart["left_eye"]) <= 4.5
    for name in ("right_eye", "left_eye"):
        if result.figures[name] == "open":
            assert apart[name] > 6
        if result.figures[name] == "unclear":
            assert apart[name] > 4
        if result.figures[name] == "unseen":
            assert 4 < apart[name] < 8  # half open, whatever the coefficients alone would give


@pytest.mark.slow
def test_a_scalp_of_an_mri_shows_no_lids(shared_data: Path, flame_ict: FlameModel) -> None:
    request = Request(shared_data / "scans" / "open" / "eeglab_colin27.ply", None, Declared())
    result = register([read_request(request, flame_ict)], flame_ict)[0]
    assert {result.figures[name] for name in PAIRS} == {"unseen"}
    pairs = pairs_of(prepare_template(flame_ict, "cpu", 220))
    assert pairs is not None
    assert result.expected_error_mm[pairs.corners.flatten().numpy()].min() > 0.75 * UNSEEN_MM
