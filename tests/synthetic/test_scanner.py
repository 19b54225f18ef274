"""The scanner against facts of geometry."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pipeline.flame.model import FlameModel
from pipeline.geometry.closest import SurfaceIndex
from pipeline.synthetic.delivery import Cast
from pipeline.synthetic.people import Pose
from pipeline.synthetic.range_images import DISTANCE_MM, range_image, supported
from pipeline.synthetic.scanner import (
    camera_directions,
    fan_triangles,
    ring_support,
    scan_head,
    vertex_rings,
    visible_vertices,
)


@pytest.fixture(scope="module")
def posed(cast: Cast) -> Pose:
    return cast.pose(0, np.random.default_rng(0), "open")


def test_rings_of_a_closed_surface_are_complete_and_in_order() -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    rings = vertex_rings(ball.faces, len(ball.vertices))
    assert (rings.valence == np.bincount(ball.faces.ravel())).all()
    fan = fan_triangles(rings, len(ball.faces))
    points = np.concatenate([ball.triangles_center, ball.vertices])
    remeshed = trimesh.Trimesh(points, fan, process=False)
    assert remeshed.is_watertight and remeshed.is_winding_consistent
    assert len(fan) == 3 * len(ball.faces)
    assert remeshed.volume == pytest.approx(ball.volume, rel=0.02)


def test_vertices_of_a_border_have_no_ring() -> None:
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1], [1, 5, 2]])
    rings = vertex_rings(faces, 7)
    assert rings.valence.tolist() == [4, 0, 0, 0, 0, 0, 0]
    recorded = np.ones(len(faces) + 7, dtype=bool)
    assert ring_support(rings, len(faces), recorded).tolist() == [True] + [False] * 6
    recorded[2] = False
    assert not ring_support(rings, len(faces), recorded).any()


def test_what_lies_inside_another_surface_is_not_seen() -> None:
    outer = trimesh.creation.icosphere(subdivisions=3, radius=100.0)
    inner = trimesh.creation.icosphere(subdivisions=2, radius=60.0)
    both = trimesh.util.concatenate([outer, inner])
    seen = visible_vertices(both.vertices, both.faces, camera_directions(back=True))
    n = len(outer.vertices)
    assert seen[:n][outer.vertices[:, 1] > -60].all()
    assert not seen[n:].any()


def test_cameras_in_front_do_not_see_the_back() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=100.0)
    seen = visible_vertices(ball.vertices, ball.faces, camera_directions(back=False))
    assert seen[ball.vertices[:, 2] > 50].all()
    assert not seen[ball.vertices[:, 2] < -70].any()


def test_without_noise_vertices_lie_on_the_truth_but_on_none_of_its_vertices(
    cast: Cast, posed: Pose, model: FlameModel
) -> None:
    truth = posed.vertices_mm
    scan = scan_head(
        model, cast.rings, truth, np.random.default_rng(1), noise_mm=0.0, holes=3, polygons=False
    )
    assert SurfaceIndex(truth, model.faces).query(scan.vertices_mm).distance.max() < 1e-6
    points_only = SurfaceIndex(truth, np.zeros((0, 3), dtype=np.int64))
    assert points_only.query(scan.vertices_mm).distance.min() > 1e-3
    outward = trimesh.Trimesh(scan.vertices_mm, scan.faces, process=False).face_normals
    on = SurfaceIndex(truth, model.faces).query(scan.vertices_mm[scan.faces].mean(axis=1))
    true_normals = trimesh.Trimesh(truth, model.faces, process=False).face_normals[on.triangle]
    assert (np.einsum("nd,nd->n", outward, true_normals) > 0).mean() > 0.97


def test_noise_stays_what_it_is_said_to_be(cast: Cast, posed: Pose, model: FlameModel) -> None:
    truth = posed.vertices_mm
    scan = scan_head(model, cast.rings, truth, np.random.default_rng(1), noise_mm=0.3)
    distance = SurfaceIndex(truth, model.faces).query(scan.vertices_mm).distance
    assert 0.2 < np.sqrt((distance**2).mean()) < 0.31
    assert distance.max() < 6 * 0.3


def test_supported_vertices_are_near_the_scan_and_others_far_or_at_its_border(
    cast: Cast, posed: Pose, model: FlameModel
) -> None:
    truth = posed.vertices_mm
    scan = scan_head(
        model,
        cast.rings,
        truth,
        np.random.default_rng(2),
        keep=lambda template: template[:, 0] > 0,
        noise_mm=0.0,
        holes=6,
    )
    surface = SurfaceIndex(scan.vertices_mm, scan.faces)
    distance = surface.query(truth).distance
    assert distance[scan.supported].max() < 1.5
    assert not scan.supported[model.template_mm[:, 0] < 0].any()
    face = np.zeros(len(truth), dtype=bool)
    face[np.setdiff1d(model.regions["face"], model.regions["eyeballs"])] = True
    assert distance[face & scan.supported].max() < 1.0
    inside = face & (model.template_mm[:, 0] > 10)
    assert scan.supported[inside].mean() > 0.7
    assert scan.supported.any() and not scan.landmark_seen[36] and scan.landmark_seen[45]


def test_hair_hides_the_scalp(cast: Cast, posed: Pose, model: FlameModel) -> None:
    scan = scan_head(
        model,
        cast.rings,
        posed.vertices_mm,
        np.random.default_rng(3),
        growth_mm=lambda template: 8.0 * cast.frame.hair(template),
    )
    covered = cast.frame.hair(model.template_mm) > 0.2
    assert covered.sum() > 200
    assert not scan.supported[covered].any()
    assert cast.frame.hair(model.template_mm)[model.regions["nose"]].max() == 0


def test_a_range_image_supports_what_it_sees(posed: Pose, model: FlameModel) -> None:
    vertices = posed.vertices_mm - [0.0, 0.0, DISTANCE_MM]
    pose = Pose(posed.person, posed.expression, posed.pose, vertices)
    image = range_image(vertices, model.faces)
    shown = supported(image, pose)
    assert shown[model.regions["face"]].mean() > 0.6
    assert not shown[model.regions["mouth_interior"]].all()
    cloud = SurfaceIndex(image.points[image.valid], np.zeros((0, 3), dtype=np.int64))
    assert cloud.query(vertices[shown]).distance.max() < 4.0
    depth = image.points[..., 2][image.valid]
    assert depth.min() > -1200 and depth.max() < -800
    # the top of the picture is the top of the head
    rows = np.nonzero(image.valid.any(axis=1))[0]
    heights = image.points[..., 1]
    assert heights[rows[0]].max() > heights[rows[-1]].max()
    blind = image._replace(valid=np.zeros_like(image.valid))
    assert not supported(blind, pose).any()
