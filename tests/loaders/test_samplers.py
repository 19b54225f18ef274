"""Orders by the names of columns: shares, classes of the unknown, pairs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from random_store import make_store
from view_store import SCAN_OF, SCANS, VIEWS, make_view_store

from pipeline.errors import FacefoldError
from pipeline.loaders import FaceDataset, Mixed, balanced, identities, mixed, pairs, sequences

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


def test_sequences_of_scans_and_of_views(tmp_path: Path) -> None:
    """Frames of a person's session in their order; of views, those of one name."""
    make_view_store(tmp_path)
    scans = FaceDataset(tmp_path, None, ("frame", "identity"), where="frame != 5")
    order = sequences(scans, 2)
    rows = order.at(0, np.arange(order.size(0))).reshape(-1, 2)
    people, frames = scans.column("identity")[rows], scans.column("frame")[rows]
    assert len(rows) == SCANS // 2 - 1 and order.left_out == 1
    assert (people[:, 0] == people[:, 1]).all() and (np.diff(frames, axis=1) == 1).all()
    order = sequences(scans, 4, "session", step=2)
    found = scans.column("frame")[order.at(0, np.arange(order.size(0)))].reshape(-1, 4)
    places = np.searchsorted([i for i in range(SCANS) if i != 5], found)
    assert (np.diff(places, axis=1) == 2).all() and len(found) == 8 and order.left_out == 0
    views = FaceDataset(tmp_path, None, ("views.row",), unit="view")
    order = sequences(views, 3, ("session", "view"))
    for rows in order.at(1, np.arange(order.size(1))).reshape(-1, 3):
        (name,) = {VIEWS[k]["view"] for k in rows}
        every = sorted(i for i, view in zip(SCAN_OF, VIEWS, strict=True) if view["view"] == name)
        assert np.diff(np.searchsorted(every, SCAN_OF[rows])).tolist() == [1, 1]
    assert (
        sequences(views, 2).left_out == SCANS // 2
    )  # of 4i + 1 the photo, of 4i + 3 its third view
    with pytest.raises(FacefoldError, match="have the frame of another one of their sequence"):
        sequences(views, 2, ("identity", "session"))
    with pytest.raises(FacefoldError, match="n: got 0, expected an integer ≥ 1"):
        sequences(scans, 0)
