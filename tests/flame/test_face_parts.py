"""The parts of a face on the stand-in, FLAME, and another topology."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from pipeline.flame.assets import load_model
from pipeline.flame.face_parts import FaceParts, face_parts
from pipeline.flame.model import NO_PART, PARTS, FlameModel, LandmarkEmbedding
from pipeline.flame.named import STAND_IN
from pipeline.flame.regions import complete_regions
from pipeline.geometry.mesh import edge_uses, joined
from pipeline.landmarks.check import average_face
from pipeline.types import Array
from tests.simulated import coarse_head

CORNERS = np.eye(3)
SEEN = {
    # cm² that a photo shows of each from the front, about half and twice what adults' faces
    # measure: eye openings 30 × 10 mm as an ellipse, brows 50 × 9, upper lip 50 × 8 and lower
    # 50 × 10 as half ellipses (Farkas 1994), noses 50 × 35 as triangles with wings
    "left_eye": (1.2, 4.0),
    "left_brow": (2.5, 7.0),
    "upper_lip": (1.3, 6.0),
    "lower_lip": (1.6, 7.5),
    "nose": (10.0, 30.0),
    "skin": (110.0, 300.0),
}


def stand_in(_: Path) -> FlameModel:
    return load_model(STAND_IN)


def flame(shared: Path) -> FlameModel:
    folder = shared / "flame"
    return load_model(
        folder / "head_template.obj", folder / "landmark_embedding.npy", folder / "FLAME_masks.pkl"
    )


def flame_ict(shared: Path) -> FlameModel:
    own = shared / "flame_ict" / "flame_ict.npz"
    folder = shared / "flame"
    return load_model(own, folder / "landmark_embedding.npy", folder / "FLAME_masks.pkl")


def ict(shared: Path) -> FlameModel:
    """Another topology, which has holes in place of eyes and no regions of its own."""
    found = np.load(shared / "ict" / "ict_facekit_light.npz")
    points, faces = found["neutral"] * 10.0, found["triangles"].astype(np.int64)
    corner = {int(v): i for i, v in reversed(list(enumerate(faces.ravel())))}
    at = np.array([corner[int(v)] for v in found["landmarks68"]])
    return bare_model("ict", points, faces, at)


def bare_model(name: str, points: Array, faces: Array, corners: Array) -> FlameModel:
    """A template with landmarks at the given corners of its triangles, row by row."""
    n = len(points)
    model = replace(
        load_model(STAND_IN),
        name=name,
        template_mm=points.astype(np.float64),
        faces=faces,
        shape_basis_mm=np.zeros((n, 3, 0)),
        expression_basis_mm=np.zeros((n, 3, 0)),
        pose_basis_mm=np.zeros((n, 3, 0)),
        joint_regressor=np.zeros((0, n)),
        weights=np.zeros((n, 0)),
        parents=np.zeros(0, np.int64),
        landmarks=LandmarkEmbedding(np.arange(68), corners // 3, CORNERS[corners % 3]),
        regions={},
    )
    return complete_regions(model)


def relief(_: Path) -> FlameModel:
    """A height field through the average face's landmarks: no mouth, no eyeballs, no sockets."""
    average = average_face()[0]
    x, y = np.meshgrid(np.arange(-80.0, 81, 2), np.arange(-125.0, 81, 2))
    flat = np.stack([x.ravel(), y.ravel()], axis=1)
    depth = RBFInterpolator(average[:, :2], average[:, 2], smoothing=10.0)(flat)
    points = np.column_stack([flat, depth])
    rows, columns = x.shape
    corner = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (
        own.ravel() for own in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:])
    )
    faces = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    first = {int(v): i for i, v in reversed(list(enumerate(faces.ravel())))}
    nearest = cKDTree(flat).query(average[:, :2])[1]
    at = np.array([first[int(v)] for v in nearest])
    return bare_model("relief", points, faces, at)


@cache
def found(make: Callable[[Path], FlameModel], shared: Path) -> tuple[FlameModel, FaceParts]:
    model = make(shared)
    return model, face_parts(model)


@pytest.fixture(params=["stand-in", "relief", "FLAME", "FLAME of ICT", "ICT"])
def case(request: pytest.FixtureRequest) -> tuple[FlameModel, FaceParts]:
    own = {"stand-in": stand_in, "relief": relief}
    if request.param in own:
        return found(own[request.param], Path())
    others = {"FLAME": flame, "FLAME of ICT": flame_ict, "ICT": ict}
    return found(others[request.param], request.getfixturevalue("shared_data"))


def marks(model: FlameModel) -> Array:
    assert model.landmarks is not None
    return model.landmarks.positions_68(model.template_mm, model.faces)


def samples(model: FlameModel, parts: FaceParts) -> tuple[Array, Array]:
    """(N,3) mm and (N,) labels of about one place a mm² of the outside, four a triangle at least,
    by what each stands for."""
    weights = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2]]) / 6
    triangles = np.repeat(np.arange(len(model.faces)), 4)
    where = np.tile(weights, (len(model.faces), 1))
    points = np.einsum("nk,nkd->nd", where, model.template_mm[model.faces[triangles]])
    return points, parts.at(triangles, where)


def area_cm2(model: FlameModel, parts: FaceParts, name: str) -> float:
    """Of what of a part is seen from the front, by parallel rays a millimetre apart."""
    import trimesh

    mesh = trimesh.Trimesh(model.template_mm, model.faces, process=False)
    x, y = np.meshgrid(np.arange(-100.0, 100), np.arange(*mesh.bounds[:, 1]))
    origins = np.stack([x.ravel(), y.ravel(), np.full(x.size, 400.0)], axis=1)
    triangle, _, hits = mesh.ray.intersects_id(
        origins, np.broadcast_to([0, 0, -1.0], origins.shape), False, return_locations=True
    )
    where = trimesh.triangles.points_to_barycentric(mesh.triangles[triangle], hits)
    return float((parts.at(triangle, where) == PARTS.index(name)).sum()) / 100


def expected(model: FlameModel) -> list[str]:
    return [name for name in PARTS if not (model.name == "ict" and name.endswith("eye"))]


def test_every_part_is_there_in_one_piece(case: tuple[FlameModel, FaceParts]) -> None:
    model, parts = case
    pairs = edge_uses(model.faces).of_two().T // 3
    assert [name for name in PARTS if len(parts.vertices[name])] == expected(model)
    for i in np.unique(parts.triangle_part[parts.triangle_part >= 0]):
        inside = parts.triangle_part == i
        piece = joined(pairs[inside[pairs].all(1)], len(inside))
        assert len(np.unique(piece[inside])) == 1, PARTS[i]


def test_no_part_has_holes(case: tuple[FlameModel, FaceParts]) -> None:
    """What a part surrounds is another part, the mouth, or a socket."""
    model, parts = case
    pairs = edge_uses(model.faces).of_two().T // 3
    corners = model.template_mm[model.faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    empty = parts.triangle_part == NO_PART
    piece = joined(pairs[empty[pairs].all(1)], len(empty))
    for own in np.unique(piece[empty]):
        inside = empty & (piece == own)
        border = pairs[inside[pairs[:, 0]] != inside[pairs[:, 1]]]
        around = set(parts.triangle_part[border].ravel()) - {NO_PART}
        assert len(around) != 1 or area[inside].sum() / 2 > 35


def test_left_and_right_are_the_subjects_and_mirror_images(
    case: tuple[FlameModel, FaceParts],
) -> None:
    model, parts = case
    for name in expected(model):
        if not name.startswith("left_"):
            continue
        left = model.template_mm[parts.vertices[name]]
        right = model.template_mm[parts.vertices[name.replace("left", "right")]]
        assert left[:, 0].min() > 0 > right[:, 0].max()
        # FLAME's mean face is up to 4 mm off symmetry, and its triangles at a brow 8 mm long
        gap = cKDTree(left).query(right * [-1, 1, 1])[0]
        assert np.quantile(gap, 0.9) < 4.0
        areas = [area_cm2(model, parts, name.replace("left", side)) for side in ("left", "right")]
        assert areas[0] == pytest.approx(areas[1], rel=0.08)


def test_the_stand_in_is_symmetric_place_by_place() -> None:
    model, parts = found(stand_in, Path())
    points, labels = samples(model, parts)
    mirror = np.array([1, 0, 3, 2, 4, 5, 6, 7, -1], np.int8)  # the last for NO_PART
    apart, other = cKDTree(points).query(points * [-1, 1, 1])
    same = apart < 0.01
    assert same.mean() > 0.75
    assert (labels[other] == mirror[labels])[same].mean() > 0.999


def test_sizes_are_those_of_faces(case: tuple[FlameModel, FaceParts]) -> None:
    model, parts = case
    areas = {name: area_cm2(model, parts, name) for name in SEEN}
    for name, (least, most) in SEEN.items():
        if name in expected(model):
            assert least < areas[name] < most, (name, areas)
    assert areas["lower_lip"] > 0.7 * areas["upper_lip"]


def test_lips_and_brows_end_where_their_landmarks_are(case: tuple[FlameModel, FaceParts]) -> None:
    model, parts = case
    points = marks(model)
    places, labels = samples(model, parts)
    outer = parts.outer[np.repeat(np.arange(len(model.faces)), 4)]
    for left, name in ((48, "upper_lip"), (22, "left_brow")):
        own = places[outer & (labels == PARTS.index(name))]
        ends = points[[left, 54 if left == 48 else 26]]
        assert abs(own[:, 0].min() - ends[0, 0]) < 5
        assert abs(own[:, 0].max() - ends[1, 0]) < 5
    triangle = model.landmarks.triangles if model.landmarks else np.zeros(0)
    on_brow = np.isin(model.landmarks.indices_68, range(17, 27)) if model.landmarks else None
    at = parts.at(triangle, model.landmarks.barycentric)[on_brow] if model.landmarks else None
    assert set(at.tolist()) == {PARTS.index("left_brow"), PARTS.index("right_brow")}


def test_landmarks_lie_on_their_parts(case: tuple[FlameModel, FaceParts]) -> None:
    model, parts = case
    assert model.landmarks is not None
    label = np.full(68, NO_PART)
    at = parts.at(model.landmarks.triangles, model.landmarks.barycentric)
    label[model.landmarks.indices_68] = at
    assert (label[27:36] == PARTS.index("nose")).all()
    assert (label[17:22] == PARTS.index("right_brow")).all()
    assert (label[22:27] == PARTS.index("left_brow")).all()
    if model.name == "relief":  # its mouth has no opening: inner landmarks are the same
        assert set(label[61:68]) <= {PARTS.index("upper_lip"), PARTS.index("lower_lip")}
    else:
        assert set(label[61:64]) == {PARTS.index("upper_lip")}
        assert set(label[65:68]) == {PARTS.index("lower_lip")}


def test_skin_ends_at_the_jaw_the_hairline_and_the_ears(case: tuple[FlameModel, FaceParts]) -> None:
    model, parts = case
    points, skin = marks(model), model.template_mm[parts.vertices["skin"]]
    face = points[27, 1] - points[8, 1]
    assert skin[:, 1].min() == pytest.approx(points[8, 1], abs=0.08 * face)
    # trichion to nasion is .51 to .63 of nasion to gnathion in Farkas's adults
    assert 0.45 * face < skin[:, 1].max() - points[27, 1] < 0.68 * face
    if {"left_ear", "neck"} <= model.regions.keys():
        ear = np.isin(model.regions["left_ear"], parts.vertices["skin"]).mean()
        neck = np.isin(model.regions["neck"], parts.vertices["skin"]).mean()
        assert ear < 0.1
        assert neck < 0.05


def test_an_eye_is_what_lids_may_show_of_the_eyeball(shared_data: Path) -> None:
    model, parts = found(flame, shared_data)
    eye = parts.vertices["left_eye"]
    assert np.isin(eye, model.regions["left_eyeball"]).all()
    assert 0.1 < len(eye) / len(model.regions["left_eyeball"]) < 0.6


def test_parts_are_regions_under_a_name_of_their_own() -> None:
    model = load_model(STAND_IN)
    parts = face_parts(model)
    assert {f"part_{name}" for name in PARTS} <= model.regions.keys()
    assert model.regions["part_nose"].tolist() == parts.vertices["nose"].tolist()
    assert model.regions["part_nose"].tolist() != model.regions["nose"].tolist()
    np.testing.assert_array_equal(model.triangle_part, parts.triangle_part)


def test_registrations_do_not_depend_on_parts() -> None:
    model = load_model(STAND_IN)
    without = {n: own for n, own in model.regions.items() if not n.startswith("part_")}
    assert replace(model, regions=without, triangle_part=None).contents_hash == model.contents_hash
    assert replace(model, regions={}).contents_hash != model.contents_hash


def test_a_template_without_landmarks_has_no_parts() -> None:
    bare = complete_regions(replace(load_model(STAND_IN), landmarks=None, regions={}))
    parts = face_parts(bare)
    assert (parts.triangle_part == NO_PART).all()
    assert not any(len(own) for own in parts.vertices.values())
    assert (parts.at(np.array([5, -1]), CORNERS[:2]) == NO_PART).all()
    assert bare.triangle_part is None
    assert not any(name.startswith("part_") for name in bare.regions)


@pytest.mark.filterwarnings("error")
def test_landmarks_of_a_coarse_template_may_share_a_vertex() -> None:
    points, faces, nearest = coarse_head()
    assert len({*nearest[22:27].tolist()}) < 5  # two of a brow's
    corner = {vertex: i for i, vertex in reversed([*enumerate(faces.ravel().tolist())])}
    model = bare_model("coarse", points, faces, np.array([corner[v] for v in nearest.tolist()]))
    found = model.regions.keys()
    assert {"part_nose", "part_skin", "part_upper_lip", "part_lower_lip"} <= found
    at_one_place = nearest.copy()
    at_one_place[17:22] = nearest[19]
    bare_model("brow", points, faces, np.array([corner[v] for v in at_one_place.tolist()]))


def test_the_contour_is_taken_from_the_average_face_if_it_is_missing(shared_data: Path) -> None:
    """FLAME's static embedding has the 51 inner points alone."""
    model, parts = found(flame, shared_data)
    assert model.landmarks is not None
    inner = model.landmarks.indices_68 >= 17
    own = LandmarkEmbedding(*(array[inner] for array in vars(model.landmarks).values()))
    fewer = face_parts(replace(model, landmarks=own))
    same = fewer.triangle_part == parts.triangle_part
    assert same[parts.triangle_part != PARTS.index("skin")].mean() > 0.97
    skin = fewer.triangle_part == PARTS.index("skin")
    both = skin & (parts.triangle_part == PARTS.index("skin"))
    assert both.sum() / (skin | (parts.triangle_part == PARTS.index("skin"))).sum() > 0.9
