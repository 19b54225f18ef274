"""The score by shared uncertainty against the exact ratio, and who it finds."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.identity.plda import Evidence, log_ratio
from pipeline.identity.shortlist import groups_of, nearest
from pipeline.types import Array

D = 8
TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(D, D)))[0]
WHOLE = np.diag(np.linspace(0.5, 40, D))
"""What whole faces tell of each number."""
HALF = TURN @ np.diag([60.0, 20, 10, 0.02, 0.02, 0.01, 0, 0]) @ TURN.T
"""What half faces do: much of some combinations of numbers, next to nothing of others."""


def seen_of(people: Array, information: Array, rng: np.random.Generator) -> Evidence:
    """(N,D) people, each seen with the information."""
    root = np.linalg.cholesky(information + 1e-9 * np.eye(D))
    pull = people @ information + rng.normal(size=people.shape) @ root.T
    return Evidence(np.tile(information, (len(people), 1, 1)), pull)


@pytest.mark.parametrize("information", [WHOLE, HALF])
def test_with_one_uncertainty_a_side_the_score_is_the_exact_ratio(information: Array) -> None:
    rng = np.random.default_rng(0)
    one = seen_of(rng.normal(size=(6, D)), information, rng)
    other = seen_of(rng.normal(size=(7, D)), WHOLE, rng)
    places, scores = nearest(groups_of(one, block=4), groups_of(other), count=7)
    assert (np.sort(places, axis=1) == np.arange(7)).all()
    for i, j in np.ndindex(6, 7):
        exact = log_ratio(one.at(i), other.at(int(places[i, j])))
        np.testing.assert_allclose(scores[i, j], exact, atol=1e-3)


def test_each_of_a_thousand_finds_themselves_whole_or_half() -> None:
    rng = np.random.default_rng(1)
    people = rng.normal(size=(1000, D))
    first, second = (
        [seen_of(people[:500], WHOLE, rng), seen_of(people[500:], HALF, rng)] for _ in range(2)
    )
    sides = [
        groups_of(
            Evidence(
                np.concatenate([e.information for e in some]),
                np.concatenate([e.pull for e in some]),
            )
        )
        for some in (first, second)
    ]
    places, scores = nearest(*sides, count=10)
    assert places.shape == scores.shape == (1000, 10)
    assert (np.diff(scores, axis=1) <= 0).all()
    found = (places == np.arange(1000)[:, None]).any(1)
    assert found[:500].mean() > 0.97
    # three numbers cannot tell a thousand people apart
    assert found[500:].mean() > 0.3


def test_people_known_alike_are_a_group() -> None:
    rng = np.random.default_rng(2)
    people = rng.normal(size=(60, D))
    parts = [seen_of(people[:40], WHOLE, rng), seen_of(people[40:], HALF, rng)]
    both = Evidence(
        *(np.concatenate([getattr(p, n) for p in parts]) for n in ("information", "pull"))
    )
    found = groups_of(both)
    assert sorted(np.concatenate([group.members for group in found])) == [*range(60)]
    assert all((group.members < 40).all() or (group.members >= 40).all() for group in found)


def test_few_are_all_on_the_list() -> None:
    rng = np.random.default_rng(4)
    groups = groups_of(seen_of(rng.normal(size=(3, D)), WHOLE, rng))
    assert nearest(groups, groups, count=10)[0].shape == (3, 3)
