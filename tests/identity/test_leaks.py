"""Whom benchmarks keep out of training, under which of their names, and by which rule."""

from __future__ import annotations

import pytest

from pipeline.errors import FacefoldError
from pipeline.identity import HeldBack, Rule, held_back, report_rows, sure

FG = Rule("fg2018", "stirling: benchmark")
NOW = Rule("now", "famos: benchmark")


def ways(rows: tuple[HeldBack, ...]) -> dict[str, tuple[str, str]]:
    return {row.name: (row.how, row.by) for row in rows}


def test_a_person_is_held_back_under_every_name_in_the_surest_way() -> None:
    names = {
        "stirling:F1": {"stirling:F1", "mica:F1", "lab:p1", "clinic:p8"},
        "lab:p2": {"lab:p2", "clinic:p9"},
    }
    same_as = {"mica:F1": "stirling:F1", "clinic:p8": "lab:p1", "clinic:p9": "lab:p2"}
    held = held_back(names, {"stirling:F1": [FG]}, same_as)
    assert list(held) == ["stirling:F1"]
    assert ways(held["stirling:F1"]) == {
        "stirling:F1": ("rule", "stirling:F1"),
        "mica:F1": ("link", "stirling:F1"),
        # a link of its own, to another name than the benchmark's
        "lab:p1": ("geometry", "stirling:F1"),
        "clinic:p8": ("geometry", "stirling:F1"),
    }
    assert {row.said_by for row in held["stirling:F1"]} == {"stirling: benchmark"}
    assert sure(held) == {"stirling:F1"}


def test_links_by_way_of_a_third_name() -> None:
    names = {"c:3": {"a:7", "b:k", "c:3"}}
    same_as = {"a:7": "b:k", "b:k": "c:3"}
    held = held_back(names, {"b:k": [NOW]}, same_as)
    assert ways(held["c:3"]) == {
        "a:7": ("link", "b:k"),
        "b:k": ("rule", "b:k"),
        "c:3": ("link", "b:k"),
    }


def test_the_nearest_of_a_benchmark_s_names_is_given() -> None:
    names = {"a:1": {"a:1", "famos:9", "famos:5"}}
    held = held_back(names, {"famos:5": [NOW], "famos:9": [NOW]}, {"a:1": "famos:9"})
    assert ways(held["a:1"])["a:1"] == ("link", "famos:9"), "famos:5 is hers by geometry alone"


def test_two_benchmarks_are_two_rows_a_name() -> None:
    held = held_back({"a:1": {"a:1"}}, {"a:1": [NOW, FG]}, {})
    assert [(row.benchmark, row.how) for row in held["a:1"]] == [
        ("fg2018", "rule"),
        ("now", "rule"),
    ]


def test_listed_matches_are_held_back_until_they_are_decided() -> None:
    names = {n: {n} for n in ("a:1", "a:2", "a:3", "stirling:F1")}
    rules = {"stirling:F1": [FG]}
    pairs = [("a:1", "stirling:F1"), ("a:2", "a:1"), ("a:3", "a:2")]
    held = held_back(names, rules, {}, pairs)
    assert held["a:1"] == (
        HeldBack("a:1", "fg2018", "undecided", "a:1", "stirling:F1", "stirling: benchmark"),
    )
    assert held.keys() == {"a:1", "stirling:F1"}, "a pair holds back nobody further"
    assert sure(held) == {"stirling:F1"}
    assert held_back(names, rules, {}, [pair[::-1] for pair in pairs]) == held
    assert held_back(names, rules, {}).keys() == {"stirling:F1"}, "decided to be different"


def test_pairs_name_people_by_any_name_and_benchmarks_that_are_not_in_the_build() -> None:
    names = {"a:1": {"a:1", "b:1"}, "a:2": {"a:2"}}
    pairs = [("b:1", "stirling:F1"), ("a:2", "stirling:F9"), ("gone:1", "stirling:F1")]
    held = held_back(names, {"stirling:F1": [FG]}, {}, pairs)
    assert ways(held["a:1"]) == {"b:1": ("undecided", "stirling:F1")}
    assert held.keys() == {"a:1"}, "no benchmark tests on F9"


def test_whoever_is_held_back_for_sure_is_not_undecided_as_well() -> None:
    names = {"stirling:F1": {"stirling:F1"}, "famos:5": {"famos:5"}}
    rules = {"stirling:F1": [FG], "famos:5": [NOW]}
    held = held_back(names, rules, {}, [("famos:5", "stirling:F1")])
    assert {row.how for rows in held.values() for row in rows} == {"rule"}


def test_a_name_with_scans_of_two_people_holds_both_back() -> None:
    # a scan filed under p1 is p2's: the benchmark that tests on p1 shows p2
    names = {"lab:p1": {"lab:p1"}, "lab:p2": {"lab:p1", "lab:p2"}, "lab:p3": {"lab:p3"}}
    held = held_back(names, {"lab:p1": [FG]}, {})
    assert ways(held["lab:p2"]) == {
        "lab:p1": ("rule", "lab:p1"),
        "lab:p2": ("geometry", "lab:p1"),
    }
    held = held_back(names, {"x:1": [FG]}, {}, [("lab:p1", "x:1")])
    assert held.keys() == {"lab:p1", "lab:p2"}


def test_circles_are_refused() -> None:
    with pytest.raises(FacefoldError, match="in a circle"):
        held_back({"a:1": {"a:1", "b:1"}}, {"a:1": [FG]}, {"a:1": "b:1", "b:1": "a:1"})


def test_the_report_counts_names_and_people_of_each_rule_and_way() -> None:
    names: dict[str, set[str]] = {f"stirling:F{i}": {f"stirling:F{i}"} for i in range(8)}
    names["stirling:F0"] |= {"lab:p1", "lab:p2"}
    rules = {f"stirling:F{i}": [FG] for i in range(8)}
    rows = report_rows(held_back(names, rules, {"lab:p2": "stirling:F0"}))
    assert [(row["how"], row["names"], row["people"]) for row in rows] == [
        ("rule", 8, 8),
        ("link", 1, 1),
        ("geometry", 1, 1),
    ]
    assert rows[0]["examples"] == [f"stirling:F{i}" for i in range(5)]
    assert rows[1]["examples"] == ["lab:p2 = stirling:F0"]
    assert {(row["benchmark"], row["said_by"]) for row in rows} == {
        ("fg2018", "stirling: benchmark")
    }
