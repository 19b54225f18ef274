"""Backgrounds: what each kind shows, and that the seed alone decides."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.views.backgrounds import GREY, Background, draw_background


def test_plain() -> None:
    pixels = Background("plain", ((10, 20, 30),)).pixels(4, 5)
    assert pixels.shape == (4, 5, 3) and pixels.dtype == np.uint8
    assert (pixels == [10, 20, 30]).all()


@pytest.mark.parametrize(("angle", "corner"), [(0.0, (0, -1)), (90.0, (-1, 0)), (180.0, (0, 0))])
def test_a_gradient_runs_where_its_angle_points(angle: float, corner: tuple[int, int]) -> None:
    pixels = Background("gradient", ((0, 0, 0), (200, 100, 50)), angle).pixels(9, 9)
    assert pixels[corner].tolist() == [200, 100, 50]
    assert pixels[4, 4].tolist() == [100, 50, 25]


def test_noise_is_smooth_and_its_seeds() -> None:
    kind = Background("noise", ((0, 0, 0), (255, 255, 255)), seed=3)
    pixels = kind.pixels(224, 224).astype(float)
    assert pixels.std() > 15
    assert np.abs(np.diff(pixels, axis=1)).max() < 30
    np.testing.assert_array_equal(pixels, kind.pixels(224, 224))
    other = Background("noise", kind.colours, seed=4).pixels(224, 224)
    assert np.abs(pixels - other).mean() > 15


def test_noise_keeps_between_its_colours() -> None:
    pixels = Background("noise", ((100, 0, 50), (110, 200, 50)), seed=1).pixels(64, 64)
    assert pixels[..., 0].min() >= 100 and pixels[..., 0].max() <= 110
    assert (pixels[..., 2] == 50).all()


def test_drawn_backgrounds() -> None:
    drawn = [draw_background("noise", np.random.default_rng(seed)) for seed in range(200)]
    assert drawn[5] == draw_background("noise", np.random.default_rng(5))
    kinds = [background.kind for background in drawn]
    assert 120 < kinds.count("noise") < 160 and {"plain", "gradient"} < set(kinds)
    for background in drawn:
        assert all(0 <= value <= 255 for colour in background.colours for value in colour)
    assert draw_background("grey", np.random.default_rng(0)) == Background("plain", (GREY,))
