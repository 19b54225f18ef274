"""Masks and visibility of the stand-in before cameras, with occluders whose place is known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipeline.flame.assets import load_model
from pipeline.flame.face_parts import FaceParts, face_parts
from pipeline.flame.model import PARTS, FlameModel
from pipeline.flame.named import STAND_IN
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.masks import landmark_visibility, part_masks, shown, vertex_visibility
from pipeline.views.raycasting import Caster, prepare

PX, AWAY_MM = 224, 700.0
LIPS = [PARTS.index("upper_lip"), PARTS.index("lower_lip")]
EYES = [PARTS.index("left_eye"), PARTS.index("right_eye")]


@cache
def model() -> FlameModel:
    return load_model(STAND_IN)


@cache
def parts() -> FaceParts:
    return face_parts(model())


@cache
def head() -> Caster:
    return prepare(model().template_mm, model().faces)


def marks() -> Array:
    assert model().landmarks is not None
    return model().landmarks.positions_68(model().template_mm, model().faces)


def camera(yaw_deg: float = 0.0, pitch_deg: float = 0.0, height_mm: float = 220.0) -> Camera:
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    towards = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    rotation = np.stack([right, -np.cross(towards, right), -towards])
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ (marks()[30] + [0.0, 0.0, -40.0] + AWAY_MM * towards)
    focal = PX * AWAY_MM / height_mm
    middle = (PX - 1) / 2
    return Camera(np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]]), pose, PX, PX)


def box(middle: Array, size: tuple[float, float, float]) -> tuple[Array, Array]:
    mesh = trimesh.creation.box(size)
    return mesh.vertices + middle, mesh.faces


def scan_with(*more: tuple[Array, Array], shift_mm: float = 0.0) -> Caster:
    """The stand-in, moved towards the viewer, as a scan with other things before it."""
    vertices, faces, n = [model().template_mm + np.array([0, 0, shift_mm])], [model().faces], 5023
    for points, triangles in more:
        vertices.append(points)
        faces.append(triangles + n)
        n += len(points)
    return prepare(np.concatenate(vertices), np.concatenate(faces))


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (40, 0), (-75, 0), (0, 30), (0, -30)])
def test_a_scan_that_is_the_mesh_hides_nothing(yaw: float, pitch: float) -> None:
    before = camera(yaw, pitch)
    alone = part_masks(shown(before, head()), parts())
    for holes_hide in (False, True):
        seen = shown(before, head(), scan_with().seen(before), holes_hide)
        np.testing.assert_array_equal(part_masks(seen, parts()), alone)
    assert alone.sum(axis=0).max() == 1
    assert alone[PARTS.index("skin")].sum() > 5_000


@pytest.mark.parametrize("yaw", [0.0, 50.0, 80.0])
def test_errors_of_the_registration_hide_nothing_at_grazing_angles_either(yaw: float) -> None:
    """Two millimetres towards the viewer, and so across the line of sight at the sides."""
    before = camera(yaw)
    alone = part_masks(shown(before, head()), parts())
    seen = shown(before, head(), scan_with(shift_mm=2.0).seen(before))
    np.testing.assert_array_equal(part_masks(seen, parts()), alone)
    farther = shown(before, head(), scan_with(shift_mm=8.0).seen(before))
    assert part_masks(farther, parts()).sum() < 0.7 * alone.sum()


def test_a_hand_before_the_mouth() -> None:
    before = camera()
    hand = box(marks()[[48, 54]].mean(0) + np.array([0, 0, 45.0]), (90.0, 60.0, 20.0))
    alone = part_masks(shown(before, head()), parts())
    assert alone[LIPS].sum(axis=(1, 2)).min() > 150
    seen = shown(before, head(), scan_with(hand).seen(before))
    masks = part_masks(seen, parts())
    only = prepare(*hand).seen(before).hit.reshape(PX, PX)
    np.testing.assert_array_equal(masks, alone & ~only)
    assert masks[LIPS].sum() == 0
    np.testing.assert_array_equal(masks[EYES], alone[EYES])
    visible = landmark_visibility(seen, marks())
    assert not visible[48:].any()
    assert visible[36:48].all()
    vertices = vertex_visibility(seen)
    assert not vertices[parts().vertices["lower_lip"]].any()
    assert vertices[parts().vertices["left_brow"]].all()


def test_a_hole_of_the_scan_is_face_in_a_photo_and_none_in_a_render() -> None:
    before = camera()
    middle = model().template_mm[model().faces].mean(axis=1)
    kept = np.linalg.norm(middle - marks()[[42, 45]].mean(0), axis=1) > 25
    scan = prepare(model().template_mm, model().faces[kept])
    alone = part_masks(shown(before, head()), parts())
    left, right = EYES
    photo = shown(before, head(), scan.seen(before))
    np.testing.assert_array_equal(part_masks(photo, parts()), alone)
    assert landmark_visibility(photo, marks())[42:48].all()
    render = shown(before, head(), scan.seen(before), holes_hide=True)
    masks = part_masks(render, parts())
    assert masks[left].sum() == 0
    np.testing.assert_array_equal(masks[right], alone[right])
    assert not landmark_visibility(render, marks())[42:48].any()


def test_shut_eyes_show_a_line_at_most(shared_data: Path) -> None:
    """A model of ICT-FaceKit's faces on FLAME's topology blinks, winks and opens its jaw."""
    flame, ict = shared_data / "flame", np.load(shared_data / "ict" / "ict_facekit_light.npz")
    own = load_model(
        shared_data / "flame_ict" / "flame_ict.npz",
        flame / "landmark_embedding.npy",
        flame / "FLAME_masks.pkl",
    )
    names = [str(name) for name in ict["expression_names"]]
    before = camera()

    def areas(*wanted: str) -> Array:
        weights = np.isin(names, wanted).astype(float)
        moved = own.template_mm + own.expression_basis_mm @ weights
        moved -= [0.0, 40.0, 10.0]  # to where the stand-in's face is
        seen = shown(before, prepare(moved, own.faces))
        return part_masks(seen, face_parts(own)).sum(axis=(1, 2))

    rest, shut, wink = areas(), areas("eyeBlink_L", "eyeBlink_R"), areas("eyeBlink_R")
    left, right = EYES
    assert rest[EYES].min() > 150
    assert (shut[EYES] < 0.15 * rest[EYES]).all()
    assert wink[right] == shut[right]
    assert wink[left] == rest[left]
    wide = areas("eyeWide_L", "eyeWide_R")
    assert (wide[EYES] > 1.1 * rest[EYES]).all()
    opened = areas("jawOpen")
    # lips stay lips, and what is between them is of no part
    assert (opened[LIPS] > 0.8 * rest[LIPS]).all()
    assert (opened[LIPS] < 1.8 * rest[LIPS]).all()


def test_sides_that_are_turned_away_are_not_seen() -> None:
    """From the subject's left the right half is hidden by the head itself."""
    seen = shown(camera(80.0), head())
    vertices, landmarks = vertex_visibility(seen), landmark_visibility(seen, marks())
    assert vertices[parts().vertices["left_brow"]].mean() > 0.9
    assert not vertices[parts().vertices["right_eye"]].any()
    assert landmarks[[42, 44, 45, 46, 54, 30]].all()
    assert not landmarks[[36, 37, 40, 41, 48, 0]].any()
    masks = part_masks(seen, parts())
    assert masks[PARTS.index("right_eye")].sum() == 0 < masks[PARTS.index("left_eye")].sum()


def test_a_visible_vertex_is_one_that_a_ray_reaches() -> None:
    """Against trimesh's own ray casting, away from outlines."""
    before = camera(30.0, 10.0)
    visible = vertex_visibility(shown(before, head()))
    mesh = trimesh.Trimesh(model().template_mm, model().faces, process=False)
    some = np.random.default_rng(1).choice(5023, 400, replace=False)
    to_camera = before.centre_mm - mesh.vertices[some]
    to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
    cosine = np.einsum("nd,nd->n", mesh.vertex_normals[some], to_camera)
    free = ~mesh.ray.intersects_any(mesh.vertices[some] + 0.1 * to_camera, to_camera)
    inside = ((before.project(mesh.vertices[some]) >= -0.5).all(1)) & (
        before.project(mesh.vertices[some]) < PX - 0.5
    ).all(1)
    sure = np.abs(cosine) > 0.1
    expected = free & (cosine > 0) & inside
    assert (visible[some] == expected)[sure].mean() > 0.995
    assert 0.1 < expected.mean() < 0.6


def test_what_is_outside_of_the_picture_is_not_visible() -> None:
    near = camera(height_mm=60.0)
    seen = shown(near, head())
    visible = landmark_visibility(seen, marks())
    inside = ((near.project(marks()) >= -0.5) & (near.project(marks()) < PX - 0.5)).all(1)
    assert not visible[~inside].any()
    assert visible[[30, 33]].all()
    assert not vertex_visibility(seen)[parts().vertices["left_brow"]].any()


def test_missing_landmarks_are_not_visible() -> None:
    some = marks()
    some[[3, 30]] = np.nan
    visible = landmark_visibility(shown(camera(), head()), some)
    assert not visible[[3, 30]].any()
    assert visible[[29, 33]].all()


def test_a_surface_seen_from_inside_is_of_no_part() -> None:
    inside_out = prepare(model().template_mm, model().faces[:, ::-1])
    assert part_masks(shown(camera(), head()), parts()).any()
    assert not part_masks(shown(camera(), inside_out), parts()).any()


def test_a_camera_that_sees_no_face() -> None:
    before = camera()
    behind = Camera(before.matrix_px, np.diag([1.0, 1, 1, 1]) @ before.canonical_to_camera, PX, PX)
    behind.canonical_to_camera[2, 3] = -5000.0
    seen = shown(behind, head(), scan_with().seen(behind))
    assert not part_masks(seen, parts()).any()
    assert not vertex_visibility(seen).any()
    assert not landmark_visibility(seen, marks()).any()
