"""A person's scans from four sources: read back in millimetres where the person is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from neutrals import distances, mica_weights
from open_models import open_model
from person_scans import SHOTS, SOURCES, ict_family, scans_of

from pipeline.geometry.closest import SurfaceIndex
from pipeline.landmarks.schemes import named_scheme


def test_files_of_other_units_and_axes_are_read_as_the_person(
    shared_data: Path, tmp_path: Path
) -> None:
    model, family = open_model(shared_data, "flame_ict"), ict_family(shared_data)
    scans, truth = scans_of(family, 7, tmp_path, model, (SHOTS[0], SHOTS[5]))
    assert [scan.unit for scan in scans] == ["mm", "m"]
    known = np.isfinite(truth).all(1)
    front = known & (np.nan_to_num(truth[:, 2]) > 40)
    for scan in scans:
        assert np.isclose(np.cbrt(np.linalg.det(scan.source_to_canonical)), scan.unit_factor_mm)
        shift = scan.source_to_canonical[:3, 3]  # scans are centred as they are read
        gap = SurfaceIndex(scan.vertices_mm, scan.faces).query(truth[front] + shift).distance
        assert np.median(gap) < 0.3
        assert scan.landmarks_mm is not None and scan.landmark_scheme is not None
        assert len(scan.landmarks_mm) == len(named_scheme(scan.landmark_scheme))


def test_every_source_has_a_neutral_scan() -> None:
    assert {shot.source for shot in SHOTS if shot.at_rest} == set(SOURCES)


def test_micas_distance_is_that_of_its_loss(shared_data: Path) -> None:
    """Weights and loss as MICA's code has them (`shared/oracles`)."""
    oracles = shared_data.parent / "oracles"
    if not oracles.is_dir():
        pytest.skip(f"no reference values of MICA's loss at {oracles}")
    weights = mica_weights(open_model(shared_data, "flame_ict"))
    np.testing.assert_allclose(weights, np.load(oracles / "mica_weights.npz")["vertex"])
    loss = np.load(oracles / "mica_loss.npz")
    heads = [1e3 * loss[name].astype(np.float64) for name in ("pred_vertices_m", "gt_vertices_m")]
    found = [distances(np.stack(pair), weights)[0] for pair in zip(*heads, strict=True)]
    np.testing.assert_allclose(np.mean(found), loss["loss_masked"], rtol=1e-5)
