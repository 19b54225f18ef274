from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.registration.mouth_and_eyes.lids import log_prior, median, read_lids
from pipeline.registration.mouth_and_eyes.profiles import (
    HALF_MM,
    OPEN,
    SHUT,
    STEP_MM,
    UNCLEAR,
    UNSEEN,
    Profiles,
    bridged,
    read,
)

ROWS = torch.arange(-HALF_MM, HALF_MM + STEP_MM / 2, STEP_MM, dtype=torch.float64)
OPENING = torch.tensor([0, 0, 0, 1, 1, 2, 2])
SKIN = -(ROWS**2) / 100
"""Convex, as a cheek is."""


def lips(at: float, deep: float, half: float) -> Tensor:
    """A valley of two round lips that touch at a height."""
    return SKIN - deep * torch.exp(-((ROWS - at) ** 2) / (2 * half**2))


def parted(low: float, high: float, curl: float = 2.0, depth: float = torch.nan) -> Tensor:
    """Nothing between two heights, or something `depth` behind, with edges that curl inwards."""
    z = SKIN.clone()
    for edge in (low, high):
        z = z - curl * torch.exp(-((ROWS - edge) ** 2) / 2)
    inside = (low < ROWS) & (high > ROWS)
    return torch.where(inside, SKIN - depth, z)


def eyeball(low: float, high: float) -> Tensor:
    """A ball between two lids, a millimetre behind the lower and three behind the upper one."""
    ball = -2.0 - (ROWS - (low + high) / 2) ** 2 / 24
    return torch.where(high <= ROWS, 1.0 + SKIN, torch.where(low >= ROWS, SKIN, ball))


def of(mouth: Tensor, right: Tensor, left: Tensor, lids: float = 5.0) -> Profiles:
    """Three sections of a mouth, two of each eye, as if lips were 3 mm and lids 10 mm apart."""
    depth = torch.stack([mouth] * 3 + [right] * 2 + [left] * 2)[None]
    upper = torch.tensor([[1.5] * 3 + [lids] * 4], dtype=torch.float64)
    return Profiles(ROWS, depth, upper, -upper)


@pytest.mark.parametrize("at", [-3.0, 0.0, 4.0])
def test_lips_that_touch_are_shut_at_their_valley(at: float) -> None:
    edges, state = read(of(lips(at, 2.0, 1.0), SKIN, SKIN), OPENING)
    assert state[0, 0] == SHUT
    assert edges.found[0, :3].all()
    assert (edges.upper[0, :3] - at).abs().max() <= STEP_MM
    assert (edges.lower[0, :3] - at).abs().max() <= STEP_MM


@pytest.mark.parametrize("depth", [torch.nan, 9.0], ids=["hole", "teeth"])
@pytest.mark.parametrize(("low", "high"), [(-2.0, 1.0), (-5.0, 4.0), (-12.0, 9.0)])
def test_lips_apart_are_open_between_their_edges(low: float, high: float, depth: float) -> None:
    seen = of(parted(low, high, depth=depth), SKIN, SKIN)
    wide = seen._replace(upper=seen.upper.clamp_min(high - 3), lower=seen.lower.clamp_max(low + 3))
    edges, state = read(wide, OPENING)
    assert state[0, 0] == OPEN
    assert (edges.upper[0, :3] - high).abs().max() <= STEP_MM
    assert (edges.lower[0, :3] - low).abs().max() <= STEP_MM


def test_a_hole_in_the_scan_is_no_open_mouth() -> None:
    _, state = read(of(parted(-6.0, 6.0, curl=0.0), SKIN, SKIN), OPENING)
    assert state[0, 0] != OPEN


def test_a_smooth_surface_shows_nothing() -> None:
    edges, state = read(of(SKIN, SKIN, SKIN), OPENING)
    assert (state == UNSEEN).all()
    assert not edges.found.any()


def test_eyes_without_surface_are_open_between_the_lids() -> None:
    hole = parted(-4.0, 3.0, curl=1.0)
    edges, state = read(of(lips(0, 2.0, 1.0), hole, hole), OPENING)
    assert (state[0, 1:] == OPEN).all()
    assert (edges.upper[0, 3:] - 3.0).abs().max() <= STEP_MM
    assert (edges.lower[0, 3:] + 4.0).abs().max() <= STEP_MM


@pytest.mark.parametrize(("low", "high"), [(-4.0, 4.0), (-4.5, 0.5), (-5.0, 6.0)])
def test_an_eyeball_between_lids_is_an_open_eye(low: float, high: float) -> None:
    edges, state = read(of(SKIN, eyeball(low, high), eyeball(low, high)), OPENING)
    assert (state[0, 1:] == OPEN).all()
    assert (edges.upper[0, 3:] - high).abs().max() <= 1.0
    assert (edges.lower[0, 3:] - low).abs().max() <= 1.0


def test_one_line_at_the_lower_lid_is_a_shut_eye() -> None:
    line = lips(-5.0, 2.5, 0.8)
    edges, state = read(of(SKIN, line, line), OPENING)
    assert (state[0, 1:] == SHUT).all()
    assert (edges.upper[0, 3:] + 5.0).abs().max() <= STEP_MM


def test_a_faint_line_needs_the_other_eye() -> None:
    faint = lips(-5.0, 1.1, 0.8)
    assert (read(of(SKIN, faint, faint), OPENING)[1][0, 1:] == SHUT).all()
    assert read(of(SKIN, faint, SKIN), OPENING)[1][0].tolist() == [UNSEEN, UNCLEAR, UNSEEN]


def test_a_wink() -> None:
    upper_lid = lips(-5.0, 2.5, 0.8) + (ROWS > -5.0)  # a millimetre ahead of the lower one
    state = read(of(SKIN, upper_lid, eyeball(-4.0, 4.0)), OPENING)[1]
    assert state[0].tolist() == [UNSEEN, SHUT, OPEN]


def test_a_dish_between_the_lids_is_an_open_eye() -> None:
    """A scanner often shows the eyeball hollow: that is no lid line."""
    dish = lips(0.0, 3.0, 2.5)
    edges, state = read(of(SKIN, dish, dish), OPENING)
    assert (state[0, 1:] == OPEN).all()
    assert (edges.upper - edges.lower)[0, 3:].min() > 5


def test_a_fold_above_a_shut_lid_is_not_its_margin() -> None:
    """Going up: cheek, a step onto the shut lid, and eight millimetres above it another, wider."""
    lid = torch.where(ROWS > -5.0, 2.0, 0.0) + 2.5 / (1 + torch.exp(-(ROWS - 3.0) / 0.6))
    fold = SKIN + lid.double()
    edges, state = read(of(SKIN, fold, fold), OPENING)
    assert (state[0, 1:] == SHUT).all()
    assert (edges.upper[0, 3:] + 5.0).abs().max() < 1.5
    assert not edges.visible[0, 3:].any()


def test_a_smooth_eye_has_a_wide_distribution_and_both_eyes_agree() -> None:
    margin = eyeball(-4.0, 4.0)
    eyes = torch.stack([margin, margin, SKIN, SKIN])[None]
    which = torch.tensor([1, 1, 2, 2])
    low = torch.full((1, 4), -5.0, dtype=torch.float64)
    lids = read_lids(ROWS, eyes, low, which)
    alone = read_lids(ROWS, torch.stack([SKIN, SKIN, SKIN, SKIN])[None], low, which)
    assert lids.seen[0].tolist() == [True, True, False, False]
    assert (alone.std_mm > 3).all()
    assert ((lids.upper - lids.lower)[0, :2] - 8.0).abs().max() < 1.5
    # the eye that shows nothing is taken to be as wide as the other
    assert lids.std_mm[0, 2:].max() < alone.std_mm.min()


def test_sections_that_disagree_leave_the_higher_opening() -> None:
    seen = of(SKIN, SKIN, SKIN, lids=6.0)
    depth = seen.depth.clone()
    depth[0, 3], depth[0, 4] = parted(-6.0, 6.0, curl=1.0), parted(-3.0, 1.0, curl=1.0)
    edges, state = read(seen._replace(depth=depth), OPENING)
    assert state[0, 1] == OPEN
    assert edges.found[0, 3:5].tolist() == [True, False]


def test_small_gaps_are_bridged_with_the_deeper_end() -> None:
    z = torch.where((ROWS > -1.2) & (ROWS < 0.2), torch.nan, ROWS / 10)
    filled = bridged(of(z, parted(-4.0, 4.0), SKIN), 2.5).depth[0]
    assert filled[0].isfinite().all()
    torch.testing.assert_close(
        filled[0][(ROWS > -1.2) & (ROWS < 0.2)].max(), torch.tensor(-0.15).double()
    )
    assert filled[3].isnan().any()


def test_scans_of_a_batch_do_not_mix() -> None:
    shut, apart = of(lips(1.0, 2.0, 1.0), SKIN, SKIN), of(parted(-5.0, 4.0), eyeball(-4, 4), SKIN)
    both = Profiles(ROWS, *(torch.cat(pair) for pair in zip(shut[1:], apart[1:], strict=True)))
    edges, state = read(both, OPENING)
    for row, alone in enumerate((shut, apart)):
        found, own = read(alone, OPENING)
        torch.testing.assert_close(state[row], own[0])
        for a, b in zip(edges, found, strict=True):
            torch.testing.assert_close(a[row], b[0])


def test_most_eyes_are_at_rest_and_shut_ones_are_next() -> None:
    prior = log_prior(ROWS).exp()
    assert prior.sum() == pytest.approx(1.0)
    assert prior[20] == prior.max()  # 10 mm
    assert prior[0] > prior[10] > 0


def test_the_median_of_two_readings_is_the_likelier_one() -> None:
    two = torch.zeros(2, 31, dtype=torch.float64)
    two[0, 4], two[0, 24] = 0.3, 0.7
    two[1, 10:13] = torch.tensor([0.25, 0.5, 0.25])
    assert (median(two) - torch.tensor([24.0, 11.0])).abs().max() < 0.5
