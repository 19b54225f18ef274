"""The fit of the lids' weights finds lids that it was not shown, from faces with known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lid_faces import People, Sections, cases, cut
from lid_weights import design, fitted, held_out, losses, smoothed, truth, written
from open_models import open_model
from scipy.special import log_softmax

from pipeline.registration.mouth_and_eyes.lids import LOWEST, STEP_MM, WEIGHTS, WIDEST
from pipeline.registration.template import prepare_template

ROWS = 97


@pytest.fixture(scope="module")
def holes() -> Sections:
    """Skin with a hole between the lids and nothing else."""
    rng = np.random.default_rng(0)
    n = 60
    first, low, gap = np.full(n, 35), rng.integers(-6, 7, n), rng.integers(6, 25, n)
    row = np.arange(ROWS)
    inside = (row >= (first + low)[:, None]) & (row <= (first + low + gap)[:, None])
    skin = 0.02 * rng.normal(size=(n, ROWS))
    return Sections(
        np.where(inside, np.nan, skin), first, STEP_MM * low, STEP_MM * gap, np.arange(n) // 2
    )


def test_fitted_weights_find_the_holes_between_lids(holes: Sections) -> None:
    weights = dict(zip(WEIGHTS, fitted(holes), strict=True))
    assert weights["hole between"] > 2
    assert weights["hole above"] < -1 and weights["hole below"] < -1
    odds = design(holes.depth, holes.first) @ list(weights.values())
    lower, gap = np.divmod(odds.argmax(1), WIDEST + 1)
    assert np.abs(STEP_MM * (lower + LOWEST) - holes.lower_mm).max() <= 1
    assert np.abs(STEP_MM * gap - holes.gap_mm).max() <= 1


def test_losses_are_of_people_that_the_weights_were_not_fitted_to(holes: Sections) -> None:
    chance = losses(holes, np.zeros(len(WEIGHTS)), truth(holes)[1]).mean()
    own = losses(holes, fitted(holes), truth(holes)[1]).mean()
    assert own < held_out(holes).mean() < chance - 1
    # weights of one fold cannot know what is shown in the other alone
    odd = holes.seed % 2 == 1
    strange = holes._replace(depth=np.where(odd[:, None], np.nan_to_num(holes.depth), holes.depth))
    assert held_out(strange)[~odd].mean() > held_out(holes)[~odd].mean() + 1


def test_how_common_gaps_are_explains_them_where_nothing_shows(holes: Sections) -> None:
    one_gap = holes._replace(depth=np.zeros_like(holes.depth), gap_mm=np.full(len(holes.seed), 9.0))
    pairs, common = truth(one_gap)
    assert pairs.sum(1) == pytest.approx(1)
    lower, gap = np.divmod(pairs.argmax(1), WIDEST + 1)
    assert np.array_equal(STEP_MM * (lower + LOWEST), holes.lower_mm) and set(gap) == {18}
    share = np.exp(log_softmax(common)).reshape(-1, WIDEST + 1).sum(0)
    assert share.argmax() == 18 and share[16:21].sum() > 0.9


def test_smoothing_keeps_slopes_and_holes() -> None:
    slope = 0.3 * np.arange(ROWS) + 50
    depth = np.stack([slope, np.where((np.arange(ROWS) > 40) & (np.arange(ROWS) < 60), np.nan, 50)])
    found = smoothed(depth, 1.5)
    assert found[0, 10:-10] == pytest.approx(slope[10:-10])
    assert np.array_equal(np.isnan(found), np.isnan(depth))
    assert found[1][np.isfinite(found[1])] == pytest.approx(50)


def test_weights_are_written_as_the_module_has_them() -> None:
    space: dict[str, dict[str, float]] = {}
    exec(written(np.array(list(WEIGHTS.values()))), space)
    assert space["WEIGHTS"] == WEIGHTS


def test_true_lids_are_where_an_eye_without_its_ball_is_open(shared_data: Path) -> None:
    template = prepare_template(open_model(shared_data, "flame_ict"), "cpu", modes=20)
    people = People(1, (1.0, 0.0), (0,))
    made = [cut(template, case, seed) for seed, case in cases(shared_data, [people], 41_100)]
    assert len(made) == 4 and all(x.seed.tolist() == [41_100] * 4 for x in made)
    for shut, rest in (made[:2], made[2:]):
        assert shut.gap_mm.mean() < 3 and rest.gap_mm.mean() > 7
    bare = made[3]
    above_mm = STEP_MM * (np.arange(bare.depth.shape[1]) - bare.first[:, None])
    above_mm -= bare.lower_mm[:, None]
    # a landmark is up to 2 mm from the edge that a viewer sees
    for above, depth, gap in zip(above_mm, bare.depth, bare.gap_mm, strict=True):
        hole = above[np.isnan(depth) & (np.abs(above) < 15)]
        assert 0 < hole.min() < 2.5 and gap - 2.5 < hole.max() < gap
