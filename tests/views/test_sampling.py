"""Recipes: drawn within their limits, recorded, and cameras that see what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.registry.views import Views
from pipeline.types import Array
from pipeline.views.backgrounds import Background
from pipeline.views.lights import STUDIO
from pipeline.views.sampling import Recipe, camera_of, head_angles, head_rotation, sample_recipe

SECTION = Views(
    renders=3,
    yaw_deg=(-40, 20),
    pitch_deg=(5, 10),
    roll_deg=(-3, -1),
    distance_mm=(400, 1600),
    focal_px=(500, 2000),
)
TARGET = np.array([3.0, -20.0, 40.0])


def recipe(**given: float) -> Recipe:
    angles = {"yaw_deg": 0.0, "pitch_deg": 0.0, "roll_deg": 0.0, "distance_mm": 800.0} | given
    focal = angles.pop("focal_px", None)
    plain = Background("plain", ((0, 0, 0),))
    return Recipe(0, focal_px=focal, lights=STUDIO, background=plain, **angles)


def test_the_seed_alone_decides() -> None:
    drawn = [sample_recipe(SECTION, seed) for seed in range(50)]
    assert drawn[9] == sample_recipe(SECTION, 9) and len({r.yaw_deg for r in drawn}) > 45


def test_limits_and_spread() -> None:
    drawn = [sample_recipe(SECTION, seed) for seed in range(400)]
    for name in ("yaw_deg", "pitch_deg", "roll_deg", "distance_mm", "focal_px"):
        low, high = getattr(SECTION, name)
        values = np.array([getattr(r, name) for r in drawn])
        assert low <= values.min() and values.max() <= high
        assert np.ptp(values) > 0.95 * (high - low)
    # evenly in the logarithm: as many nearer than 800 mm as farther
    assert 160 < sum(r.distance_mm < 800 for r in drawn) < 240
    assert sample_recipe(Views(renders=1), 0).focal_px is None


def test_columns_are_json() -> None:
    columns = sample_recipe(SECTION, 1).columns
    assert set(json.loads(columns["lights"])) == {"ambient", "far", "shadows"}
    assert json.loads(columns["background"])["kind"] in ("plain", "gradient", "noise")


def seen(point_mm: Array, **given: float) -> Array:
    """Right and down of the target in the picture, pixels."""
    camera = camera_of(recipe(**given), TARGET)
    pixels: Array = camera.project((TARGET + point_mm)[None])[0] - (camera.width - 1) / 2
    return pixels


def test_the_target_is_the_pictures_middle_at_its_distance() -> None:
    given = {"yaw_deg": 33.0, "pitch_deg": -12.0, "roll_deg": 8.0, "distance_mm": 620.0}
    assert seen(np.zeros(3), **given) == pytest.approx([0, 0], abs=1e-9)
    camera = camera_of(recipe(**given), TARGET)
    assert np.linalg.norm(camera.centre_mm - TARGET) == pytest.approx(620)
    assert (camera.height, camera.width) == (224, 224)


def test_which_way_heads_turn() -> None:
    nose, crown = np.array([0, 0, 50.0]), np.array([0, 50.0, 0])
    assert seen(np.array([50.0, 0, 0]))[0] > 10  # the subject's left is on the right
    assert seen(crown)[1] < -10
    assert seen(nose, yaw_deg=30.0)[0] > 10  # to its left
    assert seen(nose, pitch_deg=20.0)[1] < -5  # up
    assert seen(crown, roll_deg=20.0)[0] > 5  # towards its left shoulder
    assert seen(nose, roll_deg=20.0) == pytest.approx([0, 0], abs=1e-9)


def test_the_focal_length_sets_the_size() -> None:
    camera = camera_of(recipe(distance_mm=500.0, focal_px=1200.0), TARGET)
    assert camera.matrix_px[0, 0] == 1200 and camera.width == 768  # 320 mm
    near = seen(np.array([100.0, 0, 0]), distance_mm=500.0, focal_px=1200.0)
    assert near[0] == pytest.approx(240)
    without = camera_of(recipe(distance_mm=500.0), TARGET)
    assert without.matrix_px[0, 0] == pytest.approx(350)


def test_angles_of_a_camera_are_those_it_was_made_of() -> None:
    rng = np.random.default_rng(2)
    for yaw, pitch, roll in rng.uniform([-170, -80, -170], [170, 80, 170], (50, 3)):
        camera = camera_of(recipe(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll), TARGET)
        assert head_angles(camera.canonical_to_camera) == pytest.approx((yaw, pitch, roll))
        assert np.linalg.det(head_rotation(yaw, pitch, roll)) == pytest.approx(1)
