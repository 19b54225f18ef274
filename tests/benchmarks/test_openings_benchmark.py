"""ICT faces open mouth and eyes as asked, and coarse scans keep their surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ict_cases import IctModel
from open_models import open_model
from openings import coarse_scans, gaps, ict_expression

from pipeline.flame.model import FlameModel
from pipeline.geometry.closest import SurfaceIndex


@pytest.fixture(scope="module")
def model(shared_data: Path) -> FlameModel:
    return open_model(shared_data, "flame_ict")


def test_ict_faces_open_as_asked(shared_data: Path, model: FlameModel) -> None:
    ict = IctModel.load(shared_data)
    identity = np.random.default_rng(100).normal(size=100)

    def found(name: str) -> dict[str, float]:
        weights = ict_expression(ict, model, identity, name)
        return gaps(model, ict.on_flame(ict.vertices(identity, weights)))

    rest = found("lips shut")
    for mm in (2, 5, 10):
        assert found(f"lips {mm} mm apart")["lips"] == pytest.approx(rest["lips"] + mm, abs=0.01)
    lids = {name: found(f"lids {name}")["lids"] for name in ("shut", "half open", "wide open")}
    assert lids["half open"] == pytest.approx((rest["lids"] + lids["shut"]) / 2, abs=0.01)
    assert lids["shut"] < 6 < rest["lids"] < lids["wide open"] - 2


def test_a_coarse_scan_has_1200_vertices_on_the_surface_and_the_same_landmarks(
    shared_data: Path, model: FlameModel
) -> None:
    whole, coarse = coarse_scans(shared_data, model, quick=True)
    assert coarse.whole == whole.name
    assert 1000 < len(coarse.scan.vertices_mm) < 1400
    surface = SurfaceIndex(whole.scan.vertices_mm.astype(float), whole.scan.faces)
    off = surface.query(coarse.scan.vertices_mm.astype(float)).distance
    assert np.quantile(off, 0.95) < 0.7
    assert np.array_equal(whole.scan.landmarks_mm, coarse.scan.landmarks_mm, equal_nan=True)
