"""The stand-in keeps FLAME's layout and is a plausible, movable human head."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.flame.stand_in import EXPRESSION_NAMES, stand_in, stand_in_domain
from pipeline.types import Array

HEAD, BALL = 3931, 546


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


def landmarks(model: FlameModel) -> LandmarkEmbedding:
    assert model.landmarks is not None
    return model.landmarks


def normals(vertices: Array, faces: Array) -> Array:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def directed_edges(faces: Array) -> Array:
    return faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def jaw_opened(model: FlameModel, radians: float) -> Array:
    """The template with the jaw turned about its joint: correctives, then blended skinning."""
    turn = Rotation.from_rotvec([radians, 0, 0]).as_matrix()
    features = np.zeros(36)
    features[9:18] = (turn - np.eye(3)).ravel()
    v = model.template_mm + model.pose_basis_mm @ features
    joint = model.joint_regressor[2] @ model.template_mm
    jaw = model.weights[:, 2:3]
    return v + jaw * ((v - joint) @ turn.T + joint - v)


def test_layout_is_flames_and_it_says_what_it_is(model: FlameModel) -> None:
    assert model.name == "stand-in" and model.is_stand_in
    assert "stand-in" in (sys.modules["pipeline.flame.stand_in"].__doc__ or "")
    assert {name: a.shape for name, a in model.arrays().items()} == {
        "template_mm": (5023, 3),
        "faces": (9976, 3),
        "shape_basis_mm": (5023, 3, 300),
        "expression_basis_mm": (5023, 3, 100),
        "pose_basis_mm": (5023, 3, 36),
        "joint_regressor": (5, 5023),
        "weights": (5023, 5),
        "parents": (5,),
    }
    assert model.parents.tolist() == [-1, 0, 1, 1, 1]
    np.testing.assert_allclose(model.weights.sum(1), 1, atol=1e-8)
    np.testing.assert_allclose(model.joint_regressor.sum(1), 1, atol=1e-6)
    assert model.weights.min() >= 0
    assert np.abs(model.pose_basis_mm).max() > 0.5


def test_head_is_a_disc_and_eyeballs_are_closed(model: FlameModel) -> None:
    faces = model.faces
    directed = directed_edges(faces)
    assert len(np.unique(directed, axis=0)) == len(directed)  # manifold, one winding
    codes = directed[:, 0] * 5023 + directed[:, 1]
    rim = directed[~np.isin(codes, directed[:, 1] * 5023 + directed[:, 0])]
    assert len(rim) == 60
    assert set(rim.ravel()) == set(model.regions["boundary"])
    loop = dict(rim.tolist())
    at, steps = rim[0, 0], 0
    while steps == 0 or at != rim[0, 0]:
        at, steps = loop[at], steps + 1
    assert steps == 60  # one loop, not several
    graph = coo_array((np.ones(len(directed)), directed.T), shape=(5023, 5023))
    count, label = connected_components(graph)
    assert count == 3
    assert np.bincount(label).tolist() == [HEAD, BALL, BALL]
    for k in (0, 1):
        ball = np.arange(HEAD + k * BALL, HEAD + (k + 1) * BALL)
        of_ball = faces[np.isin(faces, ball).all(1)]
        v, e, f = BALL, len(directed_edges(of_ball)) // 2, len(of_ball)
        assert (f, v - e + f) == (1088, 2)


def test_triangles_are_wound_outward_and_not_degenerate(model: FlameModel) -> None:
    v, faces = model.template_mm, model.faces
    n = normals(v, faces)
    assert np.linalg.norm(n, axis=1).min() / 2 > 0.05  # mm²
    for ball in ("left_eyeball", "right_eyeball"):
        of_ball = np.isin(faces, model.regions[ball]).all(1)
        out = v[faces[of_ball]].mean(1) - v[model.regions[ball]].mean(0)
        assert ((n[of_ball] * out).sum(1) > 0).all()
    scalp = np.isin(faces, model.regions["scalp"]).all(1)
    assert ((n[scalp] * (v[faces[scalp]].mean(1) - [0, 20, -10])).sum(1) > 0).all()
    forehead = np.isin(faces, model.regions["forehead"]).all(1)
    assert (n[forehead, 2] > 0).mean() > 0.99


@pytest.mark.parametrize("yaw", [0, 40, 90, 140, 180])
def test_from_outside_only_outer_sides_are_seen(model: FlameModel, yaw: float) -> None:
    mesh = trimesh.Trimesh(model.template_mm, model.faces, process=False)
    turn = Rotation.from_euler("y", yaw, degrees=True)
    across = np.stack(np.meshgrid(np.arange(-110, 110, 1.5), np.arange(-120, 115, 1.5)), -1)
    origins = turn.apply(np.insert(across.reshape(-1, 2), 2, 300.0, axis=1))
    towards = turn.apply([0, 0, -1.0])
    first = mesh.ray.intersects_first(origins, np.broadcast_to(towards, origins.shape))
    facing = normals(model.template_mm, model.faces)[first[first >= 0]] @ towards
    assert len(facing) > 10_000
    assert (facing < 0).mean() > 0.9995


def test_the_domain_lifts_the_same_triangles(model: FlameModel) -> None:
    disc = stand_in_domain()
    assert disc.shape == (HEAD, 2)
    assert np.hypot(*disc.T).max() <= 1 + 1e-12
    a, b, c = (disc[model.faces[:7800, k]] for k in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert area.min() > 0
    rim = disc[model.regions["boundary"]]
    angle = np.sort(np.arctan2(rim[:, 1], rim[:, 0]))
    polygon = 0.5 * np.sin(np.diff(angle, append=angle[0] + 2 * np.pi)).sum()
    assert area.sum() / 2 == pytest.approx(polygon, rel=1e-9)  # covers the disc once


def test_template_is_symmetric_and_of_human_size(model: FlameModel) -> None:
    v = model.template_mm
    mirrored = v * [-1, 1, 1]
    order, other = np.lexsort(np.round(v, 4).T), np.lexsort(np.round(mirrored, 4).T)
    np.testing.assert_allclose(v[order], mirrored[other], atol=1e-4)
    marks = landmarks(model).positions(v, model.faces)
    assert 85 < np.linalg.norm(marks[36] - marks[45]) < 95
    width, length = np.ptp(v[model.regions["scalp"]], axis=0)[[0, 2]]
    assert 140 < width < 160
    assert 175 < v[:, 2].max() - v[:, 2].min() < 225 and 150 < length < 200
    assert 55 < np.ptp(v[model.regions["left_ear"]][:, 1]) < 68
    assert v[model.regions["left_ear"], 0].max() > v[model.regions["scalp"], 0].max() + 5
    for side, ball in ((1, "left_eyeball"), (-1, "right_eyeball")):
        assert np.sign(v[model.regions[ball], 0].mean()) == side


def test_landmarks_lie_where_ibug_puts_them(model: FlameModel) -> None:
    embedding = landmarks(model)
    np.testing.assert_array_equal(embedding.indices_68, np.arange(68))
    np.testing.assert_allclose(embedding.barycentric.sum(1), 1)
    assert embedding.barycentric.min() >= 0
    m = embedding.positions(model.template_mm, model.faces)
    mirror = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    np.testing.assert_allclose(m[mirror], m * [-1, 1, 1], atol=0.2)
    assert (np.diff(m[:17, 0]) > 0).all()  # the subject's right ear to the left one
    assert m[:, 1].argmin() == 8 and m[:, 2].argmax() == 30  # chin lowest, nose tip foremost
    assert (np.diff(m[17:27, 0]) > 0).all()
    assert (np.diff(m[27:31, 1]) < 0).all() and (np.diff(m[27:31, 2]) > 0).all()
    assert m[36, 0] < m[39, 0] < 0 < m[42, 0] < m[45, 0]
    assert (m[[37, 38], 1] > m[[41, 40], 1] + 5).all()  # upper over lower lid
    assert (m[17:22, 1] > m[36:42, 1].max()).all()  # brows over eyes
    assert m[33, 1] > m[51, 1] > m[62, 1] > m[66, 1] > m[57, 1] > m[8, 1]
    assert np.linalg.norm(m[62] - m[66]) < 2  # the mouth is closed


def test_eyeballs_fill_the_openings_of_the_lids(model: FlameModel) -> None:
    v = model.template_mm
    marks = landmarks(model).positions(v, model.faces)
    ball = v[model.regions["left_eyeball"]]
    centre, radius = ball.mean(0), 12.5
    np.testing.assert_allclose(np.linalg.norm(ball - centre, axis=1), radius, atol=1e-3)
    lids = np.linalg.norm(marks[[43, 44, 46, 47]] - centre, axis=1)
    assert (lids > radius).all() and (lids < radius + 3).all()
    np.testing.assert_allclose(model.joint_regressor[3] @ v, centre, atol=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_random_identities_are_plausible(model: FlameModel, seed: int) -> None:
    shape = np.random.default_rng(seed).standard_normal(300)
    moved = model.shape_basis_mm @ shape
    before, after = (
        normals(v, model.faces) for v in (model.template_mm, model.template_mm + moved)
    )
    assert ((before * after).sum(1) > 0).mean() > 0.999
    face = moved[model.regions["face"]]
    assert 1.0 < np.sqrt((face**2).sum(1).mean()) < 6.0
    for ball in ("left_eyeball", "right_eyeball"):  # eyeballs stay spheres
        np.testing.assert_allclose(np.ptp(moved[model.regions[ball]], axis=0), 0, atol=0.01)


def test_identities_vary_by_two_to_four_millimetres(model: FlameModel) -> None:
    face = model.shape_basis_mm[model.regions["face"]]
    assert 2.0 < np.sqrt((face**2).sum((1, 2)).mean()) < 4.0


def test_shape_basis_is_orthogonal_and_sorted(model: FlameModel) -> None:
    basis = model.shape_basis_mm.reshape(-1, 300)
    gram = basis.T @ basis
    deviation = np.sqrt(np.diag(gram))
    assert (np.diff(deviation) <= 1e-3 * deviation[:-1]).all()
    assert deviation[-1] > 5e-4 * deviation[0]
    cosine = gram / np.outer(deviation, deviation)
    assert np.abs(cosine - np.eye(300)).max() < 2e-3


def test_the_jaw_opens_the_mouth_and_nothing_above(model: FlameModel) -> None:
    v, opened = model.template_mm, jaw_opened(model, 0.3)
    before, after = (landmarks(model).positions(x, model.faces) for x in (v, opened))
    assert before[62, 1] - before[66, 1] < 2
    assert after[62, 1] - after[66, 1] > 15
    moved = np.linalg.norm(opened - v, axis=1)
    for still in ("forehead", "eyeballs", "left_eye_region", "right_eye_region"):
        assert moved[model.regions[still]].max() < 1e-6, still
    assert moved[v[:, 1] > 20].max() < 1e-6
    assert moved[model.regions["chin"]].min() > 15
    assert moved[model.regions["nose"]].max() < 1.5


def test_named_expressions_do_what_they_say(model: FlameModel) -> None:
    def with_expression(name: str) -> Array:
        moved = model.expression_basis_mm[..., EXPRESSION_NAMES.index(name)]
        return landmarks(model).positions(model.template_mm + 2 * moved, model.faces)

    rest = landmarks(model).positions(model.template_mm, model.faces)
    smile = with_expression("smile") - rest
    assert (smile[[48, 54], 1] > 3).all() and smile[48, 0] < -3 and smile[54, 0] > 3
    assert (with_expression("frown")[[48, 54], 1] < rest[[48, 54], 1] - 2).all()
    jaw = with_expression("open jaw")
    assert jaw[62, 1] - jaw[66, 1] > 8
    pucker = with_expression("pucker")
    assert pucker[54, 0] - pucker[48, 0] < rest[54, 0] - rest[48, 0] - 4
    for side, upper, lower, others in (
        ("left", [43, 44], [47, 46], [37, 38, 40, 41]),
        ("right", [37, 38], [41, 40], [43, 44, 46, 47]),
    ):
        blink = with_expression(f"blink {side}")
        assert (np.abs(blink[upper, 1] - blink[lower, 1]) < 2.5).all()
        np.testing.assert_allclose(blink[others], rest[others], atol=1e-6)
    assert (with_expression("brows up")[17:27, 1] > rest[17:27, 1] + 1).all()


def test_regions_are_what_their_names_say(model: FlameModel) -> None:
    r = {name: set(index.tolist()) for name, index in model.regions.items()}
    for part in ("forehead", "nose", "lips", "chin", "cheeks", "jaw"):
        assert r[part] and r[part] <= r["face"], part
    for other in ("eyeballs", "mouth_interior", "scalp", "neck", "left_ear", "right_ear"):
        assert r[other] and not r[other] & r["face"], other
    assert r["eyeballs"] == r["left_eyeball"] | r["right_eyeball"]
    assert len(r["left_ear"]) == len(r["right_ear"]) > 200
    marks = model.faces[landmarks(model).triangles[17:]]
    on_face = [bool(set(t) & (r["face"] | r["mouth_interior"])) for t in marks.tolist()]
    assert all(on_face)


def test_another_process_builds_the_same_bits(model: FlameModel) -> None:
    """With other threads and, where OpenBLAS is used, the kernels of another processor."""
    code = "from pipeline.flame.stand_in import stand_in; print(stand_in().digest)"
    other = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Prescott"}
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, env=other, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == model.digest
