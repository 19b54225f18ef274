"""What ratios are worth, on ratios made to be right, too strong or wrong."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.identity.calibration import (
    Calibration,
    Trials,
    bound,
    by_person,
    calibrate,
    cllr,
    excess,
    min_cllr,
    operating_points,
    passed_by,
)

SPREAD = 3.0


def made(own: int = 2000, strangers: int = 40_000, factor: float = 1.0) -> Trials:
    """Right where the factor is 1: normal, ± SPREAD²/2 ± SPREAD (van Leeuwen, Brümmer 2013)."""
    rng = np.random.default_rng(1)
    same = np.arange(own + strangers) < own
    ratio = np.where(same, 1, -1) * SPREAD**2 / 2 + SPREAD * rng.normal(size=len(same))
    people = np.stack([np.arange(len(same)) % 200, (np.arange(len(same)) + ~same) % 200], 1)
    return Trials(factor * ratio, same, people)


def test_right_ratios_stay_as_they_are() -> None:
    found = calibrate(made())
    assert found.scale == pytest.approx(1, abs=0.06)
    assert -1.5 < found.shift <= 0
    assert found.cllr < found.min_cllr + 0.05
    assert found.measured
    assert (found.people, found.strangers) == (200, 40_000)


def test_ratios_too_strong_are_weakened() -> None:
    assert calibrate(made(factor=3.0)).scale == pytest.approx(1 / 3, abs=0.05)


def test_ratios_too_weak_are_not_strengthened() -> None:
    assert calibrate(made(factor=0.3)).scale == 1


def test_no_more_strangers_are_above_any_ratio_than_may_be() -> None:
    trials = made()
    ratio = trials.ratio.copy()
    ratio[-1] = 40.0  # one stranger, sure to be the same person
    found = calibrate(trials._replace(ratio=ratio))
    after = np.sort(found(ratio[~trials.same]))[::-1]
    share = np.arange(1, len(after) + 1) / len(after)
    assert (share <= np.exp(-after) * (1 + 1e-9)).all()
    assert found.largest_stranger == pytest.approx(after[0])


def test_people_that_nobody_confuses_set_no_limit() -> None:
    same = np.arange(1000) < 100
    trials = Trials(np.where(same, 30.0, -80.0), same, np.zeros((1000, 2), int))
    found = calibrate(trials)
    assert (found.scale, found.shift) == pytest.approx((1, 0), abs=1e-6)
    assert not found.measured


def test_without_pairs_nothing_is_measured() -> None:
    none = Trials(np.zeros(0), np.zeros(0, bool), np.zeros((0, 2), int))
    assert not calibrate(none).measured
    assert calibrate(none)(np.array([5.0]))[0] == 5
    assert Calibration.of(np.array(calibrate(none)))[:4] == (1, 0, 0, 0)
    with pytest.raises(FacefoldError, match="1 of 1 log likelihood ratios are not finite"):
        calibrate(Trials(np.array([np.nan]), np.array([True]), np.zeros((1, 2), int)))


def test_costs_in_bits() -> None:
    same = np.array([True, False])
    assert cllr(np.zeros(2), same) == pytest.approx(1)
    assert cllr(np.array([50.0, -50.0]), same) == pytest.approx(0, abs=1e-9)
    assert min_cllr(np.array([-1.0, -2.0]), same) == pytest.approx(0)
    assert min_cllr(np.array([-1.0, 3.0]), same) == pytest.approx(1)
    trials = made()
    assert min_cllr(trials.ratio, trials.same) <= cllr(trials.ratio, trials.same)


def test_error_rates_by_threshold() -> None:
    same = np.array([True, True, False, False])
    found = operating_points(np.array([3.0, 1.0, 2.0, 0.0]), same)
    np.testing.assert_allclose(found.threshold, [0, 1, 2, 3])
    np.testing.assert_allclose(found.false_match, [1, 0.5, 0.5, 0])
    np.testing.assert_allclose(found.false_non_match, [0, 0, 0.5, 0.5])
    assert found.equal == 0.5


def test_people_are_drawn_and_not_pairs() -> None:
    """Eight pairs of one person go together, so that the interval is as wide as one trial's."""
    same = np.r_[np.ones(16, bool), np.zeros(4, bool)]
    people = np.r_[np.zeros((8, 2), int), np.ones((8, 2), int), np.tile([0, 1], (4, 1))]
    ratio = np.r_[np.full(8, 1.0), np.full(8, -1.0), np.zeros(4)]
    rng = np.random.default_rng(0)

    def mean(ratio: np.ndarray, same: np.ndarray) -> float:
        return float(ratio[same].mean())

    found = by_person(Trials(ratio, same, people), mean, rng)
    assert {*found.tolist()} == {-1.0, 0.0, 1.0}


def test_no_error_in_n_pairs_bounds_the_rate_at_three_in_n() -> None:
    assert bound(0, 1_000_000) == pytest.approx(3e-6, rel=0.01)
    assert bound(1, 1) == 1
    assert bound(2, 1000) > 2e-3


def test_honest_ratios_exceed_nothing() -> None:
    n = 1000
    honest = np.log(n / np.arange(1, n + 1))
    assert excess(honest) == pytest.approx(0, abs=1e-12)
    assert excess(honest + 2) == pytest.approx(2)
    assert excess(np.r_[honest[:-1], 9.0]) == pytest.approx(9 - np.log(n))
    assert excess(np.zeros(0)) == 0


def test_no_more_than_a_share_passes_its_own_threshold() -> None:
    ratio = np.random.default_rng(0).permutation(np.arange(1000) / 100)
    over = passed_by(ratio, 0.01)
    assert (ratio - over > -np.log(0.01)).mean() <= 0.01
    assert (ratio - over + 0.05 > -np.log(0.01)).mean() > 0.01
    assert passed_by(ratio - 20, 0.01) == 0
    assert passed_by(np.full(10, 9.0), 0.01) == excess(np.full(10, 9.0))
