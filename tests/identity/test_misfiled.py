"""Misfiled scans, swaps and people filed twice, on people whose numbers are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.identity.misfiled import FiledScan, Finding, groups_of, misfiled
from pipeline.identity.population import Population, SeenScan
from pipeline.types import Array, MarginalInformation

NUMBERS = 40
SEEN = 30.0
"""Information of a scan in each number, in units of people's own."""
POPULATION = Population(
    mean=np.zeros(NUMBERS),
    between=np.eye(NUMBERS),
    session=0.02 * np.eye(NUMBERS),
    within={"neutral": 0.02 * np.eye(NUMBERS), "expression": 0.1 * np.eye(NUMBERS)},
    offsets={},
)


def numbers_of(person: int) -> Array:
    return np.random.default_rng(person).normal(size=NUMBERS)


def scan(
    name: str, numbers: Array, seed: int, seen: float = SEEN, shown: int = NUMBERS
) -> FiledScan:
    """A scan that tells the first `shown` numbers of a person."""
    rng = np.random.default_rng([seed, 1])
    information = np.where(np.arange(NUMBERS) < shown, seen, 0.0)
    own = numbers + rng.normal(scale=0.2, size=NUMBERS)
    pull = information * own + np.sqrt(information) * rng.normal(size=NUMBERS)
    triangle = np.zeros((NUMBERS, NUMBERS), np.float16)
    np.fill_diagonal(triangle, np.sqrt(information + 1))
    part = MarginalInformation(
        (pull / (information + 1)).astype(np.float32), triangle[np.tril_indices(NUMBERS)]
    )
    return FiledScan(name, SeenScan(part, "a", "neutral", str(seed)))


def filed(*counts: int) -> dict[str, list[FiledScan]]:
    """People with so many scans each, rightly filed."""
    return {
        f"a:{p}": [scan(f"a:{p}/{i}", numbers_of(p), 100 * p + i) for i in range(count)]
        for p, count in enumerate(counts)
    }


def told(people: dict[str, list[FiledScan]]) -> list[tuple[str, Sequence[str], Sequence[str]]]:
    return [(f.kind, f.scans, f.people) for f in misfiled(people, POPULATION)]


def test_of_people_rightly_filed_nothing_is_said() -> None:
    assert told(filed(1, 2, 3, 4, 5, 1, 2, 30)) == []
    assert misfiled({}, POPULATION) == [] and misfiled({"a:1": []}, POPULATION) == []


@pytest.mark.parametrize("shown", [NUMBERS, 12])
def test_a_misfiled_scan_is_found_with_its_person(shown: int) -> None:
    people = filed(3, 4, 2, 5)
    people["a:3"].insert(2, scan("a:1/x", numbers_of(1), 999, shown=shown))
    (found,) = misfiled(people, POPULATION)
    assert (found.kind, found.scans, found.people) == ("misfiled", ("a:1/x",), ("a:3", "a:1"))
    assert found.log_ratio > 7
    assert str(found).startswith(
        "a:1/x, filed under a:3, is another person than the rest and seems to be of a:1 (log ratio"
    )


def test_a_scan_of_nobody_else_is_said_to_be() -> None:
    people = filed(3, 4, 2)
    people["a:1"].append(scan("a:1/x", numbers_of(77), 999))
    assert told(people) == [("misfiled", ("a:1/x",), ("a:1",))]
    assert "is of nobody else here" in str(misfiled(people, POPULATION)[0])


def test_what_a_scan_shows_may_exclude_its_person_and_not_say_whose_it_is() -> None:
    people = filed(3, 4, 2)
    # three numbers alike are the chance of one stranger in forty
    people["a:1"].append(scan("a:1/x", numbers_of(2), 999, shown=3))
    assert told(people) == [("misfiled", ("a:1/x",), ("a:1",))]


def test_a_scan_that_shows_too_little_is_not_accused() -> None:
    people = filed(3, 4, 2)
    people["a:1"].append(scan("a:1/x", numbers_of(77), 999, seen=0.5, shown=3))
    assert told(people) == []


def test_a_swap_is_one_finding() -> None:
    people = filed(3, 4, 3)
    a, b = people["a:0"], people["a:1"]
    a[1], b[2] = b[2], a[1]
    assert told(people) == [("swapped", ("a:1/2", "a:0/1"), ("a:0", "a:1"))]


def test_of_two_scans_that_contradict_both_are_suspected() -> None:
    people = filed(3, 1, 2)
    people["a:1"].append(scan("a:1/x", numbers_of(77), 999))
    assert told(people) == [("disagree", ("a:1/0", "a:1/x"), ("a:1",))]
    assert "are not all of one person" in str(misfiled(people, POPULATION)[0])


def test_of_two_scans_that_contradict_the_one_of_somebody_else_is_misfiled() -> None:
    people = filed(3, 1, 2)
    people["a:1"].append(scan("a:2/x", numbers_of(2), 999))
    assert told(people) == [("misfiled", ("a:2/x",), ("a:1", "a:2"))]


def test_a_swap_between_people_of_two_scans_names_all_four() -> None:
    people = filed(2, 2, 3)
    a, b = people["a:0"], people["a:1"]
    a[1], b[1] = b[1], a[1]
    (found,) = misfiled(people, POPULATION)
    assert (found.kind, found.people) == ("swapped", ("a:0", "a:1"))
    assert set(found.scans) == {"a:0/0", "a:0/1", "a:1/0", "a:1/1"}


def test_a_person_filed_twice_is_found_within_a_source_only() -> None:
    people = filed(3, 4, 2, 3)
    again = [scan(f"a:9/{i}", numbers_of(1), 900 + i) for i in range(2)]
    (found,) = misfiled({**people, "a:9": again}, POPULATION)
    assert (found.kind, found.people) == ("filed twice", ("a:1", "a:9"))
    assert len(found.scans) == 6 and "a:1 and a:9 seem to be one person" in str(found)
    assert misfiled({**people, "b:9": again}, POPULATION) == []


def test_a_person_who_comes_late_is_compared_with_those_known() -> None:
    people = filed(3, 4, 2, 3)
    people["a:8"] = [scan(f"a:8/{i}", numbers_of(2), 800 + i) for i in range(2)]
    known = [
        group for name, scans in people.items() for group in groups_of(name, scans, POPULATION)
    ]
    late = {"a:9": [scan(f"a:9/{i}", numbers_of(1), 900 + i) for i in range(2)]}
    late["a:9"] += [scan("a:3/x", numbers_of(3), 999)]
    found = misfiled(late, POPULATION, known)
    assert [(f.kind, set(f.people)) for f in found] == [
        ("misfiled", {"a:9", "a:3"}),
        ("filed twice", {"a:1", "a:9"}),
    ]
    assert misfiled({}, POPULATION, known) == []
    assert misfiled({"a:0": filed(1)["a:0"]}, POPULATION) == []


def test_siblings_are_not_one_person() -> None:
    people = filed(3, 4, 3)
    sibling = 0.5 * numbers_of(1) + 0.75**0.5 * numbers_of(88)
    people["a:9"] = [scan(f"a:9/{i}", sibling, 900 + i) for i in range(3)]
    assert told(people) == []


def test_a_person_of_many_scans_is_grouped_without_comparing_all() -> None:
    people = filed(40, 3)
    people["a:0"].append(scan("a:1/x", numbers_of(1), 999))
    people["a:0"].append(scan("a:0/y", numbers_of(0), 998))
    assert told(people) == [("misfiled", ("a:1/x",), ("a:0", "a:1"))]


def test_scans_of_another_model_are_refused() -> None:
    few = MarginalInformation(np.zeros(10, np.float32), np.zeros(55, np.float16))
    people = {"a:1": [FiledScan("a:1/x", SeenScan(few, "a"))]}
    with pytest.raises(FacefoldError, match="10 numbers of a person and a population of 40"):
        misfiled(people, POPULATION)


def test_words_of_names_from_outside_are_printable() -> None:
    text = str(Finding("filed twice", (), ("a:\x1b[1m", "a:2"), 12.0))
    assert text == "a:\\x1b[1m and a:2 seem to be one person (log ratio 12.0)"
