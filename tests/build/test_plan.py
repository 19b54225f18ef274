"""A scan's key follows all that its result depends on and nothing else; what is known is reused."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.build.config import BuildConfig
from pipeline.build.ledger import Keys, Result, open_ledger, record, recorded
from pipeline.build.plan import batches, ledger_path, make_plan
from pipeline.build.result_files import result_path, scan_path
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.refusals import Code
from pipeline.types import Refusal
from tests.small_build import build_of, write_registry, write_source

LAB = ("lab:p1_neutral", "lab:p1_smile", "lab:p2_neutral")
CLINIC = ("clinic:p1_neutral", "clinic:p7_smile")


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sources whose scans nothing could read: a plan opens them only to hash them."""
    write_source(
        tmp_path, "lab", "p2_neutral.obj", "p1_smile.obj", "p1_neutral.obj", "p1_smile.npy"
    )
    write_source(tmp_path, "clinic", "p7_smile.obj", "p1_neutral.obj", "p7_smile.npy")
    return tmp_path


def build(folder: Path, **fields: Any) -> BuildConfig:
    return build_of(folder, "lab", "clinic", **fields)


def keys(folder: Path, model: FlameModel, **fields: Any) -> dict[str, Keys]:
    plan = make_plan(build(folder, **fields), model)
    return {work.record.scan_id: work.keys for work in plan.works}


def changed(before: dict[str, Keys], after: dict[str, Keys], stage: str = "judge") -> set[str]:
    """Scans whose result of a stage has another key."""

    def key(scans: dict[str, Keys], scan: str) -> str | None:
        return getattr(scans[scan], stage) if scan in scans else None

    return {scan for scan in before | after if key(before, scan) != key(after, scan)}


def test_every_scan_has_a_key_of_its_own_source_by_source(folder: Path, model: FlameModel) -> None:
    plan = make_plan(build(folder), model)
    assert [work.record.scan_id for work in plan.works] == [*LAB, *CLINIC]
    assert len({key for work in plan.works for key in work.keys}) == 15
    assert plan.known == {} and plan.todo == list(plan.works)
    assert {plan.first_stage(work) for work in plan.works} == {"read"}
    sources = [plan.by_id[work.record.source].registry.id for work in plan.works]
    assert sources == ["lab"] * 3 + ["clinic"] * 2


def test_keys_of_a_scan_lie_side_by_side(folder: Path, model: FlameModel) -> None:
    """So that the results of a scan are on one page of the ledger."""
    found = keys(folder, model)
    in_order = sorted(key for scan in found.values() for key in scan)
    for i in range(0, len(in_order), 3):
        assert set(in_order[i : i + 3]) in [set(scan) for scan in found.values()]
    assert {len(key) for key in in_order} == {64}
    assert len({key[16:] for key in in_order}) == len(in_order)


def test_keys_follow_the_bytes_of_scans_and_of_landmarks(folder: Path, model: FlameModel) -> None:
    before = keys(folder, model)
    (folder / "lab" / "p2_neutral.obj").write_bytes(b"scanned again")
    assert changed(before, keys(folder, model)) == {"lab:p2_neutral"}
    (folder / "clinic" / "p7_smile.npy").write_bytes(b"marked again")
    (folder / "lab" / "p1_neutral.npy").write_bytes(b"marked for the first time")
    assert changed(before, keys(folder, model)) == {
        *("lab:p2_neutral", "clinic:p7_smile", "lab:p1_neutral")
    }


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "m"},
        {"axes": {"up": "+z", "forward": "-y"}},
        {"axes": "unknown"},
        {"landmarks": "none"},
        {"landmarks": {"file": "{stem}.npy", "format": "npy", "scheme": "menpo68"}},
        {"limits": {"outer_eye_mm": [70.0, 105.0]}},
        {"limits": {"extent_mm": [80.0, 500.0]}},
        {"metric": False, "scale": {"factor": 0.25}},
    ],
    ids=str,
)
def test_keys_follow_what_the_registry_says_of_the_scans(
    folder: Path, model: FlameModel, change: dict[str, Any]
) -> None:
    before = keys(folder, model)
    write_registry(folder, "lab", **change)
    assert changed(before, keys(folder, model), "read") == set(LAB)


def test_keys_follow_limits_of_an_expression_where_they_hold(
    folder: Path, model: FlameModel
) -> None:
    before = keys(folder, model)
    write_registry(folder, "lab", limits={"turned_deg": {"smile": 100}})
    assert changed(before, keys(folder, model)) == {"lab:p1_smile"}


def test_keys_follow_the_camera_and_each_scans_own_factor(folder: Path, model: FlameModel) -> None:
    depth = {"format": "png", "metric": False, "scale": {"file": "f.json", "key": "{subject}"}}
    (folder / "lab" / "f.json").write_text('{"p1": 2.0, "p2": 3.0}')
    write_registry(folder, "lab", **depth, reader={"pixel_size": 0.5})
    before = keys(folder, model)
    (folder / "lab" / "f.json").write_text('{"p1": 2.0, "p2": 3.25}')
    assert changed(before, keys(folder, model)) == {"lab:p2_neutral"}
    before = keys(folder, model)
    write_registry(folder, "lab", **depth, reader={"pixel_size": 0.25})
    assert changed(before, keys(folder, model)) == set(LAB)


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Laboratory"},
        {"version": "2"},
        {"licence": {"name": "y", "url": "y", "redistribution": False, "commercial": False}},
        {"citation": "y"},
        {"limits": {"max_rejected_share": 0.9}},
        {"benchmark": "now"},
        {"subjects": {"same_as": {"p1": "clinic:p7"}}},
    ],
    ids=str,
)
def test_keys_do_not_follow_what_is_said_about_the_source(
    folder: Path, model: FlameModel, change: dict[str, Any]
) -> None:
    before = keys(folder, model)
    write_registry(folder, "lab", **change)
    assert keys(folder, model) == before


def test_what_is_neutral_changes_how_its_scans_are_judged(folder: Path, model: FlameModel) -> None:
    before = keys(folder, model)
    write_registry(folder, "lab", neutral="all")
    after = keys(folder, model)
    assert changed(before, after) == {"lab:p1_smile"}
    assert changed(before, after, "register") == set()


def test_options_and_gates_change_the_keys_of_their_stage_and_of_those_after(
    folder: Path, model: FlameModel
) -> None:
    before, everything = keys(folder, model), {*LAB, *CLINIC}
    options = keys(folder, model, registration={"model_noise_mm": 3.0})
    gates = keys(folder, model, quality={"coverage": [0.6, 0.3]})
    assert changed(before, options, "read") == set()
    assert changed(before, options, "register") == changed(before, options) == everything
    assert changed(before, gates, "read") == changed(before, gates, "register") == set()
    assert changed(before, gates) == everything
    write_registry(folder, "lab", registration={"fine_iterations": 3})
    own = keys(folder, model)
    assert changed(before, own, "read") == set()
    assert changed(before, own, "register") == set(LAB)


def test_keys_do_not_follow_how_and_where_the_build_runs(folder: Path, model: FlameModel) -> None:
    before = keys(folder, model)
    fields = {"splits": {"train": 1.0}, "seed": 5, "workers": 1, "batch": 1, "rows_per_shard": 64}
    assert keys(folder, model, store="other.zarr", device="cpu", **fields) == before
    moved = shutil.copytree(folder, folder.parent / f"{folder.name}_moved")
    assert keys(moved, model) == before


def test_a_sources_options_go_before_the_builds(folder: Path, model: FlameModel) -> None:
    write_registry(folder, "lab", registration={"modes": 60})
    config = build(folder, registration={"modes": 40, "fine_iterations": 3})
    lab, clinic = (source.options for source in make_plan(config, model).sources)
    assert (lab.modes, lab.fine_iterations) == (60, 3)
    assert (clinic.modes, clinic.fine_iterations) == (40, 3)


def _moved_landmark(model: FlameModel) -> FlameModel:
    assert model.landmarks is not None
    turned = model.landmarks.barycentric[:, [1, 2, 0]]
    return replace(model, landmarks=replace(model.landmarks, barycentric=turned))


@pytest.mark.parametrize(
    "other",
    [
        lambda model: replace(model, template_mm=1.001 * model.template_mm),
        lambda model: replace(model, landmarks=None),
        _moved_landmark,
        lambda model: replace(model, regions={**model.regions, "face": model.regions["face"][1:]}),
    ],
    ids=["template", "no landmarks", "landmarks", "regions"],
)
def test_keys_follow_the_model(
    folder: Path, model: FlameModel, other: Callable[[FlameModel], FlameModel]
) -> None:
    before = keys(folder, model)
    assert changed(before, keys(folder, other(model)), "register") == {*LAB, *CLINIC}
    assert changed(before, keys(folder, other(model)), "read") == set()
    assert keys(folder, replace(model, name="the same by another name")) == before


def leave(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


HARDLY = Refusal("quality", Code.NOT_A_FACE, "hardly a face", {"value": 0.2})
CUT_OFF = Refusal("read", Code.DAMAGED, "cut off")
TOO_SLOW = Refusal("worker", Code.TOO_SLOW, "took more than 1 s")
NO_FACE = Refusal("register", Code.NO_FACE, "no face")


def test_what_the_ledger_holds_is_not_computed_again(folder: Path, model: FlameModel) -> None:
    config = build(folder)
    works = {work.record.scan_id: work for work in make_plan(config, model).works}
    kept, lost, refused = (works[scan] for scan in LAB)
    with open_ledger(ledger_path(config)) as ledger:
        record(ledger, [Result(w.keys.judge, w.record.scan_id) for w in (kept, lost)])
        record(ledger, [Result(refused.keys.judge, LAB[2], HARDLY)])
    arrays = [leave(result_path(config.work, work.keys.register)) for work in (kept, lost)]
    plan = make_plan(config, model)
    known = {kept.keys.judge: "", lost.keys.judge: "", refused.keys.judge: "quality"}
    assert plan.known == known
    assert [work.record.scan_id for work in plan.todo] == list(CLINIC)

    arrays[1].unlink()
    plan = make_plan(config, model)
    assert set(plan.known) == {kept.keys.judge, refused.keys.judge}
    assert [work.record.scan_id for work in plan.todo] == [LAB[1], *CLINIC]


def test_a_work_begins_after_the_stages_whose_results_are_there(
    folder: Path, model: FlameModel
) -> None:
    config = build(folder)
    works = {work.record.scan_id: work for work in make_plan(config, model).works}
    was_read, was_registered, refused, nothing, gone = (works[s] for s in (*LAB, *CLINIC))
    with open_ledger(ledger_path(config)) as ledger:
        record(ledger, [Result(w.keys.read, "x") for w in (was_read, was_registered, gone)])
        record(ledger, [Result(was_registered.keys.register, "x")])
        record(ledger, [Result(refused.keys.read, LAB[2], CUT_OFF)])
    leave(scan_path(config.work, was_read.keys.read))
    leave(result_path(config.work, was_registered.keys.register))
    plan = make_plan(config, model)
    # what could not be read is no better with other options
    assert plan.known == {refused.keys.judge: "read"}
    with open_ledger(ledger_path(config)) as ledger:
        [result] = recorded(ledger, [refused.keys.judge]).values()
    assert (result.scan_id, result.refusal) == (LAB[2], CUT_OFF)
    assert [plan.first_stage(w) for w in (was_read, was_registered, nothing, gone)] == [
        *("register", "judge", "read", "read")
    ]


def test_scans_that_ended_their_worker_are_tried_again_on_request(
    folder: Path, model: FlameModel
) -> None:
    config = build(folder)
    works = make_plan(config, model).works
    with open_ledger(ledger_path(config)) as ledger:
        record(ledger, [Result(works[0].keys.judge, LAB[0], TOO_SLOW)])
        record(ledger, [Result(works[1].keys.judge, LAB[1], NO_FACE)])
    refused = {works[0].keys.judge: "worker", works[1].keys.judge: "register"}
    assert make_plan(config, model).known == refused
    assert make_plan(config, model, retry=True).known == {works[1].keys.judge: "register"}


@pytest.mark.parametrize(
    ("size", "at_once", "wanted"),
    [
        (1, 1, [1, 1, 1, 1, 1]),
        (2, 1, [2, 1, 1, 1]),
        (100, 1, [2, 1, 1, 1]),
        (2, 4, [1, 1, 1, 1, 1]),
    ],
)
def test_batches_are_of_one_source_and_smaller_at_the_end(
    folder: Path, model: FlameModel, size: int, at_once: int, wanted: list[int]
) -> None:
    works = make_plan(build(folder), model).works
    found = list(batches(works, size, at_once))
    assert [len(batch) for batch in found] == wanted
    assert sorted(w.record.scan_id for batch in found for w in batch) == sorted((*LAB, *CLINIC))
    assert all(len({work.record.source for work in batch}) == 1 for batch in found)
    assert list(batches([], size)) == []


def test_batches_are_of_scans_of_similar_size(tmp_path: Path, model: FlameModel) -> None:
    root = write_source(tmp_path, "lab", *(f"p{i}_neutral.obj" for i in range(40)))
    for i in range(40):
        (root / f"p{i}_neutral.obj").write_bytes(bytes(7 * i % 40 + 1))
    works = make_plan(build_of(tmp_path, "lab"), model).works
    found = list(batches(works, 8))
    sizes = [[work.record.n_bytes for work in batch] for batch in found]
    assert [n for batch in sizes for n in batch] == list(range(40, 0, -1))
    assert [len(batch) for batch in sizes[:3]] == [8, 8, 8]


def test_a_plan_leaves_the_collector_as_it_was(folder: Path, model: FlameModel) -> None:
    for switch in (gc.disable, gc.enable):
        switch()
        before = gc.isenabled()
        make_plan(build(folder), model)
        assert gc.isenabled() == before
    config = build(folder)
    shutil.rmtree(folder / "lab")
    with pytest.raises(FacefoldError, match="no such folder"):
        make_plan(config, model)
    assert gc.isenabled()
