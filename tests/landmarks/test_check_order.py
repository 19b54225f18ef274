"""Orders told from points alone: silent on real faces and on hundreds of made ones, loud on faults.

The ICT faces of the tests are new ones, not those the thresholds were measured on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.stand_in import stand_in
from pipeline.landmarks import read_landmarks
from pipeline.landmarks.check import CONTOUR_MM, MIN_POINTS, average_face, check_order
from pipeline.landmarks.schemes import CONTOUR_68, SCHEMES, to_68

CHECKED = [
    name
    for name, scheme in SCHEMES.items()
    if (scheme.indices_68 >= 0).sum() >= 7  # fewer cannot tell which of them is wrong
    and name not in ("florence68", "headspace68", "realy85")  # ibug68 under other names
]


def stand_in_marks(jaw: float, shape: np.ndarray | None = None) -> np.ndarray:
    """(68,3) mm landmarks of the stand-in, its jaw opened by `jaw` radians."""
    model = stand_in()
    pose = torch.zeros(1, 15, dtype=torch.float64)
    pose[0, 6] = jaw
    zero = torch.zeros(1, 3, dtype=torch.float64)
    coefficients = torch.zeros(1, 0) if shape is None else torch.as_tensor(shape[None])
    coefficients = coefficients.to(torch.float64)
    tensors = to_tensors(model, dtype=torch.float64)
    vertices = pose_vertices(tensors, coefficients, zero[:, :0], pose, zero)[0].numpy()
    assert model.landmarks is not None
    return model.landmarks.positions(vertices, model.faces)


def in_scheme(name: str, points_68: np.ndarray) -> np.ndarray:
    """The points of a scheme, NaN where they are no iBUG points."""
    indices = SCHEMES[name].indices_68
    return np.where(indices[:, None] >= 0, points_68[indices], np.nan)


def any_pose(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return points @ (turn * np.sign(np.linalg.det(turn))) + rng.normal(scale=300, size=3)


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """Twelve of the stand-in's people in any pose, every second one with an open jaw."""
    rng = np.random.default_rng(5)
    shapes = rng.normal(size=(12, 40))
    return [any_pose(stand_in_marks(0.5 * (i % 2), x), rng) for i, x in enumerate(shapes)]


def test_the_average_face_is_the_stand_in() -> None:
    """Drift: the table beside the check is what the stand-in gives today."""
    for written, jaw in zip(average_face(), (0.0, 0.5), strict=True):
        np.testing.assert_allclose(written, stand_in_marks(jaw), atol=0.06)


@pytest.mark.parametrize("name", CHECKED)
def test_right_landmarks_say_nothing(name: str, faces: list[np.ndarray]) -> None:
    for face in faces[:4]:
        points = in_scheme(name, face)
        assert check_order(name, points) == []
        assert check_order(name, points / 10) == [], "size is not judged here"
        points[::3] = np.nan
        assert check_order(name, points) == []


def test_real_scans_say_nothing(shared_data: Path) -> None:
    hand = read_landmarks(shared_data / "scans" / "flame_fitting" / "scan_lmks.npy", "npy").points
    labelled = read_landmarks(shared_data / "scans" / "james" / "james.ljson", "ljson").points
    assert hand is not None and labelled is not None
    assert check_order("ibug51", 1000 * hand) == []
    assert check_order("menpo68", labelled) == []
    assert "read as menpo68" in check_order("ibug68", labelled)[0]


@pytest.mark.parametrize("people", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_faces_with_strong_expressions_say_nothing(people: int, shared_data: Path) -> None:
    with np.load(shared_data / "ict" / "ict_facekit_light.npz") as ict:
        marks = ict["landmarks68"]
        neutral, identities, moves = (
            10 * ict[key].astype(np.float64)[..., marks, :]
            for key in ("neutral", "identity_modes", "expression_modes")
        )
        jaw = [str(name) for name in ict["expression_names"]].index("jawOpen")
    rng = np.random.default_rng(77)
    faults = []
    for i in range(people):
        weights = np.where(rng.random(len(moves)) < 0.06, rng.uniform(0.3, 1, len(moves)), 0)
        weights[jaw] = rng.uniform(0.5, 1) * (i % 2)
        face = neutral + np.tensordot(rng.normal(size=100), identities, 1)
        face = any_pose(face + np.tensordot(weights, moves, 1), rng)
        name = ("ibug68", "fg7", "bu83", "bosphorus22")[i % 4]
        faults += check_order(name, in_scheme(name, face))
    assert faults == []


@pytest.mark.parametrize("name", CHECKED)
def test_left_and_right_swapped(name: str, faces: list[np.ndarray]) -> None:
    for face in faces[:4]:
        points = in_scheme(name, face)
        for wrong in (points[SCHEMES[name].mirror], points * [1, 1, -1]):
            faults = check_order(name, wrong)
            assert len(faults) == 1 and faults[0].startswith("left and right are swapped, or the")


@pytest.mark.parametrize("name", CHECKED)
def test_shuffled(name: str, faces: list[np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    known = np.flatnonzero(SCHEMES[name].indices_68 >= 0)
    for face in faces:
        points = in_scheme(name, face)
        points[known] = points[rng.permutation(known)]
        assert check_order(name, points)


@pytest.mark.parametrize("name", CHECKED)
def test_one_point_60_mm_off_is_named(name: str, faces: list[np.ndarray]) -> None:
    rng = np.random.default_rng(4)
    scheme = SCHEMES[name]
    judged = np.flatnonzero(scheme.indices_68 >= len(CONTOUR_68))
    for face in faces:
        points = in_scheme(name, face)
        wrong = int(rng.choice(judged))
        push = rng.normal(size=3)
        points[wrong] += 60 * push / np.linalg.norm(push)
        (fault,) = check_order(name, points)
        words = f"{scheme.point_names[wrong]} lies "
        assert fault.startswith(words) and fault.endswith(" mm from where a face has it")
        assert 35 < float(fault.removeprefix(words).split()[0]) < 85


def test_contour_points_are_judged_more_mildly(faces: list[np.ndarray]) -> None:
    face = faces[0].copy()
    face[3] += 0.5 * CONTOUR_MM / np.sqrt(3)
    assert check_order("ibug68", face) == []
    face[3] += 1.5 * CONTOUR_MM
    assert [fault[:15] for fault in check_order("ibug68", face)] == ["right contour 4"]


def test_swapped_eyes_alone_are_named(faces: list[np.ndarray]) -> None:
    face = faces[2].copy()
    face[[36, 45]] = face[[45, 36]]
    (fault,) = check_order("ibug68", face)
    assert fault.startswith("right eye outer corner and left eye outer corner are swapped: ")


def bu_brows(face: np.ndarray) -> np.ndarray:
    """(20,3) plausible brows of a BU file: the upper edge of each outwards, the lower one back."""
    right, left = face[21:16:-1], face[22:27]
    thick = 4 * (face[27] - face[33]) / np.linalg.norm(face[27] - face[33])
    return np.concatenate([x for brow in (right, left) for x in (brow + thick, brow[::-1] - thick)])


def test_bu_files_read_in_the_order_of_bp4d(faces: list[np.ndarray]) -> None:
    for face in faces:
        bu, bp4d = in_scheme("bu83", face), in_scheme("bp4d83", face)
        bu[16:36] = bp4d[:20] = bu_brows(face)
        assert check_order("bu83", bu) == [] and check_order("bp4d83", bp4d) == []
        assert "read as bu83 they fit" in check_order("bp4d83", bu)[0]
        assert "read as bp4d83 they fit" in check_order("bu83", bp4d)[0]


def test_brows_and_eyes_in_another_order(faces: list[np.ndarray]) -> None:
    points = in_scheme("menpo68", faces[0])
    assert "read as menpo68 they fit" in check_order("ibug68", points)[0]


def test_too_few_points_and_one_place(faces: list[np.ndarray]) -> None:
    assert check_order("frgc4", np.zeros((4, 3))) == []
    points = in_scheme("fg7", faces[0])[::-1].copy()
    points[MIN_POINTS - 1 :] = np.nan
    assert check_order("fg7", points) == []
    assert check_order("fg7", np.zeros((7, 3))) == ["all 7 landmarks lie at one place"]
    np.testing.assert_array_equal(to_68("fg7", points)[:17], np.nan)
