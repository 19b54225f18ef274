"""A state belongs to a version, a selection and an order, and is refused elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_store import make_store

from pipeline.errors import FacefoldError
from pipeline.loaders import (
    BlockShuffled,
    FaceDataset,
    FaceLoader,
    InOrder,
    Shuffled,
    balanced,
    identities,
)


@pytest.fixture(scope="module")
def dataset(store: Path) -> FaceDataset:
    """32 samples."""
    return FaceDataset(store, "train", ("row",))


@pytest.fixture(scope="module")
def state(dataset: FaceDataset) -> dict[str, Any]:
    """After the first of four steps."""
    loader = FaceLoader(dataset, 8, seed=1)
    next(iter(loader))
    return loader.state_dict()


def test_a_state_can_be_saved_and_says_what_it_is_of(
    dataset: FaceDataset, state: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == state
    assert state["version"] == dataset.store.path.name and len(state["version"]) == 16
    assert state["order"] == "Shuffled(n=32, seed=1)"
    assert (state["epoch"], state["position"]) == (0, 8)
    again = FaceLoader(dataset, 8, seed=1)
    again.load_state_dict(state)
    assert again.remaining == 3


def test_states_of_others(
    dataset: FaceDataset, store: Path, state: dict[str, Any], tmp_path: Path
) -> None:
    """Both are named."""
    other = FaceDataset(make_store(tmp_path, seed=1), "train", ("row",))
    some = FaceDataset(store, where={"row": list(range(32))}, fields=("row",))
    orders = {
        r"order: it is of Shuffled\(n=32, seed=1\), this loader of Shuffled\(n=32, seed=2\)": (
            FaceLoader(dataset, 8, seed=2)
        ),
        r"order: .*, this loader of InOrder\(n=32\)": FaceLoader(dataset, 8, InOrder(32)),
        "order: .*, this loader of BlockShuffled": FaceLoader(dataset, 8, BlockShuffled(32, 1)),
        "order: .*, this loader of Mixed": FaceLoader(dataset, 8, balanced(dataset, "sex")),
        f"version of the store: it is of {state['version']}, .* of {other.store.version}": (
            FaceLoader(other, 8, seed=1)
        ),
        "selection: it is of 32 rows, [0-9a-f]{8}, this loader of 32 rows, ": (
            FaceLoader(some, 8, seed=1)
        ),
    }
    for message, loader in orders.items():
        with pytest.raises(FacefoldError, match=f"a state of another {message}"):
            loader.load_state_dict(state)
        assert (loader.epoch, loader.position) == (0, 0)


def test_parameters_of_orders_count(dataset: FaceDataset) -> None:
    people = dataset.column("identity")
    state = FaceLoader(dataset, 8, identities(dataset, 2, seed=3)).state_dict()
    FaceLoader(dataset, 8, identities(dataset, 2, seed=3)).load_state_dict(state)
    assert "<32 values, " in state["order"] and len(state["order"]) < 100
    for other in (identities(dataset, 1, seed=3), identities(dataset, 2, "repeat", seed=3)):
        with pytest.raises(FacefoldError, match="another order"):
            FaceLoader(dataset, 8, other).load_state_dict(state)
    moved = np.roll(people, 1)
    with pytest.raises(FacefoldError, match="another order"):
        FaceLoader(dataset, 8, type(identities(dataset, 2))(moved, 2, 3)).load_state_dict(state)


class Backwards:
    """An order of a user's own, which says nothing of its parameters."""

    group = 1

    def __init__(self, n: int, first: int) -> None:
        self.length, self.first = n, first

    def size(self, epoch: int) -> int:
        return self.length

    def at(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        return (self.first - positions) % self.length


def test_orders_of_one_s_own_are_known_by_what_they_show(dataset: FaceDataset) -> None:
    state = FaceLoader(dataset, 8, Backwards(32, 31)).state_dict()
    FaceLoader(dataset, 8, Backwards(32, 31)).load_state_dict(state)
    with pytest.raises(FacefoldError, match="another order: it is of Backwards"):
        FaceLoader(dataset, 8, Backwards(32, 30)).load_state_dict(state)


def test_the_number_of_ranks_may_change(dataset: FaceDataset, state: dict[str, Any]) -> None:
    rank = FaceLoader(dataset, 4, seed=1, rank=1, world=2)
    rank.load_state_dict(state)
    rows = [batch["row"].tolist() for batch in rank]
    alone = [batch["row"].tolist() for batch in FaceLoader(dataset, 8, seed=1)]
    assert rows == [step[4:] for step in alone[1:]]


def test_partial_states(dataset: FaceDataset, state: dict[str, Any]) -> None:
    loader = FaceLoader(dataset, 8, seed=1)
    old = {"epoch": 1, "position": 8, "size": 32, "workers": 0}
    for wrong in ({}, old, None, [1, 2], "state", {k: state[k] for k in ("epoch", "position")}):
        with pytest.raises(FacefoldError, match=r"expected what state_dict\(\) gave, .*set_epoch"):
            loader.load_state_dict(wrong)  # type: ignore[arg-type]
    for key, value in (("epoch", -1), ("position", "8"), ("position", 1.5), ("epoch", True)):
        with pytest.raises(FacefoldError, match=f"state: {key}: got {value!r}, expected an int"):
            loader.load_state_dict(state | {key: value})
    assert (loader.epoch, loader.position) == (0, 0)
    with pytest.raises(FacefoldError, match="a state with num_workers=2, here num_workers=0"):
        loader.load_state_dict(state | {"workers": 2})


def test_epochs_that_are_none(dataset: FaceDataset) -> None:
    loader = FaceLoader(dataset, 8)
    for wrong in (-1, "1", 1.0, True, None):
        with pytest.raises(FacefoldError, match=r"epoch: got .*, expected an integer ≥ 0"):
            loader.set_epoch(wrong)  # type: ignore[arg-type]
    loader.set_epoch(np.int64(3))  # type: ignore[arg-type]
    assert loader.epoch == 3 and isinstance(Shuffled(32), Shuffled)
