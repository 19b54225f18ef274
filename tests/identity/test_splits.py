"""Splits that stay where they are, and leaks between them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.errors import FacefoldError, StoreError
from pipeline.identity import assign_splits, split_of
from pipeline.store.tables import identity_rows

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def test_shares_are_met() -> None:
    split = assign_splits((f"a:{i}" for i in range(5000)), SHARES, seed=0)
    counts = {name: sum(s == name for s in split.values()) / 5000 for name in SHARES}
    # three standard deviations of a share of 0.1 of 5,000 are 0.013
    assert counts == pytest.approx(SHARES, abs=0.015)


def test_adding_identities_moves_none_and_another_seed_moves_some() -> None:
    few = assign_splits((f"a:{i}" for i in range(100)), SHARES, seed=3)
    many = assign_splits((f"a:{i}" for i in range(1000)), SHARES, seed=3)
    assert few == {name: many[name] for name in few}
    assert few != assign_splits(few, SHARES, seed=4)


def test_the_hash_is_fixed_for_all_time() -> None:
    # a change here moves people between the splits of datasets already published
    found = {i: split_of(f"demo:{i}", SHARES, seed=0) for i in range(40)}
    assert {i for i, split in found.items() if split == "test"} == {13, 17, 22, 23, 30}
    assert {i for i, split in found.items() if split == "val"} == {25, 26}


def test_people_of_a_benchmark_never_train() -> None:
    names = [f"a:{i}" for i in range(200)]
    split = assign_splits(names, {"train": 1.0}, 0, benchmark=set(names[::2]))
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
