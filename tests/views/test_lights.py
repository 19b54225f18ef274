"""Lights against Lambert's law, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.types import Array
from pipeline.views.lights import STUDIO, Light, Lights, direction, draw_lights

TO_CAMERA = np.array([[0.0, 0.0, -1.0]], np.float32)


@pytest.mark.parametrize(
    ("right", "up", "towards"),
    [(0, 0, (0, 0, -1)), (90, 0, (1, 0, 0)), (0, 90, (0, -1, 0)), (180, 0, (0, 0, 1))],
)
def test_directions_in_the_cameras_frame(right: float, up: float, towards: tuple[int, ...]) -> None:
    assert direction(right, up) == pytest.approx(towards, abs=1e-12)


def lit(normal: Array, *, shadow: bool = False) -> list[float]:
    lights = Lights((0.1, 0.2, 0.3), (Light((1.0, 0.0, 0.0), (0.5, 0.5, 1.0)),))
    return lights.returned(np.asarray(normal, np.float32), np.array([[not shadow]]))[0].tolist()


def test_light_falls_with_the_cosine() -> None:
    assert lit(np.array([[1.0, 0, 0]])) == pytest.approx([0.6, 0.7, 1.3])
    sixty = np.array([[0.5, 0.0, -np.sqrt(0.75)]])
    assert lit(sixty) == pytest.approx([0.35, 0.45, 0.8])


def test_no_light_from_behind_or_in_shadow() -> None:
    assert lit(np.array([[-1.0, 0, 0]])) == pytest.approx([0.1, 0.2, 0.3])
    assert lit(np.array([[1.0, 0, 0]]), shadow=True) == pytest.approx([0.1, 0.2, 0.3])


def test_drawn_lights_have_the_exposure_and_are_the_seeds() -> None:
    drawn = [draw_lights("random", np.random.default_rng(seed)) for seed in range(300)]
    assert drawn[7] == draw_lights("random", np.random.default_rng(7)) != drawn[8]
    assert {len(lights.far) for lights in drawn} == {1, 2, 3}
    for lights in drawn:
        assert min(lights.ambient) > 0.1 and max(lights.ambient) < 0.65
        for light in lights.far:
            assert np.linalg.norm(light.towards) == pytest.approx(1)
            assert light.towards[1] <= np.sin(np.radians(15)) + 1e-9
    towards_camera = [
        lights.returned(TO_CAMERA, np.ones((1, len(lights.far)), bool)).mean() for lights in drawn
    ]
    assert 0.5 < np.median(towards_camera) < 1.1
    assert json.loads(json.dumps(asdict(drawn[0])))["far"][0]["towards"][2] == pytest.approx(
        drawn[0].far[0].towards[2]
    )


def test_the_studio_is_always_the_same() -> None:
    assert draw_lights("studio", np.random.default_rng(0)) == STUDIO
    white = STUDIO.returned(TO_CAMERA, np.ones((1, 2), bool))
    assert white.max() < 1 and white.min() > 0.8
