"""Orders by the names of columns: shares, classes of the unknown, pairs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from random_store import make_store

from pipeline.errors import FacefoldError
from pipeline.loaders import FaceDataset, Mixed, balanced, identities, mixed, pairs

TOLD = (
    {"sex": "female", "session": "1", "subject": "a", "identity": "a"},
    {"sex": "male", "session": "1", "subject": "b", "identity": "b"},
    {"sex": "male", "session": "2", "subject": "b", "identity": "b"},
    {"sex": None, "session": None, "subject": "c", "identity": "c"},
    {"sex": "male", "session": "2", "subject": "b", "identity": "b"},
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    """60 scans of three people."""
    folder = tmp_path_factory.mktemp("samplers") / "unified.zarr"
    make_store(folder, 60, told=[{**row, "split": "train"} for row in TOLD])
    return FaceDataset(folder, fields=("sex", "session", "manifest.expression", "identity", "row"))


def drawn(order: Mixed, epoch: int = 0) -> np.ndarray:
    return order.at(epoch, np.arange(order.size(epoch)))


def test_classes(dataset: FaceDataset) -> None:
    codes, classes = dataset.classes("sex", "neutral")
    sex, rest = dataset.store.manifest["sex"].to_pylist(), dataset.column("neutral")
    assert [classes[code] for code in codes] == list(zip(sex, rest.tolist(), strict=True))
    assert len(classes) == 6 and {values[0] for values in classes} == {"female", "male", None}


def test_balanced(dataset: FaceDataset) -> None:
    order = balanced(dataset, ("sex", "expression"), length=4096)
    sex, expression = dataset.column("sex"), dataset.column("expression")
    rows = drawn(order)
    counts = Counter(zip(sex[rows], expression[rows], strict=True))
    assert counts.keys() >= {("", "neutral"), ("male", "smile")} and len(counts) == 6
    assert max(counts.values()) - min(counts.values()) <= 1
    assert balanced(dataset, ("sex",)).size(0) == 60


def test_mixed(dataset: FaceDataset) -> None:
    rows = drawn(mixed(dataset, "sex", {"female": 0.5, None: 0.25, "male": 0.25}, 4096))
    assert Counter(dataset.column("sex")[rows]) == {"female": 2048, "": 1024, "male": 1024}
    only = drawn(mixed(dataset, "source", {"s1": 1.0}, 100))
    assert {dataset.sources[code] for code in dataset.column("source")[only]} == {"s1"}
    with pytest.raises(FacefoldError, match=r"no sample has source 'frgc'; they have s0, s1"):
        mixed(dataset, "source", {"s0": 0.5, "frgc": 0.5})


def test_more_classes_than_shares_can_tell_apart() -> None:
    with pytest.raises(FacefoldError, match="904 of 5000 classes would never be shown"):
        Mixed(np.arange(5000), dict.fromkeys(range(5000), 1.0), 5000)


def test_identities(dataset: FaceDataset) -> None:
    rows = identities(dataset, 12).at(0, np.arange(36)).reshape(3, 12)
    people = dataset.column("identity")[rows]
    assert (people == people[:, :1]).all() and len(set(people[:, 0])) == 3
    assert all(len(set(scans)) == 12 for scans in rows.tolist())


@pytest.mark.parametrize("same", [("identity",), ("identity", "session")])
def test_pairs(dataset: FaceDataset, same: tuple[str, ...]) -> None:
    order = pairs(dataset, same)
    first, second = order.at(0, np.arange(order.size(0))).reshape(-1, 2).T
    expression, session = dataset.column("expression"), dataset.column("session")
    people = dataset.column("identity")
    assert (people[first] == people[second]).all()
    assert (expression[first] != expression[second]).all()
    together = (session[first] == session[second]).mean()
    assert together == 1 if "session" in same else 0.3 < together < 0.95
    assert "" in session[first]  # unknown sessions count as one


def test_orders_are_functions(dataset: FaceDataset) -> None:
    for order in (balanced(dataset, ("sex",)), mixed(dataset, "sex", {"male": 1.0, None: 2.0})):
        whole = drawn(order, 3)
        assert (order.at(3, np.array([7, 2, 59])) == whole[[7, 2, 59]]).all()
