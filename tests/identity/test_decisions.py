"""Who is merged, who is listed and why, on people of known covariances and on pairs as given."""

from __future__ import annotations

import numpy as np
import pytest
from made_people import people, scans_of, true_population

from pipeline.identity.calibration import Calibration
from pipeline.identity.decisions import (
    Decisions,
    Pair,
    People,
    compare,
    decide,
    people_of,
    ranked,
)

MEASURED = Calibration(people=100, strangers=100_000)


def pair(
    one: str,
    other: str,
    ratio: float = 40.0,
    siblings: float = 20.0,
    twins: float = 9.0,
    probability: float = 0.9999,
) -> Pair:
    within = one.partition(":")[0] == other.partition(":")[0]
    return Pair(one, other, ratio, siblings, twins, 1, within, probability)


def merged(found: Decisions) -> list[tuple[str, str]]:
    return [(pair.one, pair.other) for pair in found.merges]


def reasons(found: Decisions) -> dict[tuple[str, str], str]:
    return {(one.pair.one, one.pair.other): one.reason for one in found.listed}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (pair("a:1", "b:1"), None),
        (pair("a:1", "b:1", ratio=16.1), "strangers"),
        (pair("a:1", "b:1", siblings=9.2), "siblings"),
        (pair("a:1", "b:1", twins=4.6), "twins"),
        (pair("a:1", "a:2"), "within one source"),
    ],
)
def test_a_pair_is_merged_where_every_rate_is_bounded(given: Pair, reason: str | None) -> None:
    found = decide([given], MEASURED)
    assert len(found.merges) == (reason is None)
    assert [*reasons(found).values()] == [reason] * (reason is not None)


def test_nobody_is_merged_by_ratios_of_unknown_worth() -> None:
    found = decide([pair("a:1", "b:1", ratio=90.0)], Calibration())
    assert not found.merges
    assert found.listed[0].reason == "not calibrated"
    assert "too few people were seen twice" in found.listed[0].words


def test_what_is_not_likely_is_not_listed() -> None:
    assert decide([pair("a:1", "b:1", ratio=3.0, probability=0.005)], MEASURED) == ((), (), 0)


def test_of_two_who_are_nearly_as_likely_neither_is_merged() -> None:
    close = [pair("a:1", "b:1", 40.0), pair("a:1", "b:2", 35.5)]
    found = decide(close, MEASURED)
    assert not found.merges
    assert [*reasons(found).values()] == ["rival", "rival"]
    assert merged(decide(close, MEASURED, repeating=["b"])) == [("a:1", "b:1"), ("a:1", "b:2")]
    clear = [pair("a:1", "b:1", 40.0), pair("a:1", "b:2", 35.3)]
    found = decide(clear, MEASURED)
    assert merged(found) == [("a:1", "b:1")]
    assert reasons(found) == {("a:1", "b:2"): "rival"}


def test_a_decision_made_before_is_kept_and_makes_room() -> None:
    close = [pair("a:1", "b:1", 40.0), pair("a:1", "b:2", 39.0)]
    different = [frozenset(("a:1", "b:2"))]
    found = decide(close, MEASURED, different=different)
    assert merged(found) == [("a:1", "b:1")]
    assert not found.listed
    # both names of b are one person: no rivals
    found = decide(close, MEASURED, same=[frozenset(("b:1", "b:2"))])
    assert merged(found) == [("a:1", "b:1")]
    assert not found.listed


def test_no_chain_of_merges_brings_two_names_of_a_source_together() -> None:
    chain = [pair("a:1", "b:1", 60.0), pair("b:1", "c:1", 50.0), pair("a:2", "c:1", 39.0)]
    found = decide(chain, MEASURED)
    assert merged(found) == [("a:1", "b:1"), ("b:1", "c:1")]
    assert reasons(found) == {("a:2", "c:1"): "conflict"}
    found = decide(chain, MEASURED, repeating=["a"])
    assert len(found.merges) == 3
    apart = [frozenset(("a:1", "c:1"))]
    assert reasons(decide(chain[:2], MEASURED, different=apart)) == {("b:1", "c:1"): "conflict"}


def test_a_merge_that_others_imply_is_not_repeated() -> None:
    ring = [pair("a:1", "b:1", 60.0), pair("b:1", "c:1", 50.0), pair("a:1", "c:1", 45.0)]
    found = decide(ring, MEASURED, compared=30_000)
    assert len(found.merges) == 2
    assert not found.listed
    assert found.expected_false_merges == pytest.approx(3e-3)


def test_the_order_of_pairs_does_not_matter() -> None:
    some = [pair("a:1", "b:1", 60.0), pair("b:1", "c:1", 50.0), pair("a:2", "c:1", 39.0)]
    assert decide(some, MEASURED) == decide(some[::-1], MEASURED)


@pytest.fixture(scope="module")
def sides() -> tuple[People, People]:
    """40 people of two sources, the first 10 the same, and 5 more that are twins of others."""
    rng = np.random.default_rng(8)
    first, second = people(40, rng), people(40, rng)
    second[:10] = first[:10]
    for i in range(10, 15):
        second[i] = 0.95 * first[i] + np.sqrt(1 - 0.95**2) * second[i]
    population = true_population()
    found = []
    for source, persons in (("a", first), ("b", second)):
        scans = {f"{source}:{i:02}": scans_of(p, rng, source) for i, p in enumerate(persons)}
        found.append(people_of(population, scans, dict.fromkeys(scans, source)))
    return found[0], found[1]


def test_the_same_people_of_two_sources_are_found(sides: tuple[People, People]) -> None:
    pairs = compare(*sides, MEASURED)
    first = {pair.one: pair for pair in pairs if pair.rank == 1}
    for i in range(10):
        assert first[f"a:{i:02}"].other == f"b:{i:02}"
        assert first[f"a:{i:02}"].probability > 0.5
    strangers = [pair for pair in pairs if pair.one[2:] != pair.other[2:]]
    assert all(pair.probability < 0.5 for pair in strangers)
    decisions = decide(pairs, MEASURED)
    assert {one[2:] for one, _ in merged(decisions)} <= {f"{i:02}" for i in range(10)}


def test_both_sides_may_be_exchanged(sides: tuple[People, People]) -> None:
    there, back = compare(*sides, MEASURED), compare(*sides[::-1], MEASURED)
    assert {pair.link for pair in there} == {pair.link for pair in back}
    ratios = {pair.link: pair.ratio for pair in back}
    assert all(pair.ratio == pytest.approx(ratios[pair.link]) for pair in there)


def test_a_second_name_in_one_source_is_listed(sides: tuple[People, People]) -> None:
    one = sides[0]
    whole = one.of([*range(5), 3])
    renamed = People((*whole.names[:5], "a:99"), whole.sources, whole.seen)
    found = decide(compare(renamed, renamed, MEASURED), MEASURED)
    assert not found.merges
    assert [listed.pair.link for listed in found.listed] == [frozenset(("a:03", "a:99"))]
    assert "one source gave both names" in found.listed[0].words


def test_ranks_are_by_person() -> None:
    found = ranked(np.array([2, 1, 2, 1, 2]), np.array([1.0, 5.0, 3.0, 6.0, 2.0]))
    assert found.tolist() == [3, 2, 1, 1, 2]


def test_one_person_alone_has_nobody_to_be_compared_with(sides: tuple[People, People]) -> None:
    one = sides[0].of([0])
    assert compare(one, one, MEASURED) == ()
    assert decide((), MEASURED) == ((), (), 0)
