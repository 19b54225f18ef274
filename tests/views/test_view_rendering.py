"""Renders of surfaces whose every pixel is known by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.errors import FormatError
from pipeline.formats import read_scan
from pipeline.registry.views import Views
from pipeline.types import Array, RawScan
from pipeline.views.backgrounds import Background
from pipeline.views.camera import Camera
from pipeline.views.lights import Light, Lights, direction
from pipeline.views.raycasting import prepare
from pipeline.views.rendering import (
    CLAY,
    Surface,
    grey_shading,
    render,
    shaded,
    smooth_normals,
    surface_of,
    to_linear,
    to_srgb,
)
from pipeline.views.sampling import camera_of, sample_recipe

SQUARE = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
HALVES = np.array([[0, 1, 2], [0, 2, 3]])
UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)[HALVES]
BLACK = Background("plain", ((0, 0, 0),))
EVEN = Lights((1.0, 1.0, 1.0), ())
"""Shows colours as they are."""


def camera(size: int = 64, distance_mm: float = 1000.0, span_mm: float = 200.0) -> Camera:
    """Looks at the origin along -z, x to the right; the picture spans `span_mm` there."""
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = distance_mm
    focal, middle = size * distance_mm / span_mm, (size - 1) / 2
    return Camera(np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]]), pose, size, size)


def image_bytes(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def square(side_mm: float = 100.0, **given: Any) -> RawScan:
    return RawScan(SQUARE * side_mm / 2, HALVES, **given)


def shown(raw: RawScan, lights: Lights = EVEN, view: Camera | None = None, **given: Any) -> Array:
    surface = surface_of(raw, np.eye(4), **given)
    return render(surface, view or camera(), lights, BLACK).astype(int)


def test_coding_is_srgb() -> None:
    codes = np.arange(256)
    np.testing.assert_array_equal(to_srgb(to_linear(codes)), codes)
    assert to_linear(np.array([188.0]))[0] == pytest.approx(0.503, abs=2e-3)
    assert to_srgb(np.array([-1.0, 7.0])).tolist() == [0, 255]


def test_clay_before_a_background() -> None:
    picture = render(
        surface_of(square(), np.eye(4)), camera(), EVEN, Background("plain", ((10, 20, 200),))
    )
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert (picture[17:47, 17:47] == CLAY).all()
    assert (picture[:15] == [10, 20, 200]).all() and (picture[:, 49:] == [10, 20, 200]).all()


def test_a_texture_lies_where_its_coordinates_say() -> None:
    """Red, green above blue, white: seen from the front as in the image."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, :32], pixels[:32, 32:] = (200, 0, 0), (0, 200, 0)
    pixels[32:, :32], pixels[32:, 32:] = (0, 0, 200), (200, 200, 200)
    picture = shown(square(uv=UV, texture_bytes=image_bytes(pixels)))
    corners = [picture[row, column].tolist() for row in (22, 42) for column in (22, 42)]
    assert corners == [[200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 200]]


def test_a_fine_texture_does_not_alias() -> None:
    row, column = np.mgrid[:1000, :1000]
    grey = (255 * ((row + column) % 2)).astype(np.uint8)
    fine = square(uv=UV, texture_bytes=image_bytes(np.repeat(grey[..., None], 3, axis=2)))
    inside = shown(fine)[18:46, 18:46]
    assert np.abs(inside - 128).max() <= 1


def test_a_triangle_without_texture_is_clay_or_has_its_vertices_colours() -> None:
    uv = UV.copy()
    uv[1] = np.nan
    white = image_bytes(np.full((8, 8, 3), 255, np.uint8))
    lower_right, upper_left = (42, 42), (21, 21)
    picture = shown(square(uv=uv, texture_bytes=white))
    assert (picture[lower_right] == 255).all() and (picture[upper_left] == CLAY).all()
    green = np.tile(np.array([[0, 99, 0]], np.uint8), (4, 1))
    picture = shown(square(uv=uv, texture_bytes=white, colours=green))
    assert (picture[lower_right] == 255).all() and picture[upper_left].tolist() == [0, 99, 0]
    picture = shown(square(uv=uv, texture_bytes=white, colours=green), colours=False)
    assert (picture[lower_right] == CLAY).all() and (picture[upper_left] == CLAY).all()


def test_colours_of_vertices_blend() -> None:
    colours = np.array([[0, 0, 0], [200, 0, 0], [200, 0, 0], [0, 0, 0]], np.uint8)
    picture = shown(square(colours=colours))
    column = 40
    across = (column - 31.5) * 200 / 64 / 100 + 0.5
    np.testing.assert_allclose(picture[25:40, column, 0], 200 * across, atol=1)


def test_light_from_the_side_falls_with_the_cosine() -> None:
    sixty = Lights((0.0, 0.0, 0.0), (Light(direction(60, 0), (1.0, 1.0, 1.0)),))
    white = square(colours=np.full((4, 3), 255, np.uint8))
    assert shown(white, sixty)[32, 32].tolist() == [int(to_srgb(np.array(0.5)))] * 3
    behind = Lights((0.0, 0.0, 0.0), (Light(direction(180, 0), (1.0, 1.0, 1.0)),))
    assert shown(white, behind).max() == 0


def test_both_sides_of_a_surface_are_lit_from_where_they_are_seen() -> None:
    front = Lights((0.0, 0.0, 0.0), (Light(direction(0, 0), (1.0, 1.0, 1.0)),))
    inside_out = RawScan(SQUARE * 50, HALVES[:, ::-1], np.full((4, 3), 255, np.uint8))
    assert (shown(inside_out, front)[20:44, 20:44] >= 254).all()


@pytest.mark.parametrize("shadows", [True, False])
def test_shadows_fall_away_from_the_light(shadows: bool) -> None:
    """A small plate 20 mm before a wall, lit at 45° from the right: its shadow is 20 mm left."""
    wall, plate = 50 * SQUARE, 5 * SQUARE + [0, 0, 20]
    raw = RawScan(
        np.concatenate([wall, plate]),
        np.concatenate([HALVES, HALVES + 4]),
        np.full((8, 3), 255, np.uint8),
    )
    lights = Lights((0.1,) * 3, (Light(direction(45, 0), (0.5,) * 3),), shadows)
    view = camera(200, distance_mm=1e5)  # a pixel a millimetre
    picture = shown(raw, lights, view)[..., 0]
    lit, dark = (int(to_srgb(np.array(x))) for x in (0.1 + 0.5 * np.sqrt(0.5), 0.1))
    assert picture[100, 100] == lit  # the plate
    assert picture[100, 80] == pytest.approx(dark if shadows else lit, abs=1)
    assert picture[100, 120] == lit and picture[88, 80] == lit


def test_outlines_are_smooth() -> None:
    """An edge through the middle of pixels is half; one at their border is none."""
    white = square(colours=np.full((4, 3), 255, np.uint8))
    view = camera(40, span_mm=100.0 * 40 / 20)  # 20 px, from 10 to 30
    assert set(np.unique(shown(white, view=view))) == {0, 255}
    half = camera(41, span_mm=100.0 * 41 / 20)  # from 10.5 to 30.5
    picture = shown(white, view=half)[20, :, 0]
    middle = int(to_srgb(np.array(0.5)))
    assert picture[[9, 10, 11, 29, 30, 31]].tolist() == [0, middle, 255, 255, middle, 0]


def test_a_scan_is_moved_before_it_is_seen() -> None:
    motion = np.eye(4)
    motion[:3, :3] = 1000 * Rotation.from_euler("y", 90, degrees=True).as_matrix()
    motion[:3, 3] = 0.0, 50.0, 0.0
    side_on = RawScan(0.05 * SQUARE[:, [2, 1, 0]], HALVES)
    picture = render(surface_of(side_on, motion), camera(), EVEN, BLACK)
    rows = np.flatnonzero(picture[:, 32].any(axis=-1))
    assert rows.min() == pytest.approx(0, abs=1) and rows.max() == pytest.approx(31, abs=1)


def test_points_without_triangles_are_refused() -> None:
    with pytest.raises(FormatError, match="points without triangles"):
        surface_of(RawScan(SQUARE, np.zeros((0, 3), np.int64)), np.eye(4))


def test_vertices_at_one_place_share_a_normal() -> None:
    """A roof whose halves do not share their ridge, as writers of seams leave it; and a vertex that
    no triangle uses, which is nowhere."""
    ridge = [[0.0, 1, 0], [0, -1, 0]]
    vertices = np.array([*ridge, [-1, 0, -1], *ridge, [1, 0, -1], [np.nan] * 3])
    normals = smooth_normals(vertices, np.array([[0, 2, 1], [3, 4, 5]]))
    np.testing.assert_allclose(normals[[0, 1, 3, 4]], np.tile([0.0, 0, 1], (4, 1)), atol=1e-6)
    assert normals[2, 0] == pytest.approx(-np.sqrt(0.5), abs=1e-6)


@pytest.fixture(scope="module")
def james(shared_data: Path) -> Surface:
    return surface_of(read_scan(shared_data / "scans/james/james.obj", "obj"), np.eye(4))


def test_the_same_recipe_gives_the_same_bytes(james: Surface, shared_data: Path) -> None:
    recipe = sample_recipe(Views(renders=1), 11)
    view = camera_of(recipe, np.zeros(3))
    again = surface_of(read_scan(shared_data / "scans/james/james.obj", "obj"), np.eye(4))
    pictures = [render(s, view, recipe.lights, recipe.background) for s in (james, again)]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    other = sample_recipe(Views(renders=1), 12)
    changed = render(james, view, other.lights, other.background)
    assert (changed != pictures[0]).mean() > 0.5


def test_grey_shading_of_the_normals_of_a_ball() -> None:
    """Brightest towards the camera; in a ball's picture, dark only at its outline."""
    facing = np.array([[0.0, 0, 1], [0, 0, -1], [1, 0, 0]])
    lights = np.array([1.0, *[np.sqrt(1 / 3)] * 4])
    expected = [0.78 * 1.7 * lights.mean(), 0.0, 0.78 * 1.7 * 2 * np.sqrt(1 / 3) / 5]
    np.testing.assert_allclose(grey_shading(facing), expected)


def test_the_shaded_mesh() -> None:
    caster = prepare(50 * SQUARE, HALVES)
    picture = shaded(caster, np.tile([[0.0, 0, 1]], (4, 1)), camera())
    assert picture.dtype == np.uint8 and picture.shape == (64, 64)
    expected = round(255 * float(grey_shading(np.array([[0.0, 0, 1]]))[0]))
    assert (picture[17:47, 17:47] == expected).all() and (picture[:15] == 0).all()
    assert set(np.unique(picture)) == {0, expected}
    tilted = shaded(caster, np.tile([[0.6, 0, 0.8]], (4, 1)), camera())
    assert tilted.max() == round(255 * float(grey_shading(np.array([[0.6, 0, 0.8]]))[0]))


@pytest.mark.oracles
def test_grey_shading_as_3ddfa_v3_has_it(oracles: Path) -> None:
    with np.load(oracles / "ddfa_pose.npz") as made:
        normals, expected = made["normals_turned"], made["gray_shading"]
    ours = grey_shading(normals.reshape(-1, 3).astype(np.float64))
    np.testing.assert_allclose(ours[:, None], expected.reshape(-1, 3)[:, :1], atol=1e-5)
