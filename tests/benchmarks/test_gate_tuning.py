"""What the gates' benchmark takes from rows: weights of the evidence, and what is usual."""

from __future__ import annotations

import numpy as np
import pytest
from gate_tuning import SLID_GROUPS, fitted, usual

from pipeline.quality.usual import Slide
from pipeline.types import Array

ALONE = Slide(1.0, 0.0, 0.0, 0.0, 0.0)
VALUES = {"landmark_sigmas": [np.nan], "expected_mm": [1.0, 4.0]}


def slides(stretch: Array) -> list[Slide]:
    return [Slide(float(x), 0.0, 0.0, 0.0, 0.0) for x in stretch]


def test_the_threshold_lies_between_sound_and_slid_parts() -> None:
    sound, slid = slides(np.linspace(0, 1, 101)), slides(np.linspace(3, 4, 101))
    found = usual(sound, [], slid, VALUES, ALONE)
    assert found.slide == pytest.approx((0.99 + 3.03) / 2, abs=0.01)
    overlapping = usual(sound, [], slides(np.linspace(0.5, 1.5, 101)), VALUES, ALONE)
    assert overlapping.slide == pytest.approx(0.99, abs=0.01), "sound ones come first"
    looked_at = usual(sound, slides(np.array([2.5])), slid, VALUES, ALONE)
    assert looked_at.slide == pytest.approx(2.5, abs=0.011), "a real scan that was looked at"
    assert usual(sound, [], [], VALUES, ALONE).slide > 1.4, "no slides are known of"


def test_what_was_never_measured_has_no_limit() -> None:
    found = usual(slides(np.zeros(9)), [], [], VALUES, ALONE)
    assert found.landmark_sigmas == np.inf
    assert found.expected_mm == pytest.approx(4.4, abs=0.02)


def test_weights_are_those_of_a_known_model() -> None:
    """Evidence drawn from two normal distributions with one covariance: the log odds are linear in
    it, with weights Σ⁻¹ (μ₁ − μ₀)."""
    rng = np.random.default_rng(0)
    apart = np.array([1.5, 0.0, 0.5, -1.0, 0.0])

    def drawn(mean: Array) -> list[Slide]:
        return [Slide(*row) for row in (mean + rng.normal(size=(4000, 5))).tolist()]

    sound = {group: drawn(0 * apart) for group in SLID_GROUPS}
    slid = {group: drawn(apart) for group in SLID_GROUPS}
    np.testing.assert_allclose(fitted(sound, slid), apart, atol=0.12)
