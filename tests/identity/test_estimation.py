"""A population from people of known covariances."""

from __future__ import annotations

import numpy as np
import pytest
from made_people import (
    BETWEEN,
    SESSION,
    D,
    people,
    scans_of,
    start_population,
    true_population,
)

from pipeline.errors import FacefoldError
from pipeline.identity.estimation import (
    estimate,
    made_relatives,
    maximised,
    offsets_of,
    sessions_of,
    trusted,
)
from pipeline.identity.plda import SIBLINGS, TWINS
from pipeline.identity.population import Population, SeenScan


@pytest.fixture(scope="module")
def scans() -> dict[str, list[SeenScan]]:
    rng = np.random.default_rng(5)
    sessions = (("neutral", "smile"), ("neutral",))
    return {
        f"a:{i}": scans_of(person, rng, sessions=sessions)
        for i, person in enumerate(people(80, rng))
    }


@pytest.fixture(scope="module")
def population(scans: dict[str, list[SeenScan]]) -> Population:
    return estimate(scans, start_population())


def test_covariances_come_near_to_the_truth(population: Population) -> None:
    # 80 people, 160 sessions: standard errors of the traces 4 % and 3 %, and the pseudo-counts
    assert np.trace(population.between) == pytest.approx(np.trace(BETWEEN), rel=0.15)
    start = start_population()
    for found, first, truth in (
        (population.session, start.session, SESSION),
        (population.within["neutral"], start.within["neutral"], 0.01 * np.eye(D)),
    ):
        before, after = (abs(np.trace(x) - np.trace(truth)) for x in (first, found))
        assert after < 0.7 * before  # few steps: from above, which is the safe side
    assert np.trace(population.within["expression"]) > np.trace(population.within["neutral"])


def test_it_is_known_how_many_people_it_is_from(population: Population) -> None:
    assert population.counts == (80, 240, 80, 80)
    assert population.calibration.people == 80
    assert population.calibration.measured


def test_the_ratios_part_people_that_the_population_has_not_seen(population: Population) -> None:
    assert population.calibration.min_cllr < 0.02
    assert population.calibration.cllr < population.calibration.min_cllr + 0.05


def test_few_people_are_no_population(scans: dict[str, list[SeenScan]]) -> None:
    with pytest.raises(FacefoldError, match="from 9 people, expected 10 at least"):
        estimate(dict([*scans.items()][:9]), start_population())


def test_people_seen_once_say_nothing_of_sessions(scans: dict[str, list[SeenScan]]) -> None:
    once = [sessions_of(some[:1], D) for some in scans.values()]
    found, start = maximised(start_population(), once, 3), start_population()
    np.testing.assert_array_equal(found.session, start.session)
    np.testing.assert_array_equal(found.within["neutral"], start.within["neutral"])
    assert np.trace(found.between) < np.trace(start.between)
    assert found.trust == 1


def test_a_sources_offset_is_found_where_there_is_one() -> None:
    rng = np.random.default_rng(6)
    persons = people(120, rng)

    def found(offset: float, count: int) -> Population:
        known = [
            sessions_of(scans_of(p, rng, "ab"[i % 2], (("neutral",),), offset * (i % 2)), D)
            for i, p in enumerate(persons[:count])
        ]
        return maximised(start_population(), known, 4)

    apart = found(1.0, 120).offsets
    assert (apart["b"] - apart["a"]).mean() == pytest.approx(1.0, abs=0.2)
    none = found(0.0, 120).offsets
    assert not none or np.abs(none["b"] - none["a"]).max() < 0.3
    assert found(1.0, 8).offsets == {}


def test_one_source_alone_has_no_offset(scans: dict[str, list[SeenScan]]) -> None:
    assert offsets_of(start_population(), [sessions_of(s, D) for s in scans.values()]) == {}


def test_scans_surer_than_they_may_be_are_trusted_less() -> None:
    assert trusted(1.0, []) == 1
    assert trusted(1.0, [4.0] * 100) < 0.6
    assert 1 < trusted(1.0, [0.5] * 100) <= 2


def test_relatives_are_made_where_relatives_would_be() -> None:
    """In the true population their ratios are as honest as any, and twins' are the higher."""
    rng = np.random.default_rng(7)
    scans = {f"a:{i}": scans_of(p, rng) for i, p in enumerate(people(60, rng))}
    twins = made_relatives(true_population(), scans, TWINS)
    siblings = made_relatives(true_population(), scans, SIBLINGS)
    assert len(twins) == len(siblings) == 60 * 12
    assert np.exp(siblings).mean() < 2
    assert (siblings > 0).mean() < 0.1
    assert 0.1 < (twins > 0).mean() < 0.75
    same = made_relatives(true_population(), scans, 1 - 1e-9)
    assert abs(same.mean()) < 0.01
    once = {name: some[:1] for name, some in scans.items()}
    assert len(made_relatives(true_population(), once, TWINS)) == 0
