"""Where a source puts its landmarks is found from its scans, however they are posed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import RegistrationError
from pipeline.flame.lbs import pose_vertices
from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.geometry.rigid import rotation_matrices
from pipeline.landmarks.schemes import OWN
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.landmarks.calibration import (
    DEFINITION_MM,
    LandmarkCalibration,
    general_calibration,
)
from pipeline.registration.landmarks.offsets import (
    LEAST_NOISE_MM,
    MIN_SCANS,
    estimate,
    loose_calibration,
    observe,
    odd_landmarks,
)
from pipeline.registration.outcome import failed
from pipeline.registration.template import Template
from pipeline.types import Array, Registration, Scan
from tests.benchmarks.cases import scan_of
from tests.registration.model_scans import make_scan

NOISE_MM, SCANS = 0.6, 30


def embedding_of(template: Template) -> LandmarkEmbedding:
    assert template.model.landmarks is not None
    return template.model.landmarks


def below_the_nose(template: Template) -> int:
    return int(np.flatnonzero(embedding_of(template).indices_68 == 33)[0])


def definition(template: Template) -> Array:
    """(L,3) mm: the brows' ends 8 mm up, all else 1 mm towards the subject's left."""
    names = embedding_of(template).indices_68
    offset = np.tile([1.0, 0.0, 0.0], (len(names), 1))
    offset[np.isin(names, [17, 26])] = [0.0, 8.0, 0.0]
    return offset


def posed(
    template: Template, seed: int, offset: Array, beyond_mm: float = 0.0
) -> tuple[Scan, Registration]:
    """A scan whose landmarks are the model's, moved by `offset` (L,3) at rest and noise, and the
    registration that is right but for `beyond_mm` that the model does not explain."""
    rng = np.random.default_rng(seed)
    embedding, model = embedding_of(template), template.model
    pose = np.zeros(15)
    pose[:3], pose[6] = rng.normal(scale=0.5, size=3), rng.uniform(0, 0.3)
    given = [np.zeros(300), np.zeros(100), pose, rng.normal(scale=90, size=3)]
    tensors = [torch.from_numpy(x[None].astype(np.float32).astype(np.float64)) for x in given]
    vertices = pose_vertices(template.tensors, *tensors)[0].numpy()
    turns = rotation_matrices(tensors[2].reshape(-1, 3)).numpy()
    # head and jaw: the joints of FLAME's layout are root, neck, jaw, eyes
    weights = model.weights[model.faces[embedding.triangles, embedding.barycentric.argmax(1)]]
    jaw = weights[:, 2, None] * (np.einsum("ij,lj->li", turns[2], offset) - offset)
    moved = (offset + jaw) @ turns[0].T
    points = embedding.positions(vertices, model.faces) + moved
    marks = np.full((68, 3), np.nan)
    marks[embedding.indices_68] = points + rng.normal(scale=NOISE_MM, size=points.shape)
    scan = scan_of(f"posed:{seed}", vertices, model.faces, marks, True)
    registration = failed(template, scan.scan_id, RegistrationError("none"))
    registration = replace(
        registration,
        **dict(zip(("shape", "expression", "pose", "translation_mm"), given, strict=True)),
        vertices_mm=vertices,
        offset_mm=np.tile([0.0, 0.0, beyond_mm], (len(vertices), 1)),
        validity=np.ones(len(vertices), bool),
        status="converged",
        reason="",
    )
    return scan, registration


def calibrated(template: Template, pairs: list[tuple[Scan, Registration]]) -> LandmarkCalibration:
    scans, registrations = zip(*pairs, strict=True)
    return estimate(template.model, "ibug68", observe(template, scans, registrations))


@pytest.fixture(scope="module")
def truth(template: Template) -> Array:
    return definition(template)


@pytest.fixture(scope="module")
def pairs(template: Template, truth: Array) -> list[tuple[Scan, Registration]]:
    return [posed(template, seed, truth, beyond_mm=0.2) for seed in range(SCANS)]


def error_mm(template: Template, found: LandmarkCalibration, truth: Array) -> Array:
    """(L,) of the landmarks that have a place."""
    return np.linalg.norm(found.offset_mm - truth, axis=1)[embedding_of(template).indices_68 >= 17]


def test_offsets_and_noise_are_found_whatever_the_pose(
    template: Template, pairs: list[tuple[Scan, Registration]], truth: Array
) -> None:
    found = calibrated(template, pairs)
    assert found.scans == SCANS
    assert error_mm(template, found, truth).mean() < 0.25
    assert error_mm(template, found, truth).max() < 0.9  # the brows' ends, which slide most
    inside = embedding_of(template).indices_68 >= 17
    assert np.median(found.noise_mm[inside]) == pytest.approx(NOISE_MM, rel=0.2)
    assert (
        found.offset_std_mm[inside] < DEFINITION_MM[embedding_of(template).indices_68[inside]]
    ).all()


def test_a_tenth_of_wrong_scans_moves_nothing(
    template: Template, pairs: list[tuple[Scan, Registration]], truth: Array
) -> None:
    right = calibrated(template, pairs)
    # the landmarks of other schemes' orders, of mirrored and of other people's scans
    wrong = [
        (replace(scan, landmarks_mm=np.random.default_rng(i).permutation(scan.landmarks_mm)), r)
        for i, (scan, r) in enumerate(pairs[:3])
    ]
    found = calibrated(template, wrong + pairs[3:])
    assert np.linalg.norm(found.offset_mm - right.offset_mm, axis=1).max() < 0.5
    assert found.noise_mm.max() < 1.5 * right.noise_mm.max()


def test_registrations_that_leave_much_unexplained_are_trusted_less(
    template: Template, truth: Array
) -> None:
    well, badly = (
        calibrated(template, [posed(template, seed, truth, beyond) for seed in range(8)])
        for beyond in (0.2, 12.0)
    )
    row = below_the_nose(template)
    assert badly.offset_std_mm[row] > 2 * well.offset_std_mm[row]
    assert np.linalg.norm(badly.offset_mm[row]) < 0.75 * np.linalg.norm(well.offset_mm[row])
    general = general_calibration(embedding_of(template), "ibug68")
    assert (badly.offset_std_mm <= general.offset_std_mm).all()


def test_what_too_few_scans_show_stays_with_what_is_known_in_general(
    template: Template, pairs: list[tuple[Scan, Registration]]
) -> None:
    general = general_calibration(embedding_of(template), "ibug68")
    few = calibrated(template, pairs[: MIN_SCANS - 1])
    assert few.scans == 0 and not few.offset_mm.any()
    np.testing.assert_array_equal(few.noise_mm, general.noise_mm)

    hidden = []
    for i, (scan, registration) in enumerate(pairs):
        marks = np.array(scan.landmarks_mm)
        if i >= MIN_SCANS - 1:
            marks[33] = np.nan
        hidden.append((replace(scan, landmarks_mm=marks), registration))
    found = calibrated(template, hidden)
    row = below_the_nose(template)
    for name in ("offset_mm", "offset_std_mm", "noise_mm"):
        np.testing.assert_array_equal(getattr(found, name)[row], getattr(general, name)[row])
    assert found.offset_mm[row + 1].any()


def test_contour_points_have_no_offset(
    template: Template, pairs: list[tuple[Scan, Registration]]
) -> None:
    contour = embedding_of(template).indices_68 < 17
    assert contour.any() and not calibrated(template, pairs).offset_mm[contour].any()


def test_failed_registrations_tell_nothing(
    template: Template, pairs: list[tuple[Scan, Registration]]
) -> None:
    lost = [(scan, failed(template, scan.scan_id, RegistrationError("x"))) for scan, _ in pairs]
    scans, registrations = zip(*lost[:2], *pairs[2:], strict=True)
    assert len(observe(template, scans, registrations)) == SCANS - 2


def test_a_model_without_landmarks_cannot_be_calibrated(
    template: Template, pairs: list[tuple[Scan, Registration]]
) -> None:
    without = replace(template, model=replace(template.model, landmarks=None))
    with pytest.raises(RegistrationError, match="has no landmarks"):
        observe(without, [pairs[0][0]], [pairs[0][1]])


def test_landmarks_in_another_order_are_odd(
    template: Template, pairs: list[tuple[Scan, Registration]]
) -> None:
    embedding = embedding_of(template)
    assert odd_landmarks(calibrated(template, pairs), embedding) == []
    swapped = []
    for scan, registration in pairs:
        marks = np.array(scan.landmarks_mm)
        marks[[39, 42]] = marks[[42, 39]]
        swapped.append((replace(scan, landmarks_mm=marks), registration))
    odd = odd_landmarks(calibrated(template, swapped), embedding)
    assert [embedding.indices_68[row] for row, _ in odd] == [39, 42]
    assert all(far > 20 for _, far in odd)


def test_points_of_the_users_own_are_calibrated_too(
    template: Template, pairs: list[tuple[Scan, Registration]], truth: Array
) -> None:
    embedding = embedding_of(template)
    rows = np.array([np.flatnonzero(embedding.indices_68 == n)[0] for n in (30, 36, 45, 48, 54)])
    own = LandmarkEmbedding(np.full(5, -1), embedding.triangles[rows], embedding.barycentric[rows])
    owned = replace(template, model=replace(template.model, landmarks=own))
    scans = [
        replace(
            scan,
            landmark_scheme=OWN,
            landmarks_mm=np.asarray(scan.landmarks_mm)[embedding.indices_68[rows]],
            landmark_confidence=np.ones(5),
        )
        for scan, _ in pairs
    ]
    found = estimate(owned.model, OWN, observe(owned, scans, [r for _, r in pairs]))
    assert np.linalg.norm(found.offset_mm - truth[rows], axis=1).max() < 0.5


def test_nobody_is_taken_for_exact(template: Template, truth: Array) -> None:
    pair = posed(template, 1, truth)
    assert calibrated(template, [pair] * 10).noise_mm.min() >= LEAST_NOISE_MM


@pytest.mark.slow
def test_loose_registrations_show_the_definition(model: FlameModel, template: Template) -> None:
    embedding, truth = embedding_of(template), definition(template)
    scans = []
    for seed in range(8):
        scan = make_scan(model, 40 + seed).scan
        marks = np.array(scan.landmarks_mm)
        marks[embedding.indices_68] += truth
        scans.append(replace(scan, landmarks_mm=marks))
    loose = [loose_calibration(embedding, "ibug68")] * len(scans)
    found = register(scans, model, RegistrationOptions(), calibrations=loose)
    calibration = estimate(template.model, "ibug68", observe(template, scans, found))
    ends = np.isin(embedding.indices_68, [17, 26])
    inside = embedding.indices_68 >= 17
    error = np.linalg.norm(calibration.offset_mm - truth, axis=1)
    assert error[ends].max() < 2.5 and error[inside & ~ends].mean() < 0.6
