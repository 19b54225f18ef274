"""The people of a build: who is held back from training by which rule, and what profiles change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.build.leak_guards import People, links_of, people_of
from pipeline.build.plan import Plan, make_plan
from pipeline.build.run import plan_build
from pipeline.errors import FacefoldError, RegistryError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.identity import split_of
from tests.small_build import build_of, write_registry, write_source

PEOPLE = tuple(f"p{i}_neutral.obj" for i in range(8))
TRAIN = {"splits": {"train": 1.0}}


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sources, lab and clinic, with people p0 … p7 each."""
    for source in ("lab", "clinic"):
        write_source(tmp_path, source, *PEOPLE)
    return tmp_path


def plan_of(folder: Path, model: FlameModel, *sources: str, **fields: Any) -> tuple[Any, Plan]:
    config = build_of(folder, *(sources or ("lab", "clinic")), **{**TRAIN, **fields})
    return config, make_plan(config, model)


def people(folder: Path, model: FlameModel, *sources: str, **fields: Any) -> People:
    return people_of(*plan_of(folder, model, *sources, **fields))


def held(found: People) -> dict[str, list[tuple[str, str, str, str]]]:
    return {
        person: [(row.name, row.how, row.by, row.said_by) for row in rows]
        for person, rows in found.held.items()
    }


def profile(folder: Path, **sources: Any) -> str:
    content = {"id": "own", "title": "x", "sources": sources}
    (folder / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return "own.yaml"


def test_a_benchmark_of_some_of_a_source_s_people(folder: Path, model: FlameModel) -> None:
    write_registry(folder, "lab", benchmark={"name": "now", "subjects": "p[12]"})
    write_registry(folder, "clinic", subjects={"same_as": {"p5": "lab:p1"}})
    found = people(folder, model)
    rule = "lab: benchmark"
    assert held(found) == {
        "lab:p1": [("clinic:p5", "link", "lab:p1", rule), ("lab:p1", "rule", "lab:p1", rule)],
        "lab:p2": [("lab:p2", "rule", "lab:p2", rule)],
    }
    assert {person for person, split in found.split.items() if split == "test"} == {
        "lab:p1",
        "lab:p2",
    }


def test_whoever_geometry_unites_with_a_benchmark_s_person(folder: Path, model: FlameModel) -> None:
    write_registry(folder, "lab", benchmark={"name": "now", "subjects": "p1"})
    config, plan = plan_of(folder, model)
    identity = dict(people_of(config, plan).identity)
    identity["clinic:p6_neutral"] = "lab:p1"
    found = people_of(config, plan, identity, undecided=[("clinic:p7", "lab:p1")])
    assert held(found)["lab:p1"][0][:3] == ("clinic:p6", "geometry", "lab:p1")
    assert held(found)["clinic:p7"] == [("clinic:p7", "undecided", "lab:p1", "lab: benchmark")]
    assert (found.split["lab:p1"], found.split["clinic:p7"]) == ("test", "undecided")
    assert found.split["clinic:p5"] == "train"


def test_a_benchmark_that_is_not_in_the_build_holds_back_undecided_people(
    folder: Path, model: FlameModel
) -> None:
    config, plan = plan_of(folder, model)
    found = people_of(config, plan, undecided=[("lab:p1", "stirling:F1001"), ("lab:p2", "x:1")])
    assert held(found) == {
        "lab:p1": [("lab:p1", "undecided", "stirling:F1001", "stirling: benchmark")]
    }


def test_rules_of_scans_and_of_people_who_have_none(folder: Path, model: FlameModel) -> None:
    rules = [
        {"path": "p1_*", "benchmark": "now", "reason": "x"},
        {"where": {"subject": "p[29]"}, "benchmark": "now", "reason": "x"},
    ]
    write_registry(folder, "lab", rules=rules)
    # p9 is scanned at the clinic alone, and so may be of any path
    write_registry(folder, "clinic", subjects={"same_as": {"p5": "lab:p9", "p6": "lab:p3"}})
    assert held(people(folder, model)) == {
        "lab:p1": [("lab:p1", "rule", "lab:p1", "lab: rules.0.benchmark")],
        "lab:p2": [("lab:p2", "rule", "lab:p2", "lab: rules.1.benchmark")],
        "lab:p9": [
            ("clinic:p5", "link", "lab:p9", "lab: rules.0.benchmark"),
            ("lab:p9", "rule", "lab:p9", "lab: rules.0.benchmark"),
        ],
    }


def test_links_by_pattern(folder: Path, model: FlameModel) -> None:
    same = {r"p([5-7])": r"lab:p0\1", "p7": "lab:p7"}
    write_registry(folder, "clinic", subjects={"same_as": same})
    identity = people(folder, model).identity
    found = {scan: person for scan, person in identity.items() if scan[:6] == "clinic"}
    assert {scan[7:9]: person for scan, person in found.items()} == {
        **{f"p{i}": f"clinic:p{i}" for i in range(5)},
        "p5": "lab:p05",
        "p6": "lab:p06",
        "p7": "lab:p7",
    }


def test_links_lead_on_through_sources_that_are_not_in_the_build(
    folder: Path, model: FlameModel
) -> None:
    write_registry(folder, "lab", subjects={"same_as": {"p1": "facescape_mv:122"}})
    _, plan = plan_of(folder, model, "lab")
    assert links_of(plan) == {
        "lab:p1": "facescape_mv:122",
        "facescape_mv:122": "facescape_tu:122",
    }


def test_a_circle_made_by_patterns_is_refused_before_any_scan_is_opened(folder: Path) -> None:
    write_registry(folder, "lab", subjects={"same_as": {r"p([0-3])": r"clinic:p\1"}})
    write_registry(folder, "clinic", subjects={"same_as": {r"p([3-7])": r"lab:p\1"}})
    config = build_of(folder, "lab", "clinic", model="stand-in")
    with pytest.raises(FacefoldError, match=r"circle: .*:p3 -> .*:p3 -> .*:p3; let all but one"):
        plan_build(config)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"benchmark": {"name": "now", "subjects": "F.*"}}, "benchmark.subjects: F.* fits no sub"),
        (
            {"subjects": {"same_as": {"F(.*)": r"lab:\1"}}},
            r"subjects.same_as.F\(.*\): F\(.*\) fits no subject as a whole; .* p0, p1, p2 …; cor",
        ),
    ],
)
def test_a_pattern_that_fits_nobody_is_refused(
    folder: Path, model: FlameModel, changes: dict[str, Any], fault: str
) -> None:
    write_registry(folder, "clinic", **changes)
    with pytest.raises(RegistryError, match=fault.replace("F.* fits", r"F\.\* fits")):
        plan_of(folder, model)


def test_a_profile_lets_a_benchmark_s_people_train(folder: Path, model: FlameModel) -> None:
    write_registry(folder, "lab", benchmark="realy")
    write_registry(folder, "clinic", subjects={"same_as": {"p1": "lab:p1"}})
    assert set(people(folder, model).held) == {f"lab:p{i}" for i in range(8)}
    lifted = profile(folder, lab={"reason": "found by geometry"})
    found = people(folder, model, profile=lifted)
    assert not found.held and set(found.split.values()) == {"train"}
    shares = {"splits": {"train": 0.5, "val": 0.5}}
    by_hash = people(folder, model, **shares, profile=lifted).split
    assert by_hash["lab:p3"] == split_of("lab:p3", shares["splits"], 0)
    stated = profile(folder, lab={"split": "val", "subjects": "p[0-3]", "reason": "x"})
    found = people(folder, model, **shares, profile=stated)
    assert {found.split[f"lab:p{i}"] for i in range(4)} == {"val"}
    assert set(found.held) == {f"lab:p{i}" for i in range(4, 8)}


def test_a_profile_holds_for_other_names_of_its_people_and_no_other_benchmark_is_lifted(
    folder: Path, model: FlameModel
) -> None:
    # the clinic's people are the lab's, as those of mica_stirling are Stirling's
    write_registry(folder, "lab", benchmark="fg2018")
    write_registry(
        folder, "clinic", benchmark="fg2018", subjects={"same_as": {"*": "lab:{subject}"}}
    )
    train = profile(folder, lab={"split": "train", "reason": "x"})
    found = people(folder, model, splits={"train": 0.2, "val": 0.4, "test": 0.4}, profile=train)
    assert not found.held and set(found.split.values()) == {"train"}
    # a third source's own test scans that geometry finds to be of the same person stay out
    write_source(folder, "faces", "p0_neutral.obj", benchmark="realy")
    config, plan = plan_of(folder, model, "lab", "clinic", "faces", profile=train)
    identity = dict(people_of(config, plan).identity)
    identity["faces:p0_neutral"] = "lab:p3"
    found = people_of(config, plan, identity)
    assert found.split["lab:p3"] == "test" and found.split["lab:p4"] == "train"
    assert {row.how for row in found.held["lab:p3"]} == {"rule", "geometry"}


def test_the_splits_of_mica(tmp_path: Path, model: FlameModel) -> None:
    write_source(tmp_path, "lab", *PEOPLE)
    others = ("headspace:1", "florence:01", "bp4dplus:F001", "bp4dplus:F008", "now:x", "famos:x")
    links = {f"p{i}": name for i, name in enumerate(others)}
    write_registry(tmp_path, "lab", subjects={"same_as": links})
    splits = {"train": 0.0, "val": 0.0, "test": 0.0, "rest": 1.0}
    found = people(tmp_path, model, "lab", splits=splits, profile="mica").split
    assert found == {
        "headspace:1": "train",
        "florence:01": "val",
        "bp4dplus:F001": "train",
        "bp4dplus:F008": "rest",
        "now:x": "test",
        "famos:x": "test",
        "lab:p6": "rest",
        "lab:p7": "rest",
    }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"id": "own"}, "own.yaml: title: got nothing, expected this field: Whose split it is"),
        ({"id": "other", "title": "x"}, "own.yaml: id: got other, expected own"),
        (
            {"id": "own", "title": "x", "sources": {"lab": {"split": "dev", "reason": "x"}}},
            "profile: got the split dev of lab in .*, expected one of test, undecided, val, train",
        ),
        (
            {"id": "own", "title": "x", "sources": {"lab": {"subjects": "(", "reason": "x"}}},
            r'sources.lab.subjects: got "\(", expected a regular expression',
        ),
    ],
)
def test_profiles_that_cannot_be(folder: Path, content: dict[str, Any], fault: str) -> None:
    (folder / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(RegistryError, match=fault):
        build_of(folder, "lab", profile="own.yaml")
    with pytest.raises(RegistryError, match="no such profile, expected a file or one of mica"):
        build_of(folder, "lab", profile="micah")
