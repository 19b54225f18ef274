"""The accuracy table's arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from written_sources import Written

from pipeline.flame.model import FlameModel
from pipeline.registry.naming import without_suffix
from pipeline.synthetic import Truth, accuracy, load_truth


@pytest.fixture(scope="module")
def truth(written: Written) -> Truth:
    source, path = next(pair for pair in written.sound() if pair[0].id == "synth_ply")
    return load_truth(written.out, source.id, without_suffix(path))


def test_the_truth_itself_has_no_error(truth: Truth, model: FlameModel) -> None:
    found = accuracy(truth.vertices_mm, truth, model)
    assert found["max_mm"] == 0
    assert found["vertices"] > 300


def test_a_shift_is_measured_in_millimetres(truth: Truth, model: FlameModel) -> None:
    found = accuracy(truth.vertices_mm + np.array([3.0, 0.0, 4.0]), truth, model)
    for name in ("mean_mm", "median_mm", "p95_mm", "max_mm"):
        assert found[name] == pytest.approx(5.0)


def test_the_stored_transform_places_the_truth(truth: Truth, model: FlameModel) -> None:
    # metres with z up, moved by a stage on its way
    matrix = np.eye(4)
    matrix[:3, :3] = 1000 * np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    matrix[:3, 3] = [5.0, -7.0, 11.0]
    registered = truth.vertices_mm + matrix[:3, 3]
    assert accuracy(registered, truth, model, matrix)["max_mm"] < 1e-6
    assert accuracy(registered, truth, model)["mean_mm"] > 10


def test_only_supported_vertices_of_the_face_count(truth: Truth, model: FlameModel) -> None:
    counted = np.zeros(len(truth.supported), dtype=bool)
    counted[np.setdiff1d(model.regions["face"], model.regions["eyeballs"])] = True
    counted &= truth.supported
    registered = truth.vertices_mm.copy()
    registered[~counted] += 100.0
    found = accuracy(registered, truth, model)
    assert found["max_mm"] == 0
    assert found["vertices"] == counted.sum()


def test_wrong_input_is_refused(truth: Truth, model: FlameModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected \\(5023, 3\\)"):
        accuracy(truth.vertices_mm[:10], truth, model)
    blind = replace(truth, supported=np.zeros(len(truth.supported), dtype=bool))
    with pytest.raises(ValueError, match="no vertex of the face"):
        accuracy(truth.vertices_mm, blind, model)
    with pytest.raises(FileNotFoundError):
        load_truth(tmp_path, "synth_ply", "s01/none")
