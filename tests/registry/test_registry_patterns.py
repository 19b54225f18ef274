"""Links and benchmarks of some of a source's people: by name, by pattern, and faulty patterns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.catalogue import catalogue
from pipeline.errors import RegistryError
from pipeline.registry import SourceRegistry, load_registry, registry_schema
from pipeline.registry.patterns import is_pattern, linked
from tests.small_build import write_registry, write_source


def lab(tmp_path: Path, **changes: Any) -> SourceRegistry:
    write_registry(tmp_path, "lab", **changes)
    return load_registry(tmp_path / "lab.yaml")


def test_names_go_before_patterns_and_patterns_before_all_others() -> None:
    same_as = {
        "*": "rest:{subject}",
        r"F(\d{3})": r"bp4d:F\1",
        r"(?P<sex>[FM])(?P<n>\d+)": r"bu:\g<n>_\g<sex>",
        "F007": "spy:{subject}",
    }
    found = {name: linked(same_as, name) for name in ("F007", "F008", "F0081", "M1", "xF008", "*")}
    assert found == {
        "F007": "spy:F007",
        "F008": "bp4d:F008",
        "F0081": "bu:0081_F",
        "M1": "bu:1_M",
        "xF008": "rest:xF008",
        "*": "rest:*",
    }
    assert linked({r"F(\d)": r"a:\1"}, "M1") is None


def test_what_a_group_found_is_taken_as_it_is() -> None:
    # neither a backslash nor braces in a name are read again
    assert linked({"(.*)": r"a:\1/{subject}"}, r"x\1{subject}") == r"a:x\1{subject}/x\1{subject}"
    assert linked({"x(y)?(z)": r"a:\1\2"}, "xz") == "a:z", "a group that found nothing is empty"


@pytest.mark.parametrize("name", ["1+2", "o.hara", "a*", "p1", "12-7 b", "x?"])
def test_names_with_a_dot_or_a_plus_are_no_patterns(name: str) -> None:
    assert not is_pattern(name)
    assert linked({name: "a:1"}, name) == "a:1"
    assert linked({"1.2": "a:1"}, "102") is None


def test_a_rule_s_groups_stand_in_its_link(tmp_path: Path) -> None:
    rule = {"where": {"subject": r"p(\d)\d"}, "same_as": r"other:q\1", "reason": "x"}
    plain = {"where": {"expression": "smile"}, "same_as": "smiles:{subject}", "reason": "x"}
    known = {"p77": "best:friend", r"p(\d)\d": "file:all", "*": "rest:x"}
    registry = lab(tmp_path, rules=[rule, plain], subjects={"same_as": known})
    ruled = registry.under(0)
    assert ruled.same_as("p34") == "other:q3", "the rule goes before what the file says of all"
    assert ruled.same_as("p77") == "best:friend", "and after what it says of one"
    assert registry.under(1).same_as("p34") == "smiles:p34"
    assert registry.same_as("p34") == "file:all"


def test_a_benchmark_of_some_subjects(tmp_path: Path) -> None:
    registry = lab(tmp_path, benchmark={"name": "now", "subjects": "p[12]"})
    found = {name: registry.benchmark_of(name) for name in ("p1", "p2", "p3", "p12")}
    assert found == {"p1": "now", "p2": "now", "p3": None, "p12": None}
    assert str(registry.benchmark) == "now (p[12])"
    assert registry.may_be_tested_on("p1") == {"benchmark": "now"}
    assert not registry.may_be_tested_on("p3")
    everyone = lab(tmp_path, benchmark="now")
    assert everyone.benchmark_of("p3") == "now" and str(everyone.benchmark) == "now"
    assert lab(tmp_path, benchmark=None).benchmark is None


def test_a_rule_lifts_or_replaces_the_source_s_benchmark(tmp_path: Path) -> None:
    rules = [
        {"where": {"subject": "p1"}, "benchmark": None, "reason": "x"},
        {"where": {"subject": "p2"}, "benchmark": "realy", "reason": "x"},
    ]
    registry = lab(tmp_path, benchmark={"name": "now", "subjects": "p[1-3]"}, rules=rules)
    assert registry.under(0).benchmark_of("p1") is None
    assert registry.under(1).benchmark_of("p2") == "realy"
    assert registry.under(None).benchmark_of("p3") == "now"
    # without a folder nobody knows which scans there are
    assert registry.may_be_tested_on("p2") == {"benchmark": "now", "rules.1.benchmark": "realy"}


def test_patterns_that_fit_nobody_are_listed(tmp_path: Path) -> None:
    root = write_source(tmp_path, "lab", "p1_neutral.obj", "p2_neutral.obj")
    same_as = {"p9": "other:9", r"p([12])": r"other:\1", r"F(\d+)": r"other:\1"}
    subjects = {"same_as": same_as}
    registry = lab(tmp_path, benchmark={"name": "now", "subjects": "F.*"}, subjects=subjects)
    unused = catalogue(registry, root).unused
    assert [line for line in unused if "subject" in line] == [
        r"subjects.same_as.F(\d+): F(\d+) fits no subject as a whole; they are called p1, p2 …",
        "benchmark.subjects: F.* fits no subject as a whole; they are called p1, p2 …",
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"subjects": {"same_as": {r"F(\d)": r"other:\2"}}},
            r"subjects.same_as.F(\d): got other:\2, expected a pattern with a group 2: F(\d) has 1",
        ),
        (
            {"subjects": {"same_as": {r"F(\d)": r"other:\g<n>"}}},
            r"expected a pattern with a group (?P<n>…): F(\d) has none",
        ),
        ({"subjects": {"same_as": {"*": r"other:\1"}}}, "a pattern with a group 1: * has 0"),
        ({"subjects": {"same_as": {r"F(\d": r"other:\1"}}}, r"a regular expression (missing ), un"),
        (
            {"subjects": {"same_as": {r"F(\d)": r"lab:\1"}}},
            r"subjects.same_as.F(\d): got lab:\1, expected a subject of another source",
        ),
        (
            {"rules": [{"where": {"subject": "p2"}, "same_as": r"other:\1", "reason": "x"}]},
            r"rules.0.same_as: got other:\1, expected a pattern with a group 1: (?:p2) has 0",
        ),
        ({"benchmark": 5}, "benchmark: got 5, expected a name, or {name: …, subjects: …}"),
        ({"benchmark": ""}, "benchmark.name: got"),
        ({"benchmark": {"subjects": "x"}}, "benchmark.name: got nothing, expected this field"),
        ({"benchmark": {"name": "x", "subjects": "("}}, "benchmark.subjects: got"),
        ({"benchmark": {"name": "x", "subject": "y"}}, "did you mean subjects?"),
    ],
)
def test_patterns_that_cannot_be(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(RegistryError) as caught:
        lab(tmp_path, **changes)
    assert fault in str(caught.value)


def test_the_schema_takes_a_benchmark_s_name_or_its_section() -> None:
    choices = registry_schema()["properties"]["benchmark"]["anyOf"]
    assert [choice.get("type") or choice.get("$ref") for choice in choices] == [
        "string",
        "#/$defs/Benchmark",
        "null",
    ]
    assert "subjects" in json.dumps(registry_schema()["$defs"]["Benchmark"])
