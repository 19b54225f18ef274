"""Pictures show what is there, where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image, ImageDraw

from pipeline.pictures.rendering import View, camera_rotation, distance_colours, render
from pipeline.pictures.sheets import in_font, save_grid
from pipeline.pictures.sheets import write as sheet_line


@pytest.fixture(scope="module")
def ball() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=3, radius=50.0)


def test_a_ball_is_a_disc_of_its_size(ball: trimesh.Trimesh) -> None:
    picture = render(ball.vertices, ball.faces, View(height_mm=200.0), size=200)
    inside = (picture < 250).any(axis=2)
    assert inside.sum() == pytest.approx(np.pi * 50**2, rel=0.02)  # one pixel is 1 mm²
    assert inside[100, 100] and not inside[2, 2]


def test_yaw_shows_the_subjects_left_side(ball: trimesh.Trimesh) -> None:
    colours = np.zeros((len(ball.vertices), 3), np.uint8)
    colours[ball.vertices[:, 0] > 0] = (255, 0, 0)  # +x is the subject's left
    front = render(ball.vertices, ball.faces, View(height_mm=200.0), 100, colours)
    left = render(ball.vertices, ball.faces, View(yaw=90, height_mm=200.0), 100, colours)
    # red and not the white of the background, whatever the shading
    front_red, left_red = (p[..., 0] > 30 + 3 * p[..., 1].astype(int) for p in (front, left))
    assert left_red.sum() > 1.8 * front_red.sum() > 0
    assert not front_red[:, :44].any()  # seen from the front, their left is on our right


@pytest.mark.parametrize("view", [View(), View(yaw=40), View(yaw=-90, pitch=30)])
def test_cameras_are_rotations(view: View) -> None:
    rotation = camera_rotation(view)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_nothing_in_view_is_white(ball: trimesh.Trimesh) -> None:
    far = View(height_mm=20.0, centre_mm=(500.0, 0.0, 0.0))
    assert (render(ball.vertices, ball.faces, far, 32) == 255).all()


def test_distance_colours_end_at_the_limit_and_are_grey_without_data() -> None:
    colours = distance_colours(np.array([0.0, 1.0, 2.0, 50.0, np.nan]), limit_mm=2.0)
    assert colours[2].tolist() == colours[3].tolist() == [178, 24, 43]
    assert colours[0].tolist() == [235, 235, 225]
    assert colours[4].tolist() == [150, 150, 150]


def test_a_grid_is_saved_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "new" / "grid.png"
    black, white = np.zeros((8, 6, 3), np.uint8), np.full((8, 6, 3), 255, np.uint8)
    save_grid([[black, white, black], [white, white, white]], path)
    saved = np.asarray(Image.open(path))
    assert saved.shape == (16, 18, 3)
    assert saved[0, 0, 0] == 0 and saved[0, 7, 0] == saved[15, 0, 0] == 255


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("Éva", "Éva"),
        ("E\u0301va", "Éva"),  # as macOS writes it
        ("Šimon – 5 × 4 mm, 3°…", "Simon - 5 × 4 mm, 3°..."),
        ("Łódź", r"\u0141ódz"),
        ("中\x1b[31m\u202e\n", r"\u4e2d\x1b[31m\u202e\n"),
    ],
)
def test_letters_of_pictures(text: str, drawn: str) -> None:
    assert in_font(text) == drawn


def test_a_name_with_an_accent_is_drawn_with_it(tmp_path: Path) -> None:
    def pixels(write: Callable[[str], None]) -> list[bytes]:
        found = []
        for text in ("Éva", "Eva", "?va"):
            write(text)
            found.append(np.asarray(Image.open(tmp_path / "text.png")).tobytes())
        return found

    def caption(text: str) -> None:
        save_grid([[np.full((40, 320, 3), 255, np.uint8)]], tmp_path / "text.png", [text])

    def line(text: str) -> None:
        sheet = Image.new("RGB", (100, 20), "white")
        sheet_line(ImageDraw.Draw(sheet), (2, 2), text, (0, 0, 0))
        sheet.save(tmp_path / "text.png")

    for write in (caption, line):
        with_accent, without, unknown = pixels(write)
        assert len({with_accent, without, unknown}) == 3
