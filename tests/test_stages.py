"""Scans through all stages: what fails says where and why, and the others go on to be stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pipeline.catalogue import catalogue
from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.ledger import Result, open_ledger, record, recorded, result_path
from pipeline.quality import Gates
from pipeline.registration import RegistrationOptions
from pipeline.registry import SourceRegistry, load_registry
from pipeline.stages import Work, process, save_arrays, torch_device
from pipeline.store import fields
from pipeline.synthetic import accuracy, load_truth, write_sources
from pipeline.types import Array

QUICK = RegistrationOptions(
    model_iterations=12, residual_iterations=4, fine_iterations=3, tolerance_mm=1.0
)
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
    return [Work(f"{i:02x}" * 32, record) for i, record in enumerate(records)]


@pytest.fixture(scope="module")
def done(
    works: list[Work],
    registry: SourceRegistry,
    model: FlameModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Result], Path]:
    """All of them in one batch."""
    results = tmp_path_factory.mktemp("results")
    return process(works, registry, model, QUICK, Gates(), results, "cpu"), results


def test_each_failure_has_its_stage_and_its_reason(
    done: tuple[list[Result], Path], works: list[Work]
) -> None:
    results, _ = done
    assert [(r.key, r.scan_id) for r in results] == [(w.key, w.record.scan_id) for w in works]
    found = {result.scan_id.split(":")[1]: result for result in results}
    wanted = {
        "s01/session_1/neutral_0097": ("", ""),
        "s01/session_2/smile_0080": ("read", "cut off"),
        "s02/session_1/smile_0363": ("landmarks", "No such file"),
        "s09/session_1/neutral_0001": ("register", "42 vertices, expected at least 100"),
        "s09/session_1/neutral_0002": ("normalise", "likely in mm"),
        "s09/session_1/neutral_0003": ("normalise", "landmarks are more than"),
    }
    assert {name: result.stage for name, result in found.items()} == {
        name: stage for name, (stage, _) in wanted.items()
    }
    for name, (_, word) in wanted.items():
        assert word in found[name].reason
        assert found[name].kept == (name == GOOD.split(":")[1])


def test_only_kept_scans_leave_arrays_and_they_are_a_row_of_the_store(
    done: tuple[list[Result], Path], model: FlameModel, sources: Path
) -> None:
    results, folder = done
    kept = next(result for result in results if result.kept)
    assert [path for path in folder.rglob("*") if path.is_file()] == [result_path(folder, kept.key)]
    with np.load(result_path(folder, kept.key)) as stored:
        row = dict(stored)
    schema = fields(len(model.template_mm))
    assert {name: (a.shape, a.dtype.str) for name, a in row.items()} == {
        name: (tuple(field.shape), np.dtype(field.dtype).str) for name, field in schema.items()
    } | {"points_mm": ((11085, 3), "<f4"), "normals": ((11085, 3), "<f2")}
    assert row["unit_factor_mm"] == 1000.0
    truth = load_truth(sources, *GOOD.split(":"))
    error = accuracy(row["vertices_mm"], truth, model, row["source_to_canonical"])
    assert error["mean_mm"] < 1.5


def test_a_kept_result_has_the_manifests_figures_and_survives_the_ledger(
    done: tuple[list[Result], Path], tmp_path: Path
) -> None:
    results, _ = done
    summary = next(result for result in results if result.kept).summary
    assert (summary["scan_id"], summary["subject"], summary["unit"]) == (GOOD, "s01", "m")
    assert summary["verdict"] in ("accept", "review")
    assert 0.5 < summary["coverage"] <= 1 and 75 < summary["outer_eye_mm"] < 112
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        record(ledger, results)
        assert recorded(ledger, [r.key for r in results]) == {r.key: r for r in results}


def test_a_rejected_registration_keeps_its_figures_and_leaves_no_arrays(
    works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    good = next(work for work in works if work.record.scan_id == GOOD)
    rigid = RegistrationOptions(method="rigid", model_iterations=2, modes=1)
    strict = Gates(coverage=(1.2, 1.1))
    [result] = process([good], registry, model, rigid, strict, tmp_path / "results", "cpu")
    assert (result.stage, result.kept) == ("quality", False)
    assert f"the scan shows {result.summary['coverage']:.2f} of the face" in result.reason
    assert result.summary["verdict"] == "reject"
    assert not (tmp_path / "results").exists()


def test_a_batch_without_a_single_readable_scan(
    works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    lost = [
        replace(work, record=replace(work.record, path=tmp_path / f"gone_{i}.ply"))
        for i, work in enumerate(works[:2])
    ]
    results = process(lost, registry, model, QUICK, Gates(), tmp_path / "results")
    assert [result.stage for result in results] == ["read", "read"]
    for i, result in enumerate(results):
        assert f"gone_{i}.ply: cannot be read: No such file" in result.reason
    assert process([], registry, model, QUICK, Gates(), tmp_path / "results") == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error_of_the_call(
    works: list[Work], registry: SourceRegistry, model: FlameModel, tmp_path: Path
) -> None:
    assert (torch_device("auto"), torch_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(RegistrationError, match="device cuda: torch sees no GPU here; use"):
        torch_device("cuda")
    with pytest.raises(RegistrationError, match="device cuda"):
        process(works[:1], registry, model, QUICK, Gates(), tmp_path, "cuda")


class DiskFull:
    """An array that cannot be written to the end."""

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        raise OSError("no space left on device")


def test_arrays_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "ab" / "ab.npz"
    with pytest.raises(OSError, match="no space"):
        save_arrays(path, {"first": np.ones(1000), "second": DiskFull()})
    assert not path.exists()
    save_arrays(path, {"first": np.ones(3, np.float32)})
    with pytest.raises(OSError, match="no space"):
        save_arrays(path, {"first": np.zeros(3), "second": DiskFull()})
    with np.load(path) as stored:
        assert list(stored) == ["first"]
        np.testing.assert_array_equal(stored["first"], np.ones(3, np.float32))
