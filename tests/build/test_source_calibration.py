"""A source's calibration as a result of a build: its sample, its record, the keys after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.build.config import BuildConfig
from pipeline.build.ledger import Result, open_ledger, record
from pipeline.build.plan import Plan, calibrated, ledger_path, make_plan
from pipeline.build.source_calibration import (
    MOST_SCANS,
    Sample,
    calibration_of,
    calibrations_of,
    report_row,
    result_of,
    sample_of,
)
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.registration import RegistrationOptions
from pipeline.registration.landmarks.offsets import MIN_SCANS, Observed
from pipeline.types import Array, ScanRecord
from tests.benchmarks.cases import without_landmarks
from tests.registration.model_scans import make_scan
from tests.small_build import build_of, write_source

PEOPLE = 12


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


def scan_record(subject: int, expression: str, frame: int = 0) -> ScanRecord:
    return ScanRecord(
        "lab",
        f"lab:p{subject}_{expression}_{frame}",
        f"p{subject}",
        "",
        expression,
        expression == "neutral",
        Path("x.obj"),
        "obj",
        "mm",
        Path("x.npy"),
        (),
        "hash",
        frame=frame,
    )


def test_a_sample_has_everybody_once_before_anybody_twice_and_neutral_scans_first() -> None:
    records = [
        scan_record(subject, expression, frame)
        for subject in range(25)
        for expression in (("smile", "neutral") if subject < 20 else ("smile",))
        for frame in range(3)
    ]
    sample = sample_of(records)
    assert sample == sample_of(records[::-1]) and len(sample) == MOST_SCANS
    assert len({record.subject for record in sample[:25]}) == 25
    assert [record.neutral for record in sample[:25]] == [True] * 20 + [False] * 5
    more = [*records, scan_record(3, "neutral", 9)]
    assert len({r.scan_id for r in sample_of(more)} - {r.scan_id for r in sample}) <= 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source whose scans nothing could read, most of them with landmark files."""
    names = [f"p{i}_{what}.obj" for i in range(PEOPLE) for what in ("neutral", "smile")]
    marks = [f"p{i}_neutral.npy" for i in range(PEOPLE)]
    write_source(tmp_path, "lab", *names, *marks)
    return tmp_path


@pytest.fixture
def config(folder: Path) -> BuildConfig:
    return build_of(folder, "lab")


def observations(model: FlameModel, offset: Array, count: int = PEOPLE) -> dict[str, Observed]:
    assert model.landmarks is not None
    rng = np.random.default_rng(1)
    shape = (len(model.landmarks.indices_68), 3)
    return {
        f"lab:p{i}_neutral": Observed(offset + rng.normal(scale=0.5, size=shape), 0.5)
        for i in range(count)
    }


def record_calibration(
    config: BuildConfig, sample: Sample, model: FlameModel, up_mm: float, count: int = PEOPLE
) -> Result:
    found = observations(model, np.array([0.0, up_mm, 0.0]), count)
    result = result_of(sample.key, sample.source, model, sample.scheme, found)
    with open_ledger(ledger_path(config)) as ledger:
        record(ledger, [result])
    return result


def register_keys(plan: Plan) -> dict[str, str]:
    return {work.record.scan_id: work.keys.register for work in plan.works}


def test_what_is_recorded_is_what_registration_takes(
    config: BuildConfig, model: FlameModel
) -> None:
    [sample] = make_plan(config, model).samples
    result = record_calibration(config, sample, model, 1.5)
    [source] = calibrated(make_plan(config, model), config, model).sources
    found = calibration_of(source.calibrations["ibug68"])
    np.testing.assert_array_equal(found.offset_mm, calibration_of(result).offset_mm)
    assert found.scans == PEOPLE
    assert np.median(found.offset_mm[:, 1]) == pytest.approx(1.4, abs=0.3)
    row = report_row(result, model, 99)
    assert (row["scans"], row["calibrated_from"]) == (99, PEOPLE)
    assert row["mean_offset_mm"] == pytest.approx(1.5, abs=0.3) and not row["odd"]


def test_a_calibration_changes_the_keys_of_scans_with_landmarks_alone(
    config: BuildConfig, model: FlameModel
) -> None:
    plan = make_plan(config, model)
    [sample] = plan.samples
    assert (sample.source, sample.scheme, len(sample.works)) == ("lab", "ibug68", PEOPLE)
    record_calibration(config, sample, model, 1.5)
    after = calibrated(plan, config, model)
    assert after.samples == ()
    before_keys, after_keys = register_keys(plan), register_keys(after)
    other = {scan for scan in before_keys if before_keys[scan] != after_keys[scan]}
    assert other == {f"lab:p{i}_neutral" for i in range(PEOPLE)}
    assert [w.keys.read for w in plan.works] == [w.keys.read for w in after.works]


def test_added_scans_change_no_key_and_only_recalibration_does(
    folder: Path, config: BuildConfig, model: FlameModel
) -> None:
    [sample] = make_plan(config, model).samples
    record_calibration(config, sample, model, 1.5)
    before = register_keys(make_plan(config, model))
    for name in ("p90_neutral.obj", "p90_neutral.npy", "p91_smile.obj"):
        (folder / "lab" / name).write_text(name)
    plan = make_plan(config, model)
    after = register_keys(plan)
    assert plan.samples == () and before.items() <= after.items() and len(after) == len(before) + 2

    plan = make_plan(config, model, recalibrate=True)
    [again] = plan.samples
    assert again.key == sample.key and len(again.works) == PEOPLE + 1
    record_calibration(config, again, model, 1.5)  # from as many: the values are the same
    assert register_keys(calibrated(plan, config, model)) == after
    record_calibration(config, again, model, 2.5)
    moved = register_keys(calibrated(plan, config, model))
    changed = {scan for scan in moved if moved[scan] != after[scan]}
    assert changed == {"lab:p90_neutral", *(f"lab:p{i}_neutral" for i in range(PEOPLE))}


def test_a_source_that_had_too_few_scans_stays_as_it_is(tmp_path: Path, model: FlameModel) -> None:
    few = [f"p{i}_neutral.{suffix}" for i in range(MIN_SCANS - 1) for suffix in ("obj", "npy")]
    write_source(tmp_path, "lab", *few)
    config = build_of(tmp_path, "lab")
    plan = make_plan(config, model)
    [sample] = plan.samples
    result = record_calibration(config, sample, model, 1.5, count=MIN_SCANS - 1)
    after = calibrated(plan, config, model)
    assert register_keys(after) == register_keys(plan)
    assert report_row(result, model, MIN_SCANS - 1)["mean_offset_mm"] is None
    write_source(tmp_path, "lab", *(f"p{i}_neutral.{s}" for i in range(20) for s in ("obj", "npy")))
    more = make_plan(config, model)
    assert more.samples == () and register_keys(after).items() <= register_keys(more).items()


@pytest.mark.parametrize(
    "change",
    [{"unit": "cm"}, {"axes": {"up": "+z", "forward": "+y"}}, {"registration": {"modes": 7}}],
    ids=["unit", "axes", "options"],
)
def test_other_rules_of_reading_and_registering_ask_for_another_calibration(
    folder: Path,
    config: BuildConfig,
    model: FlameModel,
    change: dict[str, object],
) -> None:
    [sample] = make_plan(config, model).samples
    record_calibration(config, sample, model, 1.5)
    write_source(folder, "lab", **change)
    [again] = make_plan(build_of(folder, "lab"), model).samples
    assert again.key != sample.key


def test_a_model_without_landmarks_needs_none(config: BuildConfig, model: FlameModel) -> None:
    assert make_plan(config, replace(model, landmarks=None)).samples == ()


def test_the_report_names_landmarks_that_are_too_far_off(model: FlameModel) -> None:
    assert model.landmarks is not None
    offset = np.zeros((len(model.landmarks.indices_68), 3))
    offset[model.landmarks.indices_68 == 30] = [0.0, 20.0, 0.0]
    result = result_of("key", "lab", model, "ibug68", observations(model, offset))
    assert report_row(result, model, 12)["odd"].startswith("nose tip 1")


def test_files_without_landmarks_and_too_few_are_not_calibrated(model: FlameModel) -> None:
    options = RegistrationOptions(model_iterations=0, residual_iterations=1, modes=1)
    scan = make_scan(model, 1).scan
    assert calibrations_of([without_landmarks(scan, True)] * MIN_SCANS, options, model) == {}
    assert calibrations_of([scan], options, model) == {}
    found = calibrations_of([scan] * MIN_SCANS, options, model)
    assert found["ibug68"].scans == MIN_SCANS
