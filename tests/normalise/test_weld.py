"""Seams are welded, and nothing that only lies near: real scans in pieces, and thin things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipeline.formats import read_scan
from pipeline.geometry.mesh import edge_uses
from pipeline.normalise import clean, normalise
from pipeline.normalise.weld import seams
from pipeline.types import Array, RawScan
from tests.normalise.pieces import cubes, grid, joined, soup


@pytest.fixture(scope="module")
def head(shared_data: Path) -> tuple[Array, Array]:
    raw = read_scan(shared_data / "scans" / "flame_fitting" / "scan.obj", "obj")
    return 1000 * raw.vertices, raw.faces


@pytest.fixture(scope="module")
def james(shared_data: Path) -> tuple[Array, Array]:
    raw = read_scan(shared_data / "scans" / "james" / "james.obj", "obj")
    return raw.vertices, raw.faces


@pytest.mark.parametrize("jitter", [0.0, 1e-4, 1e-2])
def test_a_head_in_cubes_is_one_surface(head: tuple[Array, Array], jitter: float) -> None:
    vertices, faces = cubes(*head, jitter)
    cleaned, whole = clean(vertices, faces), clean(*head)
    assert len(faces) == 94445 and len(vertices) > 51000
    assert len(whole.faces) == len(cleaned.faces) == 94441
    # one vertex of the border may stay twice
    assert abs(len(cleaned.vertices) - len(whole.vertices)) <= 1
    why = "vertices_welded" if jitter else "vertices_repeated"
    assert cleaned.left_out[why] > 3800 and "faces_clutter" not in cleaned.left_out


@pytest.mark.parametrize("jitter", [1e-4, 1e-2])
def test_a_face_as_soup_keeps_its_triangles(james: tuple[Array, Array], jitter: float) -> None:
    cleaned = clean(*soup(*james, jitter))
    whole = clean(*james)
    assert len(whole.faces) == 12180
    assert abs(len(cleaned.faces) - 12180) <= (0 if jitter < 1e-3 else 1)
    assert abs(len(cleaned.vertices) - len(whole.vertices)) <= 3


def test_the_unit_and_the_place_do_not_matter(james: tuple[Array, Array]) -> None:
    vertices, faces = soup(*james, 1e-4)
    for moved in (vertices / 1000, vertices / 25.4, vertices / 1000 + [665187, 5648349, 241]):
        assert len(clean(moved, faces).faces) == 12180


def test_a_surface_without_seams_stays_as_it_is(head: tuple[Array, Array]) -> None:
    ball = trimesh.creation.icosphere(subdivisions=4)
    for vertices, faces in ((ball.vertices, ball.faces), grid(30)):
        cleaned = clean(np.asarray(vertices), np.asarray(faces))
        assert cleaned.vertices is vertices or np.array_equal(cleaned.vertices, vertices)
        np.testing.assert_array_equal(cleaned.faces, faces)
        assert cleaned.left_out == {}
    assert "vertices_welded" not in clean(*head).left_out


def test_vertices_within_a_surface_are_never_joined() -> None:
    """However near: a needle of two vertices 1/1000 of an edge apart."""
    vertices, faces = grid(12)
    vertices[5 * 12 + 5] = vertices[5 * 12 + 6] - [0, 1e-3, 0]
    cleaned = clean(vertices, faces)
    assert len(cleaned.vertices) == len(vertices) and len(cleaned.faces) == len(faces)


@pytest.mark.parametrize("gap", [1e-6, 1e-3, 0.04])
def test_the_two_sides_of_something_thin_stay_apart(gap: float) -> None:
    """An ear's rim, as two sheets of one tessellation whose borders lie on each other."""
    vertices, faces = grid(20)
    sheets = joined((vertices, faces), (vertices + np.array((0, 0, gap)), faces[:, ::-1]))
    assert len(clean(*sheets).vertices) == 2 * len(vertices)


def test_lips_that_touch_stay_apart() -> None:
    """Two borders along each other, the vertices of one between those of the other."""
    upper, faces = grid(20)
    lower = upper * [1, -1, 1] + [0.5, -1e-3, 0]
    assert len(clean(*joined((upper, faces), (lower, faces[:, ::-1]))).vertices) == 2 * len(upper)


def test_a_slit_is_closed_where_its_edges_are_one() -> None:
    upper, faces = grid(20)
    lower = upper * [1, -1, 1] + np.random.default_rng(0).normal(0, 1e-4, upper.shape)
    cleaned = clean(*joined((upper, faces), (lower, faces[:, ::-1])))
    assert cleaned.left_out == {"vertices_welded": 20}
    assert len(cleaned.vertices) == 2 * len(upper) - 20


def test_a_seam_of_long_and_short_edges() -> None:
    """The tolerance is a border's own: coarse edges do not swallow what is fine beside them."""
    fine = grid(40, 0.01)
    coarse, faces = grid(6, 1.0)
    cleaned = clean(*joined(fine, (coarse + np.array((0.4, 0, 0)), faces)))
    assert len(cleaned.vertices) == len(fine[0]) + len(coarse)
    alone = seams(*fine, edge_uses(fine[1]))
    assert alone is None


@pytest.mark.slow
def test_a_head_in_cubes_registers_as_the_whole(head: tuple[Array, Array]) -> None:
    from pipeline.flame.stand_in import stand_in
    from pipeline.quality.assess import assess
    from pipeline.registration import register

    scan = normalise(RawScan(*cubes(*head, 1e-4)), scan_id="cubes", unit="mm", axes=None)
    (found,) = register([scan], stand_in())
    quality = assess(scan, found, stand_in())
    assert quality.verdict != "reject" and scan.left_out_share == 0, quality.reasons
    assert quality.coverage > 0.97 and quality.scan_to_mesh_mm["face"]["median"] < 0.09
