from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from pipeline.geometry.sections import SectionPlanes, depth_profiles

ROWS = torch.arange(-10.0, 10.1, 0.5, dtype=torch.float64)
UP, OUT = torch.tensor([0.0, 1.0, 0.0]).double(), torch.tensor([0.0, 0.0, 1.0]).double()


def sphere(radius: float, centre: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    ball = trimesh.creation.icosphere(subdivisions=5, radius=radius)
    vertices = torch.as_tensor(np.asarray(ball.vertices) + np.asarray(centre))
    return vertices, torch.as_tensor(np.asarray(ball.faces, np.int64))


def planes(*origins: tuple[float, float, float]) -> SectionPlanes:
    return SectionPlanes(torch.tensor(origins, dtype=torch.float64), UP, OUT)


def test_a_sphere_shows_its_front_at_every_height() -> None:
    found = depth_profiles(*sphere(8.0, (0, 0, 0)), planes((0.1, 0, 0), (3.0, 2.0, -1.0)), ROWS, 25)
    for profile, (x, y, z) in zip(found, ((0.1, 0, 0), (3.0, 2.0, -1.0)), strict=True):
        square = 64 - x**2 - (ROWS + y) ** 2
        inside = square > 1.0
        np.testing.assert_allclose(profile[inside], square[inside].sqrt() - z, atol=0.03)
        assert profile[square < -0.5].isnan().all()


def test_the_foremost_of_two_surfaces_is_seen() -> None:
    near, far = sphere(4.0, (0, 0, 6)), sphere(9.0, (0, 0, -5))
    vertices = torch.cat([near[0], far[0]])
    faces = torch.cat([near[1], far[1] + len(near[0])])
    found = depth_profiles(vertices, faces, planes((0.1, 0, 0)), ROWS, 25.0)[0]
    at = ROWS.tolist()
    assert found[at.index(0.0)] == pytest.approx(10.0, abs=0.03)
    assert found[at.index(6.0)] == pytest.approx(np.sqrt(81 - 36) - 5, abs=0.03)


def test_what_looks_away_or_lies_beyond_the_reach_is_not_seen() -> None:
    vertices, faces = sphere(8.0, (0, 0, 0))
    turned = depth_profiles(vertices, faces.flip(1), planes((0.1, 0, 0)), ROWS, 25.0)[0]
    # inside out, the far side is what faces the viewer
    assert turned[20] == pytest.approx(-8.0, abs=0.03)
    assert depth_profiles(vertices, faces, planes((0.1, 0, 60.0)), ROWS, 25.0).isnan().all()


def test_a_point_cloud_shows_nothing() -> None:
    vertices, faces = sphere(8.0, (0, 0, 0))
    assert depth_profiles(vertices, faces[:0], planes((0.1, 0, 0)), ROWS, 25.0).isnan().all()
