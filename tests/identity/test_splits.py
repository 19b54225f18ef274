"""Splits that stay where they are, and leaks between them."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pytest

from pipeline.errors import FacefoldError, StoreError
from pipeline.identity import assign_splits, split_of
from pipeline.identity.splits import strictest_first
from pipeline.store.tables import identity_rows

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
ORDER = ("test", "val", "train")


def alone(names: Iterable[str]) -> dict[str, set[str]]:
    """People of one name each."""
    return {name: {name} for name in names}


def test_shares_are_met() -> None:
    split = assign_splits(alone(f"a:{i}" for i in range(5000)), SHARES, seed=0)
    counts = {name: sum(s == name for s in split.values()) / 5000 for name in SHARES}
    # three standard deviations of a share of 0.1 of 5,000 are 0.013
    assert counts == pytest.approx(SHARES, abs=0.015)


def test_adding_identities_moves_none_and_another_seed_moves_some() -> None:
    few = assign_splits(alone(f"a:{i}" for i in range(100)), SHARES, seed=3)
    many = assign_splits(alone(f"a:{i}" for i in range(1000)), SHARES, seed=3)
    assert few == {name: many[name] for name in few}
    assert few != assign_splits(alone(few), SHARES, seed=4)


def test_the_hash_is_fixed_for_all_time() -> None:
    # a change here moves people between the splits of datasets already published
    found = {i: split_of(f"demo:{i}", SHARES, seed=0) for i in range(40)}
    assert {i for i, split in found.items() if split == "test"} == {13, 17, 22, 23, 30}
    assert {i for i, split in found.items() if split == "val"} == {25, 26}


def test_whoever_has_several_names_is_in_the_strictest_of_their_splits() -> None:
    names = [f"a:{i}" for i in range(60)]
    own = assign_splits(alone(names), SHARES, seed=0)
    assert set(own.values()) == set(SHARES)
    for first in names:
        for second in names:
            merged = assign_splits({first: {first, second}}, SHARES, seed=0)
            assert merged[first] == min(own[first], own[second], key=ORDER.index)


def test_a_merge_and_its_undoing_move_nobody_else() -> None:
    names = [f"a:{i}" for i in range(60)]
    own = assign_splits(alone(names), SHARES, seed=0)
    merged = alone(names[2:]) | {"a:0": {"a:0", "a:1"}}
    assert {n: s for n, s in assign_splits(merged, SHARES, 0).items() if n != "a:0"} == {
        n: own[n] for n in names[2:]
    }


def test_the_order_of_splits_with_any_names() -> None:
    assert strictest_first(SHARES) == ("test", "undecided", "val", "train")
    shares = {"fit": 0.25, "probe": 0.25, "train": 0.25, "held_out": 0.25}
    order = strictest_first(shares)
    assert order == ("test", "undecided", "val", "held_out", "probe", "fit", "train")
    names = [f"a:{i}" for i in range(40)]
    own = assign_splits(alone(names), shares, seed=0)
    everyone = assign_splits({"a:0": set(names)}, shares, seed=0)
    assert everyone == {"a:0": "held_out"} and set(own.values()) == set(shares)


def test_who_may_be_of_a_benchmark_neither_trains_nor_is_tested_on() -> None:
    names = [f"a:{i}" for i in range(60)]
    own = assign_splits(alone(names), SHARES, seed=0)
    held = assign_splits(alone(names), SHARES, seed=0, undecided=names[:30])
    assert {n: held[n] for n in names[30:]} == {n: own[n] for n in names[30:]}
    assert {own[n]: held[n] for n in names[:30]} == {
        "train": "undecided",
        "val": "undecided",
        "test": "test",
    }
    both = assign_splits(alone(["a:0"]), SHARES, 0, benchmark=["a:0"], undecided=["a:0"])
    assert both == {"a:0": "test"}


def test_a_stated_split_goes_before_that_of_the_hash_of_this_name_alone() -> None:
    names = [f"a:{i}" for i in range(60)]
    own = assign_splits(alone(names), SHARES, seed=0)
    stated = dict.fromkeys(names, "train")
    assert set(assign_splits(alone(names), SHARES, 0, stated=stated).values()) == {"train"}
    tested = next(n for n in names if own[n] == "test")
    merged = {"b:1": {"b:1", tested}}
    assert assign_splits(merged, SHARES, 0, stated={"b:1": "train"}) == {"b:1": "test"}
    assert assign_splits(alone(["b:1"]), SHARES, 0, ["b:1"], stated={"b:1": "train"}) == {
        "b:1": "test"
    }
    with pytest.raises(FacefoldError, match="got the split 'dev', expected one of test, undec"):
        assign_splits(alone(names), SHARES, 0, stated={"a:1": "dev"})


def test_people_of_a_benchmark_never_train() -> None:
    names = [f"a:{i}" for i in range(200)]
    split = assign_splits(alone(names), {"train": 1.0}, 0, benchmark=set(names[::2]))
    assert {split[n] for n in names[::2]} == {"test"}
    assert {split[n] for n in names[1::2]} == {"train"}


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.5, "val": -0.5}])
def test_wrong_shares(shares: dict[str, float]) -> None:
    with pytest.raises(FacefoldError, match="add up to 1"):
        split_of("a:1", shares, 0)


def test_a_split_without_share_gets_nobody() -> None:
    shares = {"train": 0.0, "val": 1.0, "test": 0.0}
    assert {split_of(f"a:{i}", shares, 1) for i in range(300)} == {"val"}


def test_leaks_are_found() -> None:
    def table(*rows: tuple[str, str]) -> pa.Table:
        identity, split = zip(*rows, strict=True)
        return pa.table({"identity": identity, "split": split, "source": ["a"] * len(rows)})

    identity_rows(table(("a:1", "train"), ("a:2", "val"), ("a:1", "train")))
    with pytest.raises(StoreError, match="'a:1' is in the splits 'train' and 'val'"):
        identity_rows(table(("a:1", "train"), ("a:2", "val"), ("a:1", "val")))
