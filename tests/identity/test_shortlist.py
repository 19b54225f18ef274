"""The score by shared uncertainty against the exact ratio, and who it finds."""

from __future__ import annotations

import numpy as np

from pipeline.identity.plda import Evidence, belief, log_ratio
from pipeline.identity.shortlist import beliefs_of, gallery, nearest, shared_information

D = 8
SHARED = np.linspace(0.5, 40, D)


def seen_of(people: np.ndarray, rng: np.random.Generator) -> Evidence:
    """(N,D) people, each seen with the information SHARED."""
    places = people + rng.normal(size=people.shape) / np.sqrt(SHARED)
    return Evidence(np.tile(np.diag(SHARED), (len(people), 1, 1)), places * SHARED)


def test_with_one_uncertainty_for_all_the_score_is_the_exact_ratio() -> None:
    rng = np.random.default_rng(0)
    one, other = (seen_of(rng.normal(size=(6, D)), rng) for _ in range(2))
    beliefs = [beliefs_of(seen, block=4) for seen in (one, other)]
    np.testing.assert_allclose(beliefs[0].mean, belief(one).mean)
    shared = shared_information(np.concatenate([b.covariance for b in beliefs]))
    np.testing.assert_allclose(shared, SHARED)
    places, scores = nearest(*(gallery(b.mean, shared) for b in beliefs), count=6)
    assert (np.sort(places, axis=1) == np.arange(6)).all()
    for i, j in np.ndindex(6, 6):
        exact = log_ratio(one.at(i), other.at(int(places[i, j])))
        np.testing.assert_allclose(scores[i, j], exact, atol=1e-3)


def test_each_of_a_thousand_finds_themselves() -> None:
    rng = np.random.default_rng(1)
    people = rng.normal(size=(1000, D))
    rows = [
        gallery(beliefs_of(seen_of(people, rng)).mean, SHARED),
        gallery(beliefs_of(seen_of(people, rng)).mean, SHARED),
    ]
    places, scores = nearest(*rows, count=10)
    assert places.shape == scores.shape == (1000, 10)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (places == np.arange(1000)[:, None]).any(1).mean() > 0.98


def test_few_are_all_on_the_list() -> None:
    rows = gallery(np.zeros((3, D)), SHARED)
    assert nearest(rows, rows, count=10)[0].shape == (3, 3)
