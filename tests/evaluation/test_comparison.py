"""Recipes that share what they have in common."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.evaluation import nonrigid
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.recipes import RECIPES, recipes_of
from tests.evaluation.miniature_modular import stand_in_points


def comparison_of(name: str = "near") -> Comparison:
    scene = stand_in_points()
    points = scene.predictions_m[name]
    return Comparison(
        points=points,
        landmarks=points[scene.landmark_ids],
        truth=scene.truth_m,
        truth_faces=np.empty((0, 3), np.int64),
        truth_landmarks=scene.true_landmarks_m,
        corresponding=None,
        weights=np.ones(len(points)),
    )


def test_points_that_share_a_partner_are_corrected_each_for_itself_strictly() -> None:
    """The authors' correction leaves one place for all of them: the last one's."""
    comparison = comparison_of()
    coarse = replace(comparison, truth=comparison.truth[::40], made={})
    placed = coarse.placed("RLR", True, STRICT)
    numbers = coarse.partners(placed, RECIPES["RLR_correct"]).numbers
    assert numbers is not None
    shared = np.bincount(numbers)[numbers] > 1
    assert shared.sum() > 100
    _, plain = coarse.distances(RECIPES["RLR_chamfer"], True, STRICT)
    _, strict = coarse.distances(RECIPES["RLR_correct"], True, STRICT)
    _, published = coarse.distances(RECIPES["RLR_correct"], True, AS_PUBLISHED)
    last = np.full(len(coarse.truth), -1)
    last[numbers] = np.arange(len(numbers))
    only = last[numbers] == np.arange(len(numbers))
    differ = np.abs(strict - published) > 1e-4
    assert differ[shared & ~only].mean() > 0.5 > 0.2 > differ[only].mean()
    assert not np.allclose(strict, plain)


def test_what_recipes_have_in_common_is_computed_once() -> None:
    comparison = comparison_of()
    first = comparison.placed("ICP", True, AS_PUBLISHED)
    assert comparison.placed("ICP", True, STRICT) is first
    assert comparison.placed("ICP", False, STRICT) is not first
    elastic, both = recipes_of("ICP+ELR+chamfer,ICP+ELR+chamfer+ETC")
    assert comparison.partners(first, elastic) is comparison.partners(first, both)
    mirrored = comparison_of("near_mirrored")
    published, strict = (mirrored.placed("ICP", True, v) for v in (AS_PUBLISHED, STRICT))
    assert (published.motion.determinant, strict.motion.determinant) == (-1, 1)


def test_a_deformation_changes_partners_and_not_what_is_measured_from() -> None:
    comparison = comparison_of("near_moved_noisy")
    plain, deformed = recipes_of("RLR+chamfer,RLR+ELR+NICP+chamfer")
    placed, nearest = comparison.distances(plain, True, STRICT)
    again, farther = comparison.distances(deformed, True, STRICT)
    assert again is placed
    assert (farther >= nearest - 1e-12).all() and farther.mean() > 1.05 * nearest.mean()


def test_a_deformation_that_would_go_on_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = comparison_of("near_mirrored")
    recipe = recipes_of("RLR+NICP+chamfer")[0]
    placed = comparison.placed("RLR", True, STRICT)
    monkeypatch.setattr(nonrigid, "MOST_STEPS", 2)
    few = comparison.partners(placed, recipe).warped
    monkeypatch.setattr(nonrigid, "MOST_STEPS", 4)
    more = replace(comparison, made={}).partners(placed, recipe).warped
    assert np.isfinite(few).all() and np.abs(few - more).max() > 1e-4


def test_what_a_truth_lacks_is_said() -> None:
    comparison = comparison_of()
    for recipe, fault in (("RLR+identity", "do not correspond"), ("ICP+P2Tri", "has none")):
        with pytest.raises(FacefoldError, match=fault):
            comparison.distances(recipes_of(recipe)[0], True, STRICT)
