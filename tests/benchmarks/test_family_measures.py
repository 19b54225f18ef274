"""Figures of the benchmark's families: what is constant is taken out, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import Case, scan_of
from family_measures import (
    Result,
    chin_of,
    error_vectors,
    landmarks_68,
    regions_of,
    rows_of,
    without_constant,
)
from open_models import open_model
from peers import Found
from spread import Face, places_of, spread

from pipeline.flame.model import FlameModel
from pipeline.types import Array


@pytest.fixture(scope="module")
def model(shared_data: Path) -> FlameModel:
    return open_model(shared_data, "bare")


def moved(model: FlameModel, x: float, y: float, z: float) -> Array:
    return model.template_mm + np.array([x, y, z])


def case_of(model: FlameModel, name: str) -> Case:
    """The template as its own scan, everything known."""
    vertices, everyone = model.template_mm, np.ones(len(model.template_mm), dtype=bool)
    marks = landmarks_68(model, vertices)
    marks[:17] = np.nan
    scan = scan_of(f"test:{name}", vertices, model.faces, marks, oriented=True)
    return Case(name, "neutral", scan, vertices, everyone, ~everyone, ~everyone, marks, None)


def test_without_constant_takes_each_vertex_mean_over_the_cases_that_have_it() -> None:
    errors = np.random.default_rng(0).normal(size=(4, 3, 3))
    errors[0, 1] = np.nan
    left = without_constant(errors)
    assert np.nanmean(left, axis=0) == pytest.approx(0, abs=1e-12)
    assert left[1:, 1] == pytest.approx(errors[1:, 1] - errors[1:, 1].mean(0))
    assert np.isnan(left[0, 1]).all()


@pytest.mark.filterwarnings("ignore:invalid value")  # what is constant correlates with nothing
def test_an_offset_that_all_cases_share_is_error_but_does_not_vary(model: FlameModel) -> None:
    shifted = Found(moved(model, 0, 0, 3.0), expected_mm=np.full(5023, 1.5))
    results = {n: Result(case_of(model, n), shifted, 0.1) for n in ("a", "b")}
    for row in rows_of(results, model).values():
        assert row["face mean"] == pytest.approx(3)
        assert row["face p95"] == pytest.approx(3)
        assert row["face varying mean"] == pytest.approx(0, abs=1e-9)
        assert row["stable error"] == pytest.approx(3)
        assert row["chin error"] == pytest.approx(3)
        assert row["stable residual"] == pytest.approx(3, abs=1e-5)
        assert row["face true/expected"] == pytest.approx(2)
        assert row["lips apart"] == pytest.approx(row["true lips apart"])


def test_errors_are_measured_in_the_head_s_frame(model: FlameModel) -> None:
    case = case_of(model, "turned")
    quarter = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    turned = replace(case, truth_mm=case.truth_mm @ quarter.T)
    found = Found((moved(model, 0, 0, 2.0)) @ quarter.T)
    errors = error_vectors([Result(turned, found, 0.1)], model)
    assert errors[0] == pytest.approx(np.broadcast_to([0, 0, 2.0], (5023, 3)), abs=1e-9)


def test_regions_are_where_their_names_say(model: FlameModel) -> None:
    regions = regions_of(model)
    marks, template = landmarks_68(model, model.template_mm), model.template_mm
    assert {"lips", "lids", "nose", "cheeks", "chin", "forehead", "ears", "neck"} < regions.keys()
    assert not (regions["lids"] & regions["cheeks"]).any()
    assert not regions["lids"][model.regions["eyeballs"]].any()
    chin = template[chin_of(model)]
    assert chin[1] < marks[57, 1] - 30 and abs(chin[0]) < 7 and chin[2] > 40
    assert regions["chin"].sum() > 40 and template[regions["chin"], 1].max() < marks[57, 1]


def squeezed(points: Array) -> Array:
    return points * [0.9, 1.1, 1.0]


def test_a_place_on_a_face_is_found_on_its_mean_mesh(model: FlameModel) -> None:
    skin = model.faces[(model.faces < 3931).all(1)]
    face = Face(case_of(model, "face"), squeezed(model.template_mm), skin, model.template_mm)
    at = model.regions["face"]
    assert places_of(face, squeezed(model.template_mm)[at]) == pytest.approx(
        model.template_mm[at], abs=1e-6
    )


def test_spread_is_that_of_the_places_and_no_constant_slide_counts(model: FlameModel) -> None:
    skin = model.faces[(model.faces < 3931).all(1)]
    names = ("a", "b", "c")
    faces = [Face(case_of(model, n), model.template_mm, skin, model.template_mm) for n in names]
    same = [Result(f.case, Found(moved(model, 1.5, 0, 0)), 0.1) for f in faces]
    assert spread(faces, same, model)["spread"] == pytest.approx(0, abs=1e-9)
    slides = [
        Result(f.case, Found(moved(model, 0, y, 0)), 0.1)
        for f, y in zip(faces, (-1.0, 0.0, 1.0), strict=True)
    ]
    found = spread(faces, slides, model)
    assert 0.5 < found["spread"] < 0.9  # of slides by 1, 0 and 1 mm, in part off the surface
    assert found["faces"] == found["of"] == 3
    assert "spread" not in spread(faces, slides[:1], model)


def test_vertices_without_data_count_for_nothing(model: FlameModel) -> None:
    case = case_of(model, "half")
    left = model.template_mm[:, 0] > 0
    found = Found(np.where(left[:, None], model.template_mm, moved(model, 0, 0, 50)))
    half = replace(case, supported=left)
    errors = error_vectors([Result(half, found, 0.1)], model)
    assert np.array_equal(np.isfinite(errors[0]).all(1), left)
    row = rows_of({"half": Result(half, found, 0.1)}, model)["all"]
    assert row["face mean"] == pytest.approx(0, abs=1e-9)
