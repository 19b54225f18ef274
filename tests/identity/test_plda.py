"""Likelihood ratios against what the joint normal distributions say, written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pipeline.errors import FacefoldError
from pipeline.identity.plda import (
    SIBLINGS,
    TWINS,
    Evidence,
    belief,
    blurred,
    evidence_of,
    first_numbers,
    in_axes,
    log_evidence,
    log_ratio,
    log_ratio_to_relatives,
    nothing_seen,
    shared_part,
    shifted,
    surprise,
    together,
)
from pipeline.types import Array, MarginalInformation

D = 5
RNG = np.random.default_rng(3)


def covariance(scale: float, rng: np.random.Generator = RNG) -> Array:
    root = rng.normal(size=(D, D + 2))
    return scale * root @ root.T / (D + 2) + 0.01 * np.eye(D)


def observed(place: Array, noise: Array) -> Evidence:
    """x seen at `place` with noise of that covariance."""
    information = np.linalg.inv(noise)
    return Evidence(information, information @ place)


FIRST, SECOND = RNG.normal(size=(2, D))
NOISES = covariance(0.4), covariance(0.9)
PAIR = observed(FIRST, NOISES[0]), observed(SECOND, NOISES[1])


def joint(correlation: float) -> float:
    """Log density of both observations where their people's numbers are correlated."""
    shared = correlation * np.eye(D)
    eye = np.eye(D)
    both = np.block([[eye + NOISES[0], shared], [shared, eye + NOISES[1]]])
    return float(multivariate_normal(cov=both).logpdf(np.concatenate([FIRST, SECOND])))


def test_the_ratio_is_that_of_the_joint_densities() -> None:
    assert log_ratio(*PAIR) == pytest.approx(joint(1) - joint(0))


@pytest.mark.parametrize("correlation", [SIBLINGS, TWINS])
def test_relatives_are_people_whose_numbers_are_correlated(correlation: float) -> None:
    relatives = log_ratio(*(shared_part(one, correlation) for one in PAIR))
    assert relatives == pytest.approx(joint(correlation) - joint(0))
    against = log_ratio_to_relatives(*PAIR, correlation)
    assert against == pytest.approx(joint(1) - joint(correlation))


def test_many_pairs_at_once_are_each_pair_alone() -> None:
    many = Evidence(*(np.stack([a, a]) for a in (PAIR[0].information, PAIR[0].pull)))
    found = log_ratio(many, many.at([1, 0]))
    np.testing.assert_allclose(found, log_ratio(PAIR[0], PAIR[0]))
    assert found.shape == (2,)


def test_what_a_scan_shows_besides_its_person_adds_to_its_noise() -> None:
    own = covariance(0.5)
    found, expected = blurred(PAIR[0], own), observed(FIRST, NOISES[0] + own)
    np.testing.assert_allclose(found.information, expected.information)
    np.testing.assert_allclose(found.pull, expected.pull)


def test_an_offset_moves_what_is_seen() -> None:
    offset = RNG.normal(size=D)
    np.testing.assert_allclose(
        shifted(PAIR[0], offset).pull, observed(FIRST - offset, NOISES[0]).pull
    )


def test_other_axes_of_the_same_person() -> None:
    axes, centre = RNG.normal(size=(D, D)), RNG.normal(size=D)
    found = in_axes(PAIR[0], axes, centre)
    back = np.linalg.inv(axes)
    expected = observed(back @ (FIRST - centre), back @ NOISES[0] @ back.T)
    np.testing.assert_allclose(found.information, expected.information)
    np.testing.assert_allclose(found.pull, expected.pull)


def test_the_first_numbers_alone_are_the_marginal_belief() -> None:
    whole, part = belief(PAIR[0]), belief(first_numbers(PAIR[0], 3))
    np.testing.assert_allclose(part.mean, whole.mean[:3])
    np.testing.assert_allclose(part.covariance, whole.covariance[:3, :3])
    assert log_evidence(nothing_seen(D)) == 0


def test_a_scan_counts_its_posterior_less_the_prior() -> None:
    """Numbers seen at 3 ± ½ have a posterior information of 5 and a mean of 2.4."""
    triangle = np.zeros(3, np.float16)
    triangle[[0, 2]] = 5**0.5
    found = evidence_of(MarginalInformation(np.full(2, 2.4, np.float32), triangle))
    np.testing.assert_allclose(found.information, 4 * np.eye(2), rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(found.pull, 12, rtol=1e-3)


def test_the_expected_ratio_of_strangers_is_one() -> None:
    """E[LR | different] = 1, from which P(LR > t | different) ≤ 1/t follows (Markov)."""
    rng = np.random.default_rng(0)
    n, noise = 200_000, np.array([[3.0]])
    people = rng.normal(size=(2, n, 1)) + rng.normal(size=(2, n, 1)) * 3**0.5
    seen = [Evidence(np.broadcast_to(1 / noise, (n, 1, 1)), places / noise[0]) for places in people]
    assert np.exp(log_ratio(seen[0], seen[1])).mean() == pytest.approx(1, abs=0.01)


def test_the_surprise_of_one_persons_scans_is_one_and_that_of_strangers_more() -> None:
    rng, n = np.random.default_rng(1), 3000
    roots = [np.linalg.cholesky(noise) for noise in NOISES]
    information = [np.broadcast_to(np.linalg.inv(noise), (n, D, D)) for noise in NOISES]
    people = rng.normal(size=(2, n, D))

    def seen(who: int, how: int) -> Evidence:
        places = people[who] + rng.normal(size=(n, D)) @ roots[how].T
        return Evidence(information[how], (information[how] @ places[..., None])[..., 0])

    assert surprise(seen(0, 0), seen(0, 1)).mean() == pytest.approx(1, abs=0.05)
    assert surprise(seen(0, 0), seen(1, 1)).mean() > 1.5


def test_evidence_of_different_sizes_is_not_added() -> None:
    with pytest.raises(FacefoldError, match="evidence of 2, 5 numbers"):
        together([PAIR[0], nothing_seen(2)])
    with pytest.raises(FacefoldError, match="of no numbers"):
        together([])
    with pytest.raises(FacefoldError, match="not positive"):
        log_evidence(Evidence(-2 * np.eye(2), np.zeros(2)))
