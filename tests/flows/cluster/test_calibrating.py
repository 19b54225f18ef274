"""A build calibrates the landmarks of its sources once; adding scans leaves all as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from tests.flows.conftest import facefold
from tests.registration.model_scans import make_scan
from tests.small_build import build_of, write_registry

UP_MM = 6.0
"""The source's brows lie so much above the model's."""
BROWS = range(18, 26)


def write_head(folder: Path, model: FlameModel, subject: int) -> None:
    scan = make_scan(model, 70 + subject).scan
    name = folder / f"p{subject}_neutral"
    trimesh.Trimesh(scan.vertices_mm, scan.faces, process=False).export(name.with_suffix(".obj"))
    marks = np.array(scan.landmarks_mm)
    marks[BROWS] += [0, UP_MM, 0]
    np.save(name.with_suffix(".npy"), marks)


def built(folder: Path, *options: str) -> dict[str, Any]:
    summary: dict[str, Any] = facefold("build", folder / "build.yaml", *options, "--json").json
    return summary


@pytest.mark.slow
def test_a_calibration_is_frozen_until_it_is_asked_for_anew(tmp_path: Path) -> None:
    model = stand_in()
    write_registry(tmp_path, "lab")
    (tmp_path / "lab").mkdir()
    for subject in range(6):
        write_head(tmp_path / "lab", model, subject)
    build_of(tmp_path, "lab", model="stand-in", device="cpu")
    first = built(tmp_path)
    assert first["recomputed"] == first["kept"] == 6
    [row] = first["landmarks"]
    assert (row["source"], row["scheme"], row["calibrated_from"]) == ("lab", "ibug68", 6)
    assert row["largest_offset_mm"] == pytest.approx(UP_MM, abs=1.5) and row["odd"] == ""
    assert (tmp_path / ".facefold" / "calibrations" / "lab_ibug68.png").stat().st_size > 10_000
    provenance = json.loads((Path(first["store"]) / "provenance.json").read_text())
    [known] = provenance["sources"][0]["landmark_calibrations"]
    assert sorted(known["sample"]) == [f"lab:p{i}_neutral" for i in range(6)]

    write_head(tmp_path / "lab", model, 6)
    more = built(tmp_path)
    assert (more["recomputed"], more["reused"]) == (1, 6)
    assert more["landmarks"] == [{**row, "scans": 7}]

    anew = built(tmp_path, "--recalibrate")
    assert (anew["recomputed"], anew["reused"]) == (7, 0)
    assert anew["landmarks"][0]["calibrated_from"] == 7
