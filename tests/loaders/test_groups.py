"""Some of a group's rows: different ones, any as likely as others, by position alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipeline.loaders import Draw
from pipeline.loaders.groups import Groups

SIZES = [1, 2, 3, 5, 9]
CODES = np.random.default_rng(0).permutation(np.repeat(np.arange(5), SIZES))
GROUPS = Groups.of(CODES)


def draw(epoch: int, positions: np.ndarray) -> Draw:
    return Draw(epoch, positions, positions)


def test_rows_by_code() -> None:
    codes = np.array([7, -1, 3, 7, np.nan, 3, 3])
    groups = Groups.of(codes)
    assert (groups.code.tolist(), groups.size.tolist()) == ([3, 7], [3, 2])
    assert groups.rows.tolist() == [2, 5, 6, 0, 3]
    assert groups.first(np.array([1, 0, 1]), 2).tolist() == [[0, 3], [2, 5], [0, 3]]
    assert groups.first(np.array([1]), 3).tolist() == [[0, 3, 0]]
    large = groups.of_at_least(3)
    assert large.code.tolist() == [3] and large.first(np.array([0]), 3).tolist() == [[2, 5, 6]]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("group", [3, 4])
def test_every_choice_is_as_likely(group: int, k: int) -> None:
    """Chi-square over the ordered choices of k of 5, and of 9 for few."""
    n, size = 60_000, SIZES[group]
    positions = np.arange(n)
    rows = GROUPS.drawn(np.full(n, group), k, draw(2, positions), 7)
    assert (CODES[rows] == group).all()
    assert all(len(set(row)) == k for row in rows[:500].tolist())
    choices = int(np.prod(size - np.arange(k)))
    if choices > 4000:
        return
    counts = np.array([*Counter(map(tuple, rows.tolist())).values()])
    expected = n / choices
    missing = choices - len(counts)
    chi = ((counts - expected) ** 2 / expected).sum() + missing * expected
    assert chi < choices + 5 * np.sqrt(2 * choices)


def test_a_draw_is_of_seed_epoch_and_position() -> None:
    groups, positions = np.array([4, 3, 4, 4]), np.array([11, 5, 0, 7])
    found = GROUPS.drawn(groups, 3, draw(1, positions), 3)
    some = [2, 0]
    part = GROUPS.drawn(groups[some], 3, draw(1, positions[some]), 3)
    assert (part == found[some]).all()
    many = np.full(200, 4), np.arange(200)
    one = GROUPS.drawn(many[0], 3, draw(1, many[1]), 3)
    for epoch, seed in ((2, 3), (1, 4)):
        assert (GROUPS.drawn(many[0], 3, draw(epoch, many[1]), seed) != one).any(1).mean() > 0.9


def test_groups_of_fewer_repeat_theirs() -> None:
    rows = GROUPS.drawn(np.array([0, 1, 2]), 5, draw(0, np.arange(3)), 1)
    assert [len(set(row)) for row in rows.tolist()] == [1, 2, 3]
    assert (rows[1, 2:] == rows[1, [0, 1, 0]]).all() and (rows[2, 3:] == rows[2, :2]).all()
