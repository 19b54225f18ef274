"""What holds for some of a source's scans: rules by groups or path, the first that fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.build.assembly import assemble, assembly_digest
from pipeline.build.plan import make_plan
from pipeline.build.quarantine import quarantine_rows
from pipeline.catalogue import catalogue
from pipeline.errors import RegistryError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.normalise import read_record
from pipeline.registry import SourceRegistry, load_registry
from tests.small_build import build_of, outcomes_of, write_heads, write_registry, write_source

TILTED = {"up": "+y", "forward": "+z", "rotation_deg": [{"x": -34.0}]}
P1 = {"where": {"subject": "p1"}, "reason": "as measured"}
NAMES = ("p1_neutral.obj", "p1_smile.obj", "p2_neutral.obj", "p44_smile.obj")


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


def lab(tmp_path: Path, *rules: dict[str, Any], **changes: Any) -> SourceRegistry:
    write_registry(tmp_path, "lab", rules=list(rules), **changes)
    return load_registry(tmp_path / "lab.yaml")


def test_the_first_rule_that_fits_counts(tmp_path: Path) -> None:
    registry = lab(
        tmp_path,
        {"where": {"subject": "p4.", "expression": "smile"}, "unit": "cm", "reason": "x"},
        {"path": "*_SMILE.obj", "unit": "m", "reason": "x"},
        {"where": {"subject": "p[12]"}, "path": "p1_*", "unit": "inch", "reason": "x"},
    )
    found = catalogue(registry, write_source(tmp_path, "lab", *NAMES, "p45_neutral.obj"))
    told = {record.path.stem: (record.rule, record.unit) for record in found.records}
    assert told == {
        "p1_neutral": (2, "inch"),
        "p1_smile": (1, "m"),
        "p2_neutral": (None, "mm"),
        "p44_smile": (0, "cm"),
        "p45_neutral": (None, "mm"),
    }
    assert not found.unused


def test_a_value_must_fit_as_a_whole(tmp_path: Path) -> None:
    registry = lab(tmp_path, {"where": {"subject": "p4"}, "unit": "cm", "reason": "x"})
    assert registry.rule_of({"subject": "p44"}, "p44_smile.obj") is None
    assert registry.rule_of({"subject": "p4"}, "p4_smile.obj") == 0


def test_scans_of_a_rule_are_read_as_it_says(tmp_path: Path) -> None:
    rule = {**P1, "axes": {"up": "+z", "forward": "-y"}, "unit": "cm"}
    root = write_heads(tmp_path, "lab", NAMES[::2])
    registry = lab(tmp_path, rule, landmarks="none", axes=TILTED)
    first, second = catalogue(registry, root).records
    # written in mm: as centimetres the same numbers are ten times too large
    with pytest.raises(Exception, match="likely in mm"):
        read_record(first, registry)
    registry = lab(tmp_path, {**rule, "unit": "mm"}, landmarks="none", axes=TILTED)
    ruled = registry.under(0)
    assert ruled.axes is not None and registry.axes is not None
    for record, axes in ((first, ruled.axes), (second, registry.axes)):
        scan = read_record(catalogue(registry, root).records[record is second], registry)
        np.testing.assert_allclose(scan.source_to_canonical[:3, :3], axes.rotation(), atol=1e-12)


def test_limits_of_a_rule_change_those_alone_that_it_states(tmp_path: Path) -> None:
    rule = {**P1, "limits": {"outer_eye_mm": [60.0, 100.0]}}
    registry = lab(tmp_path, rule, limits={"turn_deg": 70.0, "max_rejected_share": 0.4})
    limits = registry.under(0).limits
    assert limits.outer_eye_mm == (60.0, 100.0)
    assert (limits.turn_deg, limits.max_rejected_share) == (70.0, 0.4)
    assert registry.under(None).limits.outer_eye_mm == (80.0, 105.0)


def test_landmarks_of_a_rule(tmp_path: Path) -> None:
    other = {"file": "other/{stem}.pp", "format": "pp", "scheme": "fg7", "required": True}
    root = write_source(tmp_path, "lab", *NAMES, "p1_neutral.npy", "p2_neutral.npy")
    registry = lab(
        tmp_path,
        {**P1, "landmarks": "none"},
        {"where": {"subject": "p44"}, "landmarks": other, "reason": "x"},
    )
    (root / "other").mkdir()
    (root / "other" / "p1_smile.pp").write_text("")
    found = catalogue(registry, root)
    marks = {r.path.stem: r.landmark_path and r.landmark_path.name for r in found.records}
    wanted = {"p2_neutral": "p2_neutral.npy", "p44_smile": "p44_smile.pp"}
    assert marks == {"p1_neutral": None, "p1_smile": None, **wanted}
    assert "other/p1_smile.pp" in found.companions


def test_a_rule_is_in_the_keys_of_its_scans_alone(tmp_path: Path, model: FlameModel) -> None:
    write_source(tmp_path, "lab", *NAMES)
    config = build_of(tmp_path, "lab")

    def keys(*rules: dict[str, Any]) -> dict[str, str]:
        lab(tmp_path, *rules)
        return {w.record.scan_id: w.keys.read for w in make_plan(config, model).works}

    before = keys()
    for change in ({"axes": TILTED}, {"unit": "cm"}, {"limits": {"extent_mm": [50.0, 700.0]}}):
        after = keys({**P1, **change})
        assert {k for k in before if before[k] != after[k]} == {"lab:p1_neutral", "lab:p1_smile"}
    # what is said about scans is not in the key of reading them
    told: dict[str, Any] = {"neutral": "all", "benchmark": "now", "same_as": "other:{subject}"}
    assert keys({**P1, **told}) == before


def test_people_expressions_and_benchmarks_of_a_rule(tmp_path: Path, model: FlameModel) -> None:
    root = write_source(tmp_path, "lab", *NAMES, "p3_neutral.obj")
    registry = lab(
        tmp_path,
        {**P1, "neutral": ["smile"], "benchmark": "now"},
        {"where": {"subject": "p2"}, "same_as": "other:a{subject}", "reason": "x"},
        {"where": {"subject": "p3"}, "neutral": "all", "same_as": "other:x", "reason": "x"},
        expressions={"smile": "smile"},
    )
    assert {r.path.stem: r.expression_class for r in catalogue(registry, root).records} == {
        "p1_neutral": "unknown",
        "p1_smile": "neutral",
        "p2_neutral": "neutral",
        "p3_neutral": "neutral",
        "p44_smile": "smile",
    }
    config = build_of(tmp_path, "lab", splits={"train": 1.0})
    plan = make_plan(config, model)
    outcomes = outcomes_of(config, plan)
    refused = quarantine_rows(config, plan, outcomes)
    digest = assembly_digest(config, plan, outcomes, refused, model)
    table = assemble(config, plan, outcomes, refused, model, digest).manifest
    rows = {row["scan_id"]: row for row in table.to_pylist()}
    assert {scan[4:6]: row["identity"] for scan, row in rows.items()} == {
        "p1": "lab:p1",
        "p2": "other:ap2",
        "p3": "other:x",
        "p4": "lab:p44",
    }
    assert {row["benchmark"] for scan, row in rows.items() if "p1" in scan} == {"now"}
    assert {row["split"] for scan, row in rows.items() if "p1" in scan} == {"test"}
    others = [row for scan, row in rows.items() if "p1" not in scan]
    assert {(row["benchmark"], row["split"]) for row in others} == {(None, "train")}


def test_people_of_a_rules_benchmark_are_known_when_the_source_is_not_built(
    tmp_path: Path,
) -> None:
    registry = lab(tmp_path, {**P1, "benchmark": "now"})
    assert registry.may_be_tested_on("p1") and not registry.may_be_tested_on("p10")
    by_path = lab(tmp_path, {"path": "p1_*", "benchmark": "now", "reason": "x"})
    assert by_path.may_be_tested_on("p10"), "paths of people are unknown without the folder"


def test_what_fits_no_scan_is_reported(tmp_path: Path) -> None:
    registry = lab(
        tmp_path,
        {**P1, "unit": "mm"},
        {"where": {"subject": "p1", "expression": "smile"}, "unit": "cm", "reason": "x"},
        {"path": "raw/**", "unit": "m", "reason": "x"},
        neutral=["neutral", "rest"],
        expressions={"sm*": "smile", "sad*": "sadness"},
        limits={"turned_deg": {"YR*": 90.0}},
    )
    unused = catalogue(registry, write_source_again(tmp_path)).unused
    assert unused == (
        "rules.1 (expression smile, subject p1) fits no scan that no earlier rule fits",
        "rules.2 (path raw/**) fits no scan that no earlier rule fits",
        "neutral: no scan has the expression 'rest'",
        "expressions: no scan has an expression like 'sad*'",
        "limits.turned_deg: no scan has an expression like 'YR*'",
    )


def write_source_again(tmp_path: Path) -> Path:
    root = tmp_path / "lab"
    root.mkdir()
    for name in NAMES:
        (root / name).write_text(name)
    return root


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({"unit": "cm", "reason": "x"}, "`where` or `path`, which say for which scans"),
        ({**P1}, "at least one of unit, axes, landmarks, views, neutral, benchmark, "),
        ({"where": {"subject": "p1"}, "unit": "cm"}, "rules.0.reason: got nothing"),
        ({**P1, "unit": "ft"}, 'rules.0.unit: got "ft"'),
        ({**P1, "unit": None}, "a value of unit, or no such field"),
        ({**P1, "axes": None}, "a value, or the word `unknown`"),
        ({**P1, "title": "x"}, "rules.0.title: got an unknown field"),
        ({**P1, "unit": "cm", "where": {"subject": "("}}, "a regular expression"),
        ({**P1, "unit": "cm", "where": {"subjct": "x"}}, "rules.0.where.subjct: got subjct"),
        ({**P1, "unit": "cm", "path": "/x"}, "a glob relative to the root"),
        ({**P1, "same_as": "lab:{subject}"}, "a subject of another source"),
        ({**P1, "limits": {"max_rejected_share": 1.0}}, "no limits.max_rejected_share"),
        ({**P1, "landmarks": {"file": "{x}.pp", "format": "pp", "scheme": "fg7"}},
         "rules.0.landmarks.file: got {x}"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be(tmp_path: Path, rule: dict[str, Any], fault: str) -> None:
    with pytest.raises(RegistryError) as caught:
        lab(tmp_path, rule)
    assert fault in str(caught.value)
