"""Orders are pure functions with the promised shares, groups and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.loaders import (
    BlockShuffled,
    Curriculum,
    Identities,
    InOrder,
    Mixed,
    Order,
    Pairs,
    Sequences,
    Shuffled,
)
from pipeline.loaders.permutation import draws, permuted

RNG = np.random.default_rng(0)
PEOPLE = RNG.integers(0, 40, 300)
EXPRESSION = RNG.integers(0, 3, 300)
FRAMES = np.random.default_rng(1).permutation(300)
SOURCE = np.repeat([0, 1, 2], [250, 40, 10])
ORDERS: dict[str, Order] = {
    "in order": InOrder(300),
    "shuffled": Shuffled(300, 7),
    "blocks": BlockShuffled(300, 7, block=16, blocks=4),
    "mixed": Mixed(SOURCE, {0: 0.5, 1: 0.3, 2: 0.2}, 500, 7),
    "identities": Identities(PEOPLE, 4, 7),
    "pairs": Pairs(PEOPLE, EXPRESSION, 7),
    "sequences": Sequences(PEOPLE, FRAMES, 3, seed=7),
    "curriculum": Curriculum(RNG.random(300), 0.2, 4, 7),
}
every_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 63, 64, 65, 1000, 4097])
def test_a_permutation_has_each_place_once(n: int) -> None:
    assert sorted(permuted(np.arange(n), n, (1, 2))) == list(range(n))


@pytest.mark.parametrize("n", [5, 9])
def test_permutations_of_few_look_random(n: int) -> None:
    """Places of each position, and of the first two together, are uniform over many keys."""
    keys = 1500
    counts, pairs = np.zeros((n, n)), np.zeros((n, n))
    for key in range(keys):
        places = permuted(np.arange(n), n, (key,))
        counts[np.arange(n), places] += 1
        pairs[places[0], places[1]] += 1
    unequal = pairs[~np.eye(n, dtype=bool)]
    for found, free in ((counts.ravel(), (n - 1) ** 2), (unequal, n * (n - 1) - 1)):
        expected = found.mean()
        assert ((found - expected) ** 2 / expected).sum() < free + 5 * np.sqrt(2 * free)


def test_neighbours_of_a_permutation_are_no_neighbours() -> None:
    many = permuted(np.arange(100_000), 100_000, (3,))
    steps = np.diff(many)
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) < 0.02
    assert len(np.unique(steps)) > 60_000


def test_ten_million_rows_cost_no_table() -> None:
    found = permuted(np.arange(64), 10_000_000, (0, 1))
    assert len(set(found.tolist())) == 64
    assert found.min() >= 0 and found.max() < 10_000_000


def test_draws_are_of_the_position_alone() -> None:
    assert (draws((1, 2), np.arange(50))[20:30] == draws((1, 2), np.arange(20, 30))).all()
    assert (draws((1, 2), np.arange(50)) != draws((1, 3), np.arange(50))).all()
    shares = (draws((5,), np.arange(100_000)) % np.uint64(10)).astype(int)
    assert np.bincount(shares).min() > 9_500


@every_order
def test_a_part_is_a_part_of_the_whole(order: Order) -> None:
    for epoch in (0, 3):
        size = order.size(epoch)
        whole = order.at(epoch, np.arange(size))
        assert whole.shape == (size,) and whole.min() >= 0 and whole.max() < 300
        some = np.array([size - 1, 5, 0, size // 2])
        assert (order.at(epoch, some) == whole[some]).all()


@every_order
def test_epochs_differ(order: Order) -> None:
    size = min(order.size(0), order.size(1))
    same = (order.at(0, np.arange(size)) == order.at(1, np.arange(size))).mean()
    assert same == 1 if isinstance(order, InOrder) else same < 0.2


@pytest.mark.parametrize("name", ["in order", "shuffled", "blocks"])
def test_each_sample_once(name: str) -> None:
    order = ORDERS[name]
    for epoch in range(3):
        assert sorted(order.at(epoch, np.arange(300))) == list(range(300))


@pytest.mark.parametrize("n", [5, 64, 100, 129])
def test_blocks_of_any_size(n: int) -> None:
    order = BlockShuffled(n, block=64, blocks=2)
    assert sorted(order.at(1, np.arange(n))) == list(range(n))


def test_blocks_read_few_places_at_a_time() -> None:
    order = BlockShuffled(64 * 100, seed=1, block=64, blocks=4)
    window = order.at(0, np.arange(256))
    assert len(np.unique(window // 64)) <= 8  # four blocks, shifted
    assert (np.diff(window) == 1).mean() < 0.05


def test_shares_of_a_mixture() -> None:
    """To within one sample a round; the samples of a class equally often, whatever its size."""
    shares = {0: 0.5, 1: 0.3, 2: 0.2}
    order = Mixed(SOURCE, shares, 4 * Mixed.ROUND)
    drawn = order.at(0, np.arange(order.length))
    for turn in drawn.reshape(4, -1):
        share = np.bincount(SOURCE[turn]) / Mixed.ROUND
        np.testing.assert_allclose(share, list(shares.values()), atol=1.5 / Mixed.ROUND)
    both = np.bincount(np.concatenate([drawn, order.at(1, np.arange(order.length))]))
    for code in shares:
        held = both[code == SOURCE]
        assert held.max() - held.min() <= 1
    # the classes come mixed, not one after the other
    assert len(np.unique(SOURCE[drawn[:40]])) == 3


def test_shares_that_cannot_be() -> None:
    with pytest.raises(FacefoldError, match=r"classes \[3\] have none"):
        Mixed(SOURCE, {0: 1.0, 3: 1.0}, 100)
    with pytest.raises(FacefoldError, match="expected positive numbers"):
        Mixed(SOURCE, {0: 1.0, 1: 0.0}, 100)


@pytest.mark.parametrize("fewer", ["drop", "repeat"])
def test_identities(fewer: str) -> None:
    order = Identities(PEOPLE, 6, 3, fewer)  # type: ignore[arg-type]
    held = np.bincount(PEOPLE)
    people = np.flatnonzero(held >= (6 if fewer == "drop" else 1))
    seen = set()
    for epoch in range(4):
        drawn = order.at(epoch, np.arange(order.size(epoch))).reshape(-1, 6)
        of = PEOPLE[drawn]
        assert (of == of[:, :1]).all()
        assert sorted(of[:, 0]) == people.tolist()
        for person, scans in zip(of[:, 0], drawn, strict=True):
            assert len(set(scans)) == min(6, held[person])
        seen |= set(drawn.ravel().tolist())
    # in four epochs of six everyone of up to 24 scans has shown all of them
    assert seen == set(np.flatnonzero(np.isin(PEOPLE, people)).tolist())


def test_nobody_has_so_many_scans() -> None:
    with pytest.raises(FacefoldError, match=f"the largest has {np.bincount(PEOPLE).max()}"):
        Identities(PEOPLE, 60)


def test_pairs() -> None:
    order = Pairs(PEOPLE, EXPRESSION, 3)
    partners = set()
    for epoch in range(3):
        first, second = order.at(epoch, np.arange(order.size(epoch))).reshape(-1, 2).T
        assert (PEOPLE[first] == PEOPLE[second]).all()
        assert (EXPRESSION[first] != EXPRESSION[second]).all()
        assert len(set(first)) == len(first)
        partners |= set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(partners) > 2 * order.size(0) / 2  # other partners each epoch
    with pytest.raises(FacefoldError, match="no two samples"):
        Pairs(np.arange(5), np.zeros(5))


def test_a_curriculum_begins_with_the_best() -> None:
    scores = np.r_[np.nan, RNG.permutation(99)]
    order = Curriculum(scores, 0.2, 4)
    assert [order.size(epoch) for epoch in range(6)] == [20, 40, 60, 80, 100, 100]
    assert scores[order.at(0, np.arange(20))].max() == 19
    assert 0 in order.at(4, np.arange(100))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_sequences(step: int) -> None:
    """Frames of one person in their order, `step` apart among those there are; each at most once an
    epoch, and all of them in some."""
    held = [np.flatnonzero(person == PEOPLE) for person in range(40)]
    in_order = [rows[np.argsort(FRAMES[rows])].tolist() for rows in held]
    order = Sequences(PEOPLE, FRAMES, 2, step, seed=5)
    long = [rows for rows in in_order if len(rows) >= 2 * step]
    assert order.left_out == 300 - sum(map(len, long)) and order.group == 2
    assert order.size(0) == sum(len(rows) // (2 * step) * 2 * step for rows in long)
    seen = set()
    for epoch in range(60):
        drawn = order.at(epoch, np.arange(order.size(epoch)))
        assert len(set(drawn.tolist())) == len(drawn)
        for first, second in drawn.reshape(-1, 2).tolist():
            rows = in_order[PEOPLE[first]]
            assert rows.index(second) - rows.index(first) == step
        seen |= set(drawn.tolist())
    assert seen == {row for rows in long for row in rows}


def test_frames_that_are_none() -> None:
    takes, frames = np.repeat([0, 1], 6), np.tile(np.arange(6.0), 2)
    frames[[2, 9]] = np.nan
    order = Sequences(takes, frames, 5)
    assert (order.size(0), order.left_out) == (10, 2)
    assert sorted(order.at(0, np.arange(10)).tolist()) == [0, 1, 3, 4, 5, 6, 7, 8, 10, 11]
    with pytest.raises(FacefoldError, match="expected a sequence of 6 frames; the longest has 5"):
        Sequences(takes, frames, 3, 2)
    with pytest.raises(
        FacefoldError, match=r"4 samples have the frame of another one .* such as 0"
    ):
        Sequences(np.zeros(12), frames, 2)
    with pytest.raises(FacefoldError, match="codes has 12 values, frames 3"):
        Sequences(takes, frames[:3], 2)
    for wrong in ({"n_frames": 0}, {"step": 0}, {"seed": -1}):
        with pytest.raises(FacefoldError, match=next(iter(wrong))):
            Sequences(takes, frames, **{"n_frames": 2} | wrong)
