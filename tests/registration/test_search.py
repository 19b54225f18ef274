from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_scans import Truth, make_scan, without_landmarks
from scipy.spatial import cKDTree

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import rotation_matrices
from pipeline.registration.search import Face, chosen, search
from pipeline.registration.template import Template
from pipeline.types import Array

TURN = np.array([1.2, -1.9, 0.7])


@pytest.fixture(scope="module")
def turned(model: FlameModel) -> Truth:
    return make_scan(model, 4, turn=TURN)


def test_finds_any_pose_and_the_same_each_time(template: Template, turned: Truth) -> None:
    scan = without_landmarks(turned.scan, oriented=False)
    rotation, translation = search(template, scan)
    expected = rotation_matrices(torch.from_numpy(TURN))
    assert torch.linalg.matrix_norm(rotation - expected) < 0.25  # 10°
    again = search(template, scan)
    assert torch.equal(rotation, again[0]) and torch.equal(translation, again[1])


def test_declared_axes_are_believed(template: Template, turned: Truth) -> None:
    with pytest.raises(RegistrationError, match="test:4"):
        search(template, without_landmarks(turned.scan, oriented=True))


@pytest.mark.parametrize(
    ("residuals", "turns", "expected"),
    [
        ([0.5, 0.9], [0.0, 2.0], "no pose lays a face on it"),
        ([0.22, 0.20], [0.0, 2.0], "two poses fit about equally"),
        ([0.50, 0.20], [0.0, 2.0], 1),
        ([0.20, 0.21], [0.0, 0.05], 0),  # the same pose twice is no rival
    ],
)
def test_the_best_pose_must_fit_and_beat_every_other(
    turned: Truth, residuals: list[float], turns: list[float], expected: str | int
) -> None:
    points = np.random.default_rng(0).normal(scale=50, size=(200, 3))
    face = Face(points, points, np.zeros((200, 33)), cKDTree(points))
    axis_angle = torch.tensor([[0.0, turn, 0.0] for turn in turns], dtype=torch.float64)
    rotations: Array = rotation_matrices(axis_angle).numpy()
    arguments = (face, rotations, np.zeros((2, 3)), np.array(residuals))
    if isinstance(expected, str):
        with pytest.raises(RegistrationError, match=expected):
            chosen(turned.scan, *arguments)
    else:
        rotation, _ = chosen(turned.scan, *arguments)
        np.testing.assert_array_equal(rotation, rotations[expected])


def test_a_ball_is_no_face(template: Template, turned: Truth) -> None:
    ball = np.random.default_rng(0).normal(size=turned.scan.vertices_mm.shape)
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    scan = replace(
        without_landmarks(turned.scan, oriented=False),
        scan_id="ball",
        vertices_mm=90 * ball,
        normals=ball,
        faces=np.zeros((0, 3), np.int64),
    )
    with pytest.raises(RegistrationError, match="scan ball: no landmarks"):
        search(template, scan)
