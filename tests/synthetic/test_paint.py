"""Painted people: each colour is where the face has it, in pictures and in textures alike."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.flame.stand_in import stand_in
from pipeline.formats import read_scan
from pipeline.landmarks import read_landmarks
from pipeline.synthetic.delivery import Cast, Delivery
from pipeline.synthetic.files import in_front, unwrapped
from pipeline.synthetic.frames import camera_in_front
from pipeline.synthetic.frames import write_scan as write_frame
from pipeline.synthetic.paint import painted_texture, photograph
from pipeline.synthetic.range_images import COLUMNS, PHOTO_SCALE, ROWS
from pipeline.synthetic.range_images import write_scan as write_range_scan
from pipeline.types import Array


@cache
def cast() -> Cast:
    return Cast.of(stand_in(), 3)


def on_skin(template_mm: Array) -> Array:
    return np.zeros(len(template_mm))


def test_brows_lips_and_hair_have_their_colours() -> None:
    painter, who = cast().painter, cast().complexion(5)
    marks = painter.landmarks
    above = marks[[19, 24]] + [0.0, 25.0, 5.0]
    forehead, brow, lip = (
        painter.colours(who, points, on_skin(points))
        for points in (above, marks[[19, 24]], (marks[[51, 57]] + marks[[62, 66]]) / 2)
    )
    assert np.abs(brow - who.hair).max() < 0.15 * np.abs(brow - who.skin).max()
    # the lips reflect less green for their red than the skin does
    assert (lip[:, 1] / lip[:, 0] < 0.85 * forehead[:, 1] / forehead[:, 0]).all()
    crown = cast().model.template_mm[cast().model.template_mm[:, 1].argmax()][None]
    assert painter.colours(who, crown, on_skin(crown)) == pytest.approx(who.hair[None])


def test_an_iris_looks_ahead() -> None:
    painter, who = cast().painter, cast().complexion(5)
    along = np.array([[0.0, 0.0, 12.0], [0.0, 4.0, 11.3], [0.0, 9.0, 8.0]])
    for centre in painter.centres:
        pupil, iris, white = painter.colours(who, centre + along, np.ones(3))
        assert pupil.max() < 20
        assert iris == pytest.approx(who.iris)
        assert white.min() > 200


def test_people_differ_and_stay_themselves() -> None:
    first, second = cast().complexion(1), cast().complexion(2)
    assert np.abs(first.skin - second.skin).max() > 5
    assert np.array_equal(first.skin, cast().complexion(1).skin)


@pytest.mark.parametrize("unwrap", [in_front, unwrapped])
def test_a_texture_holds_what_a_photo_shows(unwrap: object) -> None:
    """Looked up at the middle of triangles that the texture shows, it is the painter's colour."""
    model, painter, who = cast().model, cast().painter, cast().complexion(7)
    surface = cast().skin_of(model.template_mm)
    front = np.flatnonzero((model.template_mm[model.faces][..., 2] > 70).all(1) & ~painter.on_ball)
    surface = replace_faces(surface, model.faces[front])
    uv = unwrap(surface.vertices_mm, surface.faces)  # type: ignore[operator]
    texture = painted_texture(surface, uv, painter, who, 1024, 1024)
    middle = uv.mean(1)
    column, row = (middle[:, 0] * 1024).astype(int), ((1 - middle[:, 1]) * 1024).astype(int)
    template = model.template_mm[surface.faces].mean(1)
    wanted = painter.colours(who, template, on_skin(template))
    off = np.abs(texture[row, column] - wanted).max(1)
    assert np.median(off) < 3
    assert (off < 25).mean() > 0.9  # folds behind lips and lids lie over each other


def replace_faces(surface, faces):  # type: ignore[no-untyped-def]
    return surface._replace(faces=faces, on_ball=np.zeros(len(faces), bool))


def test_the_camera_in_front_sees_the_face_upright() -> None:
    rng = np.random.default_rng(0)
    for number in range(5):
        pose = cast().pose(number, rng)
        marks = cast().painter.landmarks
        camera = camera_in_front(marks[30], rng)
        pixels = camera.project(marks)
        assert ((pixels > 0) & (pixels < [camera.width, camera.height])).all()
        assert pixels[36, 0] < pixels[45, 0]  # the right eye is left in the picture
        assert pixels[27, 1] < pixels[8, 1]
        picture = photograph(
            cast().skin_of(pose.vertices_mm), cast().painter, cast().complexion(number), camera
        )
        assert 0.05 < (picture != 120).any(2).mean() < 0.9


def test_the_photo_of_a_range_image_is_in_register(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path, "synth_range", 3, 2)
    path = delivery.root / write_range_scan(cast(), delivery, 0)
    scan = read_scan(path, "abs.gz")
    stem = path.name.removesuffix(".abs.gz")
    photo = np.asarray(Image.open(delivery.root / "Spring2003photo" / f"{stem}.png"))
    assert photo.shape == (PHOTO_SCALE * ROWS, PHOTO_SCALE * COLUMNS, 3)
    assert scan.pixels is not None
    column, row = (scan.pixels.astype(int) * PHOTO_SCALE).T
    painted = (photo != 120).any(2)
    block = [painted[row + i, column + j] for i in range(PHOTO_SCALE) for j in range(PHOTO_SCALE)]
    assert np.any(block, axis=0).mean() > 0.999
    beside = painted[row, np.minimum(column + 3 * PHOTO_SCALE, painted.shape[1] - 1)]
    assert beside.mean() < 0.99  # three pixels to the side it would not be


def test_a_frame_has_a_photo_with_its_landmarks(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path, "synth_ply", 3, 3, 1000.0)
    path = delivery.root / write_frame(cast(), delivery, 0, 1)
    found = read_landmarks(path.with_suffix(".pts"), "pts").pixels
    assert found is not None
    assert found.shape == (68, 2)
    photo = np.asarray(Image.open(path.with_suffix(".jpg")).convert("RGB")).astype(int)
    eyes = found[[37, 38, 40, 41]].mean(0), found[[43, 44, 46, 47]].mean(0)
    for column, row in np.round(eyes).astype(int):
        around = photo[row - 8 : row + 9, column - 8 : column + 9].reshape(-1, 3)
        assert around.min() < 60  # a pupil
        assert np.ptp(around.mean(1)) > 60  # and a white
