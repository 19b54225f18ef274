"""A scan's key follows all that its result depends on and nothing else; what is known is reused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import BuildConfig
from pipeline.errors import RegistrationError, RegistryError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.ledger import Result, open_ledger, record, result_path
from pipeline.plan import batches, ledger_path, make_plan, results_path
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


def keys(folder: Path, model: FlameModel, **fields: Any) -> dict[str, str]:
    plan = make_plan(build(folder, **fields), model)
    return {work.record.scan_id: work.key for work in plan.works}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {scan for scan in before | after if before.get(scan) != after.get(scan)}


def test_every_scan_has_a_key_of_its_own_source_by_source(folder: Path, model: FlameModel) -> None:
    plan = make_plan(build(folder), model)
    assert [work.record.scan_id for work in plan.works] == [*LAB, *CLINIC]
    assert len({work.key for work in plan.works}) == 5
    assert plan.known == {} and plan.todo == list(plan.works)
    assert [plan.source_of(work).registry.id for work in plan.works] == ["lab"] * 3 + ["clinic"] * 2


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
        {"registration": {"fine_iterations": 3}},
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
    assert changed(before, keys(folder, model)) == set(LAB)


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
        {"neutral": "all"},
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


@pytest.mark.parametrize(
    "change",
    [{"registration": {"model_noise_mm": 3.0}}, {"quality": {"coverage": [0.6, 0.3]}}],
    ids=str,
)
def test_keys_follow_options_and_gates(
    folder: Path, model: FlameModel, change: dict[str, Any]
) -> None:
    assert changed(keys(folder, model), keys(folder, model, **change)) == {*LAB, *CLINIC}


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
    assert changed(before, keys(folder, other(model))) == {*LAB, *CLINIC}
    assert keys(folder, replace(model, name="the same by another name")) == before


def test_what_the_ledger_holds_is_not_computed_again(folder: Path, model: FlameModel) -> None:
    config = build(folder)
    works = {work.record.scan_id: work for work in make_plan(config, model).works}
    kept, lost, refused = (works[scan] for scan in LAB)
    with open_ledger(ledger_path(config)) as ledger:
        record(ledger, [Result(kept.key, LAB[0]), Result(lost.key, LAB[1])])
        record(ledger, [Result(refused.key, LAB[2], "read", "cut off")])
    arrays = [result_path(results_path(config), work.key) for work in (kept, lost)]
    for path in arrays:
        path.parent.mkdir(parents=True)
        path.touch()
    plan = make_plan(config, model)
    assert set(plan.known) == {kept.key, lost.key, refused.key}
    assert plan.known[refused.key].reason == "cut off"
    assert [work.record.scan_id for work in plan.todo] == list(CLINIC)

    arrays[1].unlink()
    plan = make_plan(config, model)
    assert set(plan.known) == {kept.key, refused.key}
    assert [work.record.scan_id for work in plan.todo] == [LAB[1], *CLINIC]


@pytest.mark.parametrize(
    ("size", "wanted"),
    [(1, [1, 1, 1, 1, 1]), (2, [2, 1, 2]), (3, [3, 2]), (100, [3, 2])],
)
def test_batches_keep_sources_apart_and_the_order(
    folder: Path, model: FlameModel, size: int, wanted: list[int]
) -> None:
    works = make_plan(build(folder), model).works
    found = list(batches(works, size))
    assert [len(batch) for batch in found] == wanted
    assert [work for batch in found for work in batch] == list(works)
    assert all(len({work.record.source for work in batch}) == 1 for batch in found)
    assert list(batches([], size)) == []


def test_wrong_options_and_gates_stop_the_plan(folder: Path, model: FlameModel) -> None:
    with pytest.raises(RegistryError, match=r"quality\.speed: no such threshold"):
        make_plan(build(folder, quality={"speed": [1, 2]}), model)
    write_registry(folder, "clinic", registration={"patience": 3})
    with pytest.raises(RegistrationError, match="unknown registration options patience"):
        make_plan(build(folder), model)
