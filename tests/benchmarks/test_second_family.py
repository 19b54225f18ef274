"""The second family's facts: its truth lies on its scans, and mouths and lids open as asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cases import Case
from scipy.spatial import cKDTree
from second_family import CONTROLS, RECIPES, face_of, make_case
from second_head import N_HEAD, MeanHead, contact_line
from second_identity import displaced
from second_rig import INNER_LIPS, MARGINS, eye_centres, gap, posed, weight_for

from pipeline.geometry.closest import SurfaceIndex
from pipeline.types import Array


@pytest.fixture(scope="module")
def family(shared_data: Path) -> MeanHead:
    return MeanHead.load(shared_data)


@pytest.fixture(scope="module")
def half_face(family: MeanHead) -> Case:
    return make_case(family, "half face")


@pytest.fixture(scope="module")
def person(family: MeanHead) -> Array:
    return displaced(family.vertices, np.random.default_rng(100))


def test_supported_vertices_lie_on_the_scan_and_the_others_do_not(half_face: Case) -> None:
    scan = SurfaceIndex(half_face.scan.vertices_mm, half_face.scan.faces)
    distance = scan.query(half_face.truth_mm[half_face.known]).distance
    supported = half_face.supported[half_face.known]
    clear = ~half_face.near_border[half_face.known]
    assert np.quantile(distance[supported], 0.99) < 0.4  # noise of 0.1 mm
    assert distance[~supported & clear].min() > 0.35
    assert 0.3 < supported.mean() < 0.7
    # the surface's own vertices are among the scan's: each truth is a certain one of them
    nearest = cKDTree(half_face.scan.vertices_mm).query(half_face.truth_mm[half_face.supported])[0]
    assert np.quantile(nearest, 0.99) < 0.4


def test_truth_is_unknown_of_eyeballs_and_of_what_no_scanner_sees(half_face: Case) -> None:
    assert half_face.truth_mm.shape == (5023, 3)
    assert not half_face.known[N_HEAD:].any()
    assert 3600 < half_face.known.sum() < 3800


def test_landmarks_have_noise_of_06_mm_an_axis_and_are_missing_off_the_scan(
    family: MeanHead, person: Array, half_face: Case
) -> None:
    heads = [face_of(family, person, {}, np.random.default_rng(seed)) for seed in (1, 2)]
    noise = np.stack([head.marks_mm - family.landmarks(person) for head in heads])[:, 17:]
    assert noise.std() == pytest.approx(0.6, rel=0.12)
    assert not np.allclose(noise[0], noise[1])
    marks = half_face.marks_mm
    assert np.isnan(marks[:17]).all() and np.isnan(marks[[36, 48]]).all()
    assert np.isfinite(marks[[45, 54]]).all()
    assert np.array_equal(half_face.scan.landmarks_mm, marks.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("mm", [2, 5, 10])
def test_lips_part_by_what_was_asked(family: MeanHead, person: Array, mm: int) -> None:
    recipe = CONTROLS[f"lips {mm} mm apart"]
    head = face_of(family, person, recipe.expression, np.random.default_rng(0))
    marks = family.landmarks(head.vertices)
    shut = gap(family.landmarks(person), INNER_LIPS)
    assert gap(marks, INNER_LIPS) == pytest.approx(shut + mm, abs=0.01)
    upper_lip = family.landmarks(person)[[50, 51, 52]]
    assert np.abs(marks[[50, 51, 52]] - upper_lip).max() < 0.3


def test_shut_lips_touch_and_do_not_pass_through_each_other(
    family: MeanHead, person: Array
) -> None:
    assert gap(family.landmarks(person), INNER_LIPS) < 2.1
    x, y, z = family.vertices.T
    inner = (np.abs(x) < 20) & (np.abs(y - contact_line(x)) < 3) & (z > 50)
    above = (y - contact_line(x))[inner]
    lower = family.lower_lip[inner]
    assert 0 < above[~lower].min() < 0.01 and -0.01 < above[lower].max() < 0


def test_lids_shut_half_and_wide_open_slide_over_the_eyeball(
    family: MeanHead, person: Array
) -> None:
    gaps = {}
    for name in ("lids shut", "lids half open", "lids wide open"):
        vertices = posed(family, person, CONTROLS[name].expression)
        gaps[name] = gap(family.landmarks(vertices), MARGINS)
        lids = np.linalg.norm(family.vertices - family.eye_centres[1], axis=1) < 15
        centre = eye_centres(family, person)[1]
        before, after = (np.linalg.norm(v[lids] - centre, axis=1) for v in (person, vertices))
        assert np.abs(before - after).max() < 1e-9
    rest = gap(family.landmarks(person), MARGINS)
    assert gaps["lids shut"] < 2.5 < 7 < rest
    assert gaps["lids half open"] == pytest.approx((rest + gaps["lids shut"]) / 2, abs=0.6)
    assert gaps["lids wide open"] > rest + 2


def test_eyeballs_show_only_where_asked_for(family: MeanHead, person: Array) -> None:
    plain, with_eyes = (
        face_of(family, person, {}, np.random.default_rng(0), shown) for shown in (False, True)
    )
    n_skin = len(family.vertices)
    assert plain.faces.max() < n_skin
    balls = np.unique(with_eyes.faces[(with_eyes.faces >= n_skin).all(1)])
    assert 40 < len(balls) < 400
    marks = family.landmarks(person)
    in_slit = np.abs(with_eyes.vertices[balls, 1] - marks[36:48, 1].mean()) < 8
    assert in_slit.all()


def test_people_are_as_far_apart_as_people_are(family: MeanHead) -> None:
    face = family.model.regions["face"]
    people = [displaced(family.vertices, np.random.default_rng(seed))[face] for seed in range(6)]
    people = [p - p.mean(0) for p in people]
    apart = [
        np.sqrt(((a - b) ** 2).sum(1).mean()) for i, a in enumerate(people) for b in people[:i]
    ]
    assert 4 < np.mean(apart) < 7


def test_a_case_is_the_same_again_and_other_seeds_are_other_people(family: MeanHead) -> None:
    once, again, other = (make_case(family, "face only", seed) for seed in (100, 100, 101))
    assert np.array_equal(once.scan.vertices_mm, again.scan.vertices_mm)
    assert not np.allclose(once.truth_mm[once.known], other.truth_mm[once.known], atol=0.5)
    seeds = [recipe.seed for recipe in RECIPES.values()]
    assert len(set(seeds)) == len(seeds) and min(seeds) >= 9000


def test_a_gap_that_no_weight_gives_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a gap of 30 mm, expected 2.00 … 12.00"):
        weight_for(lambda weight: 2 + 10 * weight, 30, 0.0, 1.0)
