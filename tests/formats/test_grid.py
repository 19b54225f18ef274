"""Range images: what a perspective camera sees, near and far, at a slant, with holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FormatError
from pipeline.formats.grid import MAX_PIXELS, grid_scan, refuse_size
from pipeline.types import RawScan

FOCAL = 600.0
IMAGE = Path("image")


def seen(depth: np.ndarray, camera_side: float = 1.0) -> RawScan:
    """The scan of a pinhole at the origin that looks along −z, or along +z."""
    v, u = np.indices(depth.shape)
    x, y = (u - 40) / FOCAL * depth, (v - 30) / FOCAL * depth
    points = np.stack([x, -y, -camera_side * depth], axis=-1)
    return grid_scan(IMAGE, points, np.isfinite(depth), camera_side=camera_side)


def test_a_small_jump_in_front_of_a_far_wall() -> None:
    """Most pixels lie on the wall, five times as far apart as the jump's own."""
    depth = np.full((60, 80), 3000.0)
    depth[20:40, 20:60] = 600
    depth[20:40, 40:60] = 615
    scan = seen(depth)
    corners = -scan.vertices[scan.faces][:, :, 2]
    assert (corners == corners[:, :1]).all()
    # two corners of the front plane leave a triangle of their cell to the wall
    assert len(scan.faces) == 2 * (2 * 19 * 19 + (59 * 79 - 21 * 41)) + 2


@pytest.mark.parametrize("degrees", [0, 45, 75])
def test_a_cheek_at_a_slant_stays_whole(degrees: float) -> None:
    """A plane turned about the upright axis, ray by ray."""
    across = (np.arange(80) - 40) / FOCAL
    depth = 600 / (1 + across * np.tan(np.radians(degrees)))
    assert len(seen(np.tile(depth, (60, 1))).faces) == 2 * 59 * 79


@pytest.mark.parametrize("camera_side", [1.0, -1.0])
def test_triangles_face_the_camera(camera_side: float) -> None:
    scan = seen(np.full((5, 6), 600.0), camera_side)
    a, b, c = (scan.vertices[scan.faces[:, k]] for k in range(3))
    assert (camera_side * np.cross(b - a, c - a)[:, 2] > 0).all()


def test_pixels_are_columns_and_rows() -> None:
    depth = np.full((4, 5), 600.0)
    depth[1, 2] = np.nan
    scan = seen(depth)
    assert scan.pixels is not None and len(scan.pixels) == 19
    assert scan.pixels[:8].tolist() == [
        [0, 0],
        [1, 0],
        [2, 0],
        [3, 0],
        [4, 0],
        [0, 1],
        [1, 1],
        [3, 1],
    ]
    x = (scan.pixels[:, 0] - 40) / FOCAL * 600
    np.testing.assert_allclose(scan.vertices[:, 0], x, rtol=1e-6)


def test_one_row_of_pixels_has_no_triangles() -> None:
    assert seen(np.full((1, 6), 600.0)).faces.shape == (0, 3)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (MAX_PIXELS, 2), (10**9, 10**9)])
def test_sizes_no_camera_has(shape: tuple[int, int]) -> None:
    with pytest.raises(FormatError, match=f"{shape[0]} rows · {shape[1]} columns"):
        refuse_size(IMAGE, *shape)
