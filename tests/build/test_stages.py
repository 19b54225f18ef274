"""Scans through all stages: what fails says where and why, and the others go on to be stored."""

from __future__ import annotations

import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from pipeline.build.device import torch_device
from pipeline.build.ledger import Keys, Result, open_ledger, record, recorded
from pipeline.build.result_files import (
    load_marginal,
    load_registration,
    load_row,
    load_scan,
    result_path,
    save_result,
    save_scan,
    scan_path,
)
from pipeline.build.stages import Recipe, Spent, Work, process
from pipeline.catalogue import catalogue
from pipeline.errors import RegistrationError, StoreError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.normalise import read_record
from pipeline.quality.thresholds import Gates
from pipeline.refusals import Code
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.outcome import failed
from pipeline.registration.template import prepare_template
from pipeline.registry import SourceRegistry, load_registry
from pipeline.store import fields
from pipeline.synthetic import accuracy, load_truth, write_sources
from pipeline.types import Array, Scan

QUICK = RegistrationOptions(
    model_iterations=12, residual_iterations=4, fine_iterations=3, tolerance_mm=1.0
)
NEVER_RUN = replace(QUICK, method="never run")
IMPOSSIBLE = Gates(coverage=(1.2, 1.1))
GOOD = "synth_ply:s01/session_1/neutral_0097"


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture(scope="module")
def registry() -> SourceRegistry:
    return load_registry("synth_ply")


def add_ball(root: Path, vertices: Array, landmarks: Array, name: str) -> None:
    """A round scan, its landmarks given for the first of 51."""
    path = root / "s09" / "session_1" / f"{name}.ply"
    path.parent.mkdir(parents=True, exist_ok=True)
    ball = trimesh.creation.icosphere(subdivisions=1)
    trimesh.Trimesh(vertices, ball.faces, process=False).export(path)
    points = np.full((51, 3), np.nan)
    points[: len(landmarks)] = landmarks
    np.save(path.with_name(f"{path.stem}_lmk.npy"), points)


@pytest.fixture(scope="module")
def sources(model: FlameModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic sources; to the sessions in metres, scans for each stage to refuse."""
    out = tmp_path_factory.mktemp("stages")
    write_sources(out, scans=24, model=model)
    root = out / "sources" / "synth_ply"
    next(root.glob("s02/session_1/smile_*_lmk.npy")).unlink()
    ball = 0.1 * trimesh.creation.icosphere(subdivisions=1).vertices
    add_ball(root, ball, ball[:1], "neutral_0001")
    add_ball(root, 1000 * ball, 1000 * ball[:1], "neutral_0002")
    add_ball(root, ball, ball[:1] + 1.0, "neutral_0003")
    return out


@pytest.fixture(scope="module")
def works(sources: Path, registry: SourceRegistry) -> list[Work]:
    found = catalogue(registry, sources / "sources" / "synth_ply")
    unused = "s03/session_1"
    records = [record for record in found.records if unused not in record.scan_id]
    return [
        Work(record, Keys(*(f"{i:02x}{stage}" * 16 for stage in ("aa", "bb", "cc"))))
        for i, record in enumerate(records)
    ]


def recipe_of(registry: SourceRegistry, folder: Path, **changes: Any) -> Recipe:
    return replace(Recipe(registry, QUICK, Gates(), folder, device="cpu"), **changes)


Done = tuple[list[list[Result]], Path]


@pytest.fixture(scope="module")
def done(
    works: list[Work],
    registry: SourceRegistry,
    model: FlameModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Done:
    """All of them in one batch."""
    folder = tmp_path_factory.mktemp("work")
    return process(works, recipe_of(registry, folder), model), folder


def good(works: list[Work]) -> Work:
    return next(work for work in works if work.record.scan_id == GOOD)


def test_each_failure_has_its_stage_and_its_reason(done: Done, works: list[Work]) -> None:
    last = [rows[-1] for rows in done[0]]
    assert [(r.key, r.scan_id) for r in last] == [(w.keys.judge, w.record.scan_id) for w in works]
    found = {result.scan_id.split(":")[1]: result for result in last}
    wanted = {
        "s01/session_1/neutral_0097": ("", ""),
        "s01/session_2/smile_0080": ("read: damaged", "cut off"),
        "s02/session_1/smile_0363": ("landmarks: landmarks_unreadable", "No such file"),
        "s09/session_1/neutral_0001": ("register: too_few_points", "42 vertices, expected at"),
        "s09/session_1/neutral_0002": ("normalise: size", "likely in mm"),
        "s09/session_1/neutral_0003": ("normalise: landmarks_apart", "landmarks are more than"),
    }
    assert {name: one.refusal.kind if one.refusal else "" for name, one in found.items()} == {
        name: kind for name, (kind, _) in wanted.items()
    }
    for name, (_, word) in wanted.items():
        assert word in found[name].reason
        assert found[name].kept == (name == GOOD.split(":")[1])
    apart = found["s09/session_1/neutral_0003"].refusal
    assert apart is not None and apart.figures["median_distance_mm"] > 25


def test_every_stage_that_was_gone_through_has_a_result(done: Done, works: list[Work]) -> None:
    for work, rows in zip(works, done[0], strict=True):
        refused_by_reading = rows[0].stage != ""
        keys = [work.keys.read, work.keys.judge] if refused_by_reading else [*work.keys]
        assert [result.key for result in rows] == keys
        if refused_by_reading:  # whatever comes after reading may change: the file is no better
            assert rows[1] == replace(rows[0], key=work.keys.judge)
        else:
            assert (rows[0].stage, rows[1].stage) == ("", "")


def test_a_registered_scans_arrays_are_a_row_of_the_store(
    done: Done, works: list[Work], model: FlameModel, sources: Path
) -> None:
    path = result_path(done[1], good(works).keys.register)
    row = load_row(path)
    schema = fields(len(model.template_mm))
    assert {name: (a.shape, a.dtype.str) for name, a in row.items()} == {
        name: (tuple(field.shape), np.dtype(field.dtype).str) for name, field in schema.items()
    } | {"points_mm": ((11607, 3), "<f4"), "normals": ((11607, 3), "<f2")}
    assert row["unit_factor_mm"] == 1000.0
    truth = load_truth(sources, *GOOD.split(":"))
    error = accuracy(row["vertices_mm"], truth, model, row["source_to_canonical"])
    assert error["mean_mm"] < 1.5


def test_a_kept_result_has_the_manifests_figures_and_survives_the_ledger(
    done: Done, tmp_path: Path
) -> None:
    last = [rows[-1] for rows in done[0]]
    summary = next(result for result in last if result.kept).summary
    assert (summary["scan_id"], summary["subject"], summary["unit"]) == (GOOD, "s01", "m")
    assert summary["verdict"] in ("accept", "review")
    assert 0.5 < summary["coverage"] <= 1 and 75 < summary["outer_eye_mm"] < 112
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        record(ledger, last)
        assert recorded(ledger, [r.key for r in last]) == {r.key: r for r in last}


def test_clean_scans_and_registrations_come_back_from_their_files_bit_for_bit(
    done: Done, works: list[Work], registry: SourceRegistry, model: FlameModel
) -> None:
    work = good(works)
    scan = read_record(work.record, registry)
    kept = load_scan(scan_path(done[1], work.keys.read))
    [made] = register([scan], model, QUICK, "cpu")
    template = prepare_template(model, "cpu", QUICK.modes)
    found = load_registration(result_path(done[1], work.keys.register), template)
    assert kept is not None and found is not None
    assert made.marginal is not None and found.marginal is not None
    for mine, its in (
        (scan, kept),
        (made.marginal, found.marginal),
        (replace(made, marginal=None), replace(found, seconds=made.seconds, marginal=None)),
    ):
        for name, value in vars(mine).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(its, name), value, err_msg=name)
                assert getattr(its, name).dtype == value.dtype
            else:
                assert getattr(its, name) == value, name


def test_what_a_scan_says_of_its_person_is_read_without_the_rest(
    done: Done, works: list[Work], model: FlameModel, tmp_path: Path
) -> None:
    path = result_path(done[1], good(works).keys.register)
    template = prepare_template(model, "cpu", QUICK.modes)
    whole, marginal = load_registration(path, template), load_marginal(path)
    assert whole is not None and whole.marginal is not None and marginal is not None
    np.testing.assert_array_equal(marginal.triangle, whole.marginal.triangle)
    row = load_row(path)
    # a file of before, or of a method that knows nothing of the person
    save_result(tmp_path / "old", row, replace(whole, marginal=None))
    old = load_registration(tmp_path / "old", template)
    assert old is not None and old.marginal is None
    assert load_marginal(tmp_path / "old") is None
    assert load_row(tmp_path / "old").keys() == row.keys()
    assert path.stat().st_size - (tmp_path / "old").stat().st_size < 110_000
    with pytest.raises(FileNotFoundError):
        load_marginal(tmp_path / "none")


def test_a_failed_registration_comes_back_with_code_and_figures(
    model: FlameModel, tmp_path: Path
) -> None:
    template = prepare_template(model, "cpu", QUICK.modes)
    fault = RegistrationError("no pose", Code.NO_FACE, {"agreement": 0.27})
    made = failed(template, "s:1", fault)
    save_result(tmp_path / "a", {}, made)
    found = load_registration(tmp_path / "a", template)
    assert found is not None
    assert (found.status, found.reason, found.code) == ("failed", "no pose", Code.NO_FACE)
    assert found.figures == {"agreement": 0.27} and isinstance(found.code, Code)


def test_what_is_there_is_not_made_again(
    done: Done, works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    results, folder = done
    copy = shutil.copytree(folder, tmp_path / "work")
    gone = [replace(w, record=replace(w.record, path=tmp_path / "gone.ply")) for w in works]
    again = process(gone, recipe_of(registry, copy, options=NEVER_RUN), model)
    for work, before, after in zip(works, results, again, strict=True):
        if before[0].stage:
            assert "gone.ply: cannot be read" in after[-1].reason
        else:
            assert after == before, work.record.scan_id
    # other gates judge the registration that is there
    [rows] = process(
        [good(gone)], recipe_of(registry, copy, options=NEVER_RUN, gates=IMPOSSIBLE), model
    )
    assert rows[-1].stage == "quality"


def test_damaged_files_are_made_again(
    done: Done, works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    work = good(works)
    copy = shutil.copytree(done[1], tmp_path / "work")
    damaged = [scan_path(copy, work.keys.read), result_path(copy, work.keys.register)]
    sound = [path.read_bytes() for path in damaged]
    for cut in (True, False):
        for path, content in zip(damaged, sound, strict=True):
            half = len(content) // 2
            rest = b"" if cut else bytes([content[half] ^ 4]) + content[half + 1 :]
            path.write_bytes(content[:half] + rest)
        with pytest.raises(StoreError, match=r"\.arrays: damaged; delete it"):
            load_row(damaged[1])
        [rows] = process([work], recipe_of(registry, copy), model)
        assert rows == done[0][works.index(work)]
        assert [path.read_bytes() for path in damaged] == sound


def test_scans_are_not_kept_where_that_is_not_wanted(
    works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    small = next(work for work in works if "s09/session_1/neutral_0001" in work.record.scan_id)
    process([small], recipe_of(registry, tmp_path, keep_scans=False), model)
    assert not (tmp_path / "scans").exists() and (tmp_path / "results").exists()


def test_a_rejected_registration_keeps_its_figures_and_its_arrays(
    works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    rigid = RegistrationOptions(method="rigid", model_iterations=2, modes=1)
    recipe = recipe_of(registry, tmp_path, options=rigid, gates=IMPOSSIBLE)
    [rows] = process([good(works)], recipe, model)
    assert (rows[-1].stage, rows[-1].kept) == ("quality", False)
    assert f"the scan shows {rows[-1].summary['coverage']:.2f} of the face" in rows[-1].reason
    assert rows[-1].summary["verdict"] == "reject"
    assert result_path(tmp_path, rows[1].key).is_file()


def test_a_batch_without_a_single_readable_scan(
    works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    lost = [
        replace(work, record=replace(work.record, path=tmp_path / f"gone_{i}.ply"))
        for i, work in enumerate(works[:2])
    ]
    recipe = recipe_of(registry, tmp_path / "work")
    results = process(lost, recipe, model)
    assert [rows[-1].stage for rows in results] == ["read", "read"]
    for i, rows in enumerate(results):
        assert f"gone_{i}.ply: cannot be read: No such file" in rows[-1].reason
    assert process([], recipe, model) == []


def test_time_is_told_by_stage(
    works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    spent = Spent()
    recipe = recipe_of(registry, tmp_path, options=RegistrationOptions(method="rigid", modes=1))
    process([good(works)], recipe, model, spent)
    assert set(spent.seconds) == set(spent.cpu_seconds) == {"read", "register", "judge"}
    assert all(0 < seconds < 60 for seconds in spent.seconds.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error_of_the_call(
    works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    assert (torch_device("auto"), torch_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(RegistrationError, match="device cuda: torch sees no GPU here; use"):
        torch_device("cuda")
    with pytest.raises(RegistrationError, match="device cuda"):
        process(works[:1], recipe_of(registry, tmp_path, device="cuda"), model)


def test_a_full_disk_is_told_and_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    scan = Scan("s:1", np.eye(3), np.array([[0, 1, 2]]), np.eye(3), np.eye(4), "mm", 1.0, "")
    path = scan_path(tmp_path, "ab" * 32)
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
    try:
        with pytest.raises(StoreError, match="Make room, or make the folder writable"):
            save_scan(path, scan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert list(path.parent.iterdir()) == []
    save_scan(path, scan)
    found = load_scan(path)
    assert found is not None and found.landmarks_mm is None and found.scan_id == "s:1"
