"""Truths that are a source's scans: found by its registry, read in millimetres, laid on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import Prediction
from pipeline.evaluation.crops import SEVEN_68, Ball
from pipeline.evaluation.truths import delivered, laid_on, read_truth
from tests.evaluation.miniature_fg2018 import write_scan
from tests.evaluation.miniature_micc import write_scan as write_florence
from tests.evaluation.scenes import stand_in_scene


def test_scans_are_what_the_registry_finds(tmp_path: Path) -> None:
    scene = stand_in_scene()
    write_scan(tmp_path, "m1004b_nh", scene)
    write_scan(tmp_path, "F1001_N", scene, landmarks=False)
    (tmp_path / "scans" / "F" / "readme.txt").write_text("no scan")
    first, second = delivered("stirling", tmp_path)
    assert (first.path.name, first.landmarks) == ("F1001_N.obj", None)
    assert second.landmarks == tmp_path / "annotations" / "M_3D_N" / "m1004b_nh.lnd"
    assert second.groups["subject"] == "M1004" and second.groups["session"] == "B"
    assert second.unit == "mm" and second.files == (second.path, second.landmarks)


def test_landmarks_that_a_rule_of_the_registry_rejects_are_not_there(tmp_path: Path) -> None:
    scene = stand_in_scene()
    for view in ("frontal1", "frontal2"):
        write_florence(tmp_path, "23", view, scene)
    found = {scan.groups["view"]: scan.landmarks for scan in delivered("florence", tmp_path)}
    assert found["frontal1"] is not None and found["frontal2"] is None


def test_a_truth_in_millimetres_and_its_part(tmp_path: Path) -> None:
    scene = stand_in_scene()
    write_scan(tmp_path, "F1001_N", scene)
    (scan,) = delivered("stirling", tmp_path)
    assert scan.landmarks is not None
    truth = read_truth(scan.path, scan.landmarks, 10.0)
    np.testing.assert_allclose(truth.vertices_mm, 10 * scene.vertices_mm, rtol=1e-8)
    np.testing.assert_allclose(truth.seven_mm, 10 * scene.seven_mm, rtol=1e-8)
    part = truth.within(Ball(truth.seven_mm[4], 500.0))
    away = np.linalg.norm(part.vertices_mm - truth.seven_mm[4], axis=1)
    assert 0 < len(part.vertices_mm) < len(truth.vertices_mm) and away.max() <= 500
    assert part.faces.min() >= 0 and part.faces.max() < len(part.vertices_mm)


def test_a_truth_that_changed_is_read_again(tmp_path: Path) -> None:
    scene = stand_in_scene()
    write_scan(tmp_path, "F1001_N", scene)
    (scan,) = delivered("stirling", tmp_path)
    assert scan.landmarks is not None
    before = read_truth(scan.path, scan.landmarks, 1.0)
    moved = replace(scene, vertices_mm=scene.vertices_mm + 5)
    write_scan(tmp_path, "F1001_N", moved)
    later = scan.path.stat().st_mtime + 10
    os.utime(scan.path, (later, later))
    after = read_truth(scan.path, scan.landmarks, 1.0)
    np.testing.assert_allclose(after.vertices_mm, before.vertices_mm + 5, atol=1e-6)


def test_a_fit_to_the_surface_finds_the_motion(tmp_path: Path) -> None:
    scene = stand_in_scene()
    write_scan(tmp_path, "F1001_N", scene)
    (scan,) = delivered("stirling", tmp_path)
    assert scan.landmarks is not None
    truth = read_truth(scan.path, scan.landmarks, 1.0)
    points = np.full((68, 3), np.nan)
    # what is off by millimetres in its landmarks is right by its surface
    points[list(SEVEN_68)] = scene.seven_mm + np.random.default_rng(1).normal(0, 2, (7, 3))
    prediction = Prediction((scene.vertices_mm - 30) / 11, scene.faces, (points - 30) / 11, 10.0)
    fit = laid_on(truth, prediction, scaled=True)
    assert fit.scale == pytest.approx(1.1, abs=1e-4)
    laid = fit.apply(10 * prediction.vertices)
    np.testing.assert_allclose(laid, truth.vertices_mm, atol=0.01)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FacefoldError, match=r"no scan of Florence .*expected files such as"):
        delivered("florence", tmp_path)
    with pytest.raises(FacefoldError, match="no such folder"):
        delivered("florence", tmp_path / "none")
