"""Photos that are out of register with their range image are found out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from sampled_cameras import looking_at

from pipeline.errors import FacefoldError
from pipeline.flame.stand_in import stand_in
from pipeline.formats import read_scan
from pipeline.landmarks.ljson import read_ljson
from pipeline.landmarks.schemes import to_68
from pipeline.refusals import Code
from pipeline.synthetic.delivery import Cast
from pipeline.synthetic.paint import photograph
from pipeline.types import Array
from pipeline.views.camera import Camera
from pipeline.views.crops import crop_224
from pipeline.views.drift import FRONTAL, LIMIT_PX, drift, refuse_drift
from pipeline.views.photo_cameras import cosine_of_view, facing
from pipeline.views.photos import read_photo
from pipeline.views.raycasting import Caster, prepare

Shot = tuple[Array, Camera, Caster, Array]


def synthetic(number: int, yaw_deg: float = 10.0) -> Shot:
    """A painted person's crop, its camera, the mesh and its landmarks."""
    cast = Cast.of(stand_in(), 3)
    vertices = cast.pose(number, np.random.default_rng(number)).vertices_mm
    assert cast.model.landmarks is not None
    landmarks = cast.model.landmarks.positions_68(vertices, cast.model.faces)
    camera = looking_at(1200, 1500, 640, 640, yaw_deg, 5)
    skin = cast.skin_of(vertices)
    picture = photograph(skin, cast.painter, cast.complexion(number), camera)
    image, cropped = crop_224(picture, camera.project(landmarks), camera)
    return image, cropped, prepare(vertices, cast.model.faces), landmarks


def real(shared_data: Path, yaw_deg: float) -> Shot:
    """The same of a real scan with the photo that it was taken with."""
    raw = read_scan(shared_data / "scans" / "james" / "james.obj", "obj")
    marks = read_ljson(shared_data / "scans" / "james" / "james.ljson").points
    assert marks is not None and raw.uv is not None and raw.texture_path is not None
    middle = raw.vertices.mean(axis=0)
    vertices, landmarks = raw.vertices - middle, to_68("menpo68", marks) - middle
    texture = read_photo(raw.texture_path)
    camera = looking_at(1200, 1500, 640, 640, yaw_deg, target_mm=(0, 0, 0))
    caster = prepare(vertices, raw.faces)
    hits = caster.seen(camera)
    uv = np.einsum("nk,nkd->nd", hits.barycentric[hits.hit], raw.uv[hits.triangle[hits.hit]])
    place = ([0, 1] + uv * [1, -1]) * texture.shape[1::-1]
    column, row = place.astype(int).T
    picture = np.full((640 * 640, 3), 40, np.uint8)
    picture[hits.hit] = texture[row, column]
    image, cropped = crop_224(picture.reshape(640, 640, 3), camera.project(landmarks), camera)
    return image, cropped, caster, landmarks


SHIFTS = [(10, 0), (-10, 0), (0, 11), (-8, -8)]


@pytest.mark.parametrize("number", [0, 3])
def test_the_drift_of_a_painted_face_is_found(number: int) -> None:
    image, *rest = synthetic(number)
    in_place = drift(image, *rest)
    assert np.hypot(in_place.columns_px, in_place.rows_px) <= 2
    assert in_place.explained > 0.6
    for columns, rows in SHIFTS:
        moved = np.roll(image, (rows, columns), axis=(0, 1))
        found = drift(moved, *rest)
        assert found.columns_px == pytest.approx(columns, abs=2)
        assert found.rows_px == pytest.approx(rows, abs=2)
        with pytest.raises(
            FacefoldError, match=re.escape(f"{found.columns_px:+.0f} columns and")
        ) as refused:
            refuse_drift(moved, *rest)
        assert refused.value.code is Code.PHOTO_APART
        assert refused.value.figures["explained"] == found.explained


def test_where_a_photo_ends_is_no_detail_of_the_face() -> None:
    image, camera, caster, landmarks = synthetic(0)
    face = camera.project(landmarks[17:])
    low, high = face.min(axis=0).astype(int) - 6, face.max(axis=0).astype(int) + 7
    cut = np.zeros_like(image)
    inside = slice(low[1], high[1]), slice(low[0], high[0])
    cut[inside] = image[inside]
    in_place = drift(cut, camera, caster, landmarks)
    assert np.hypot(in_place.columns_px, in_place.rows_px) <= 3
    assert refuse_drift(cut, camera, caster, landmarks) is not None


@pytest.mark.parametrize("yaw", [-15, 0, 20])
def test_the_drift_of_a_real_face_is_found(shared_data: Path, yaw: float) -> None:
    image, *rest = real(shared_data, yaw)
    assert refuse_drift(image, *rest) is not None
    for columns, rows in SHIFTS:
        found = drift(np.roll(image, (rows, columns), axis=(0, 1)), *rest)
        assert found.columns_px == pytest.approx(columns, abs=3)
        assert found.rows_px == pytest.approx(rows, abs=3)


def test_small_drifts_and_faces_turned_away_are_let_through() -> None:
    image, *rest = synthetic(1)
    found = refuse_drift(np.roll(image, 5, axis=1), *rest)
    assert found is not None and 0 < np.hypot(found.columns_px, found.rows_px) < LIMIT_PX
    image, *rest = synthetic(1, yaw_deg=40)
    assert cosine_of_view(rest[0], facing(rest[2])) < FRONTAL
    assert refuse_drift(np.roll(image, 12, axis=1), *rest) is None


def test_a_picture_without_the_face_is_not_judged() -> None:
    image, camera, _, landmarks = synthetic(2)
    nothing = prepare(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    assert refuse_drift(image, camera, nothing, landmarks) == (0, 0, 0, 0)
