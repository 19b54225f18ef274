"""A new source tried out: what is ready, what asks for a look, what a build refuses and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml

from pipeline.flame.stand_in import stand_in
from pipeline.refusals import Code
from pipeline.registry import SourceRegistry, load_registry, new_registry
from pipeline.sources import check_folder
from pipeline.sources.trial import Tried, build_lines, readiness, sample_rows, try_scans
from pipeline.types import Quality, Refusal, Verdict

FG7 = [36, 39, 42, 45, 33, 48, 54]


def write_lab(folder: Path, **changes: object) -> SourceRegistry:
    """Registry and folder `lab` of two heads in centimetres with landmarks."""
    model = stand_in()
    assert model.landmarks is not None
    marks = model.landmarks.positions(model.template_mm, model.faces)[FG7]
    root = folder / "lab"
    root.mkdir()
    for i, size in enumerate((0.1, 0.102)):
        trimesh.Trimesh(model.template_mm * size, model.faces, process=False).export(
            root / f"p{i}.ply"
        )
        np.save(root / f"p{i}.npy", marks * size)
    data = yaml.safe_load(new_registry("lab").replace("FILL", "told"))
    data |= {
        "scans": {"include": ["*.ply"], "name": r"(?P<subject>\w+)\.ply"},
        "format": "ply",
        "unit": "cm",
        "axes": {"up": "+y", "forward": "+z"},
        "landmarks": {"file": "{stem}.npy", "format": "npy", "scheme": "fg7"},
        "neutral": "all",
    }
    (folder / "lab.yaml").write_text(yaml.safe_dump(data | changes))
    return load_registry(folder / "lab.yaml")


def quality(verdict: Verdict, *reasons: str) -> Quality:
    distance = {"face": {"median": 0.25, "mean": 0.3, "p95": 0.6, "max": 2.0}}
    findings = tuple(Refusal("quality", Code.COVERAGE, reason) for reason in reasons)
    return Quality(distance, distance, None, 0.9, 0, 88.0, 0.5, verdict, findings)


def outcome(
    registry: SourceRegistry, root: Path, samples: int = 2
) -> tuple[str, list[str], Sequence[Tried]]:
    tried = try_scans(registry, root, stand_in(), samples, "cpu")
    return *readiness(registry, check_folder(registry, root, samples=samples), tried), tried


def test_a_broken_file_asks_for_a_look_and_many_are_too_many(tmp_path: Path) -> None:
    registry, root = write_lab(tmp_path), tmp_path / "lab"
    good, review = Tried("lab:p0", quality=quality("accept")), quality("review", "coverage 0.4")
    clean = check_folder(registry, root, samples=2)
    assert readiness(registry, clean, [good]) == ("ready", [])
    faults = ["lab:p1: review: coverage 0.4"]
    told = readiness(registry, clean, [good, Tried("lab:p1", quality=review)])
    assert told == ("look at it", faults)

    for scan in root.glob("*.ply"):
        scan.write_bytes(scan.read_bytes()[:5000])
    broken = try_scans(registry, root, stand_in(), 1, "cpu")
    assert [(one.scan_id, one.refusal and one.refusal.kind, one.verdict) for one in broken] == [
        ("lab:p0", "read: damaged", "reject")
    ]
    report = check_folder(registry, root, samples=1)
    verdict, reasons = readiness(registry, report, [good] * 9 + broken)
    assert verdict == "look at it"
    assert len(reasons) == 1 and "lab:p0: read: " in reasons[0] and "cut off" in reasons[0]
    verdict, reasons = readiness(registry, report, [good, *broken])
    assert verdict == "not ready"
    assert reasons[0] == (
        "1 of 2 sampled scans are refused (1 read: damaged), limits.max_rejected_share allows 20%"
    )


def test_a_row_says_how_well_a_scan_fits() -> None:
    (row,) = sample_rows([Tried("lab:p0", quality=quality("accept"))])
    assert row == {
        "scan": "lab:p0",
        "verdict": "accept",
        "scan_to_mesh_median_mm": 0.25,
        "coverage": 0.9,
        "fault": "",
    }


@pytest.mark.parametrize("landmarks", [True, False])
def test_a_wrong_unit_is_not_ready_and_the_likely_one_is_said(
    tmp_path: Path, landmarks: bool
) -> None:
    changes = {} if landmarks else {"landmarks": "none"}
    registry = write_lab(tmp_path, unit="inch", **changes)
    verdict, reasons, tried = outcome(registry, tmp_path / "lab")
    assert verdict == "not ready"
    assert "2 of 2 sampled scans are refused (2 normalise: size)" in reasons[0]
    assert any("lab:p0: normalise: " in r and "likely in cm" in r for r in reasons)
    assert len([r for r in reasons if "lab:p0" in r]) == 1, "each fault is told once"
    assert all(one.registration is None for one in tried)


def test_files_no_rule_explains_are_lost_scans(tmp_path: Path) -> None:
    registry, root = write_lab(tmp_path), tmp_path / "lab"
    accepted = [Tried("lab:p0"), Tried("lab:p1")]
    (root / "notes.txt").write_text("x")
    verdict, reasons = readiness(registry, check_folder(registry, root), accepted)
    assert verdict == "not ready" and "1 of 3 scans and unexplained files" in reasons[0]
    assert "no rule explains" in reasons[1]


def test_a_folder_without_scans_is_not_ready(tmp_path: Path) -> None:
    registry = write_lab(tmp_path)
    (tmp_path / "empty").mkdir()
    verdict, reasons, tried = outcome(registry, tmp_path / "empty")
    assert (verdict, list(tried)) == ("not ready", [])
    assert "no scan was tried" in reasons


def test_lines_for_a_build_file_hold_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = yaml.safe_load(build_lines("my: lab.yaml", Path("a folder")))
    assert entries == [
        {"registry": str(tmp_path / "my: lab.yaml"), "root": str(tmp_path / "a folder")}
    ]
    assert yaml.safe_load(build_lines("stirling", tmp_path))[0]["registry"] == "stirling"
