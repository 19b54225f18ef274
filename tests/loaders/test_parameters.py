"""What datasets, loaders, orders and transforms are given works, or is a clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from random_store import make_store
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    RandomSampler,
    Subset,
    random_split,
)

from pipeline.errors import FacefoldError, StoreError
from pipeline.loaders import (
    BlockShuffled,
    Curriculum,
    FaceDataset,
    FaceLoader,
    Identities,
    InOrder,
    Mixed,
    Pairs,
    Shuffled,
    balanced,
    identities,
    mixed,
    pairs,
)
from pipeline.loaders.transforms import RandomRotation, SomePoints
from pipeline.store import open_store, tables
from pipeline.store.table_reading import read_table


@pytest.fixture(scope="module")
def dataset(store: Path) -> FaceDataset:
    """32 samples."""
    return FaceDataset(store, "train", ("row", "shape", "scan_id"))


def test_one_field_by_its_name(store: Path) -> None:
    assert list(FaceDataset(store, fields="vertices_mm")[0]) == ["vertices_mm"]
    assert list(FaceDataset(str(store), fields=["shape"])[0]) == ["shape"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": 3}, "fields: got 3, expected a name or a list of names"),
        ({"fields": ("shape", 3)}, r"fields: got \('shape', 3\), expected a name or"),
        ({"split": "test"}, r"no row has split in \['test'\]; it has train, val"),
        ({"split": 3}, r"no row has split in \[3\]; it has train, val"),
        ({"split": "val", "where": {"split": "train"}}, "ask for it once"),
        ({"where": {"licens": "x"}}, "no column licens; the manifest has scan_id"),
        ({"where": ["source"]}, r"where: got \['source'\], expected {column: value"),
        ({"where": 3}, "where: got 3, expected"),
        ({"where": {"sex": None, "split": "val"}, "split": None}, None),
        ({"where": {"session": "x"}}, r"no row has session in \['x'\]; it has None"),
        ({"points": -1}, "points: got -1, expected an integer ≥ 0"),
        ({"points": True}, "points: got True"),
        ({"points": 1.5}, "points: got 1.5"),
        ({"units": "cm"}, "units 'cm', expected 'mm' or 'm'"),
        ({"units": None}, "units None"),
        ({"store": 3}, "store: got 3, expected a folder, a URL or an open Store"),
    ],
)
def test_datasets(store: Path, options: dict[str, Any], message: str | None) -> None:
    def made() -> FaceDataset:
        return FaceDataset(**{"store": store, "fields": ("row",)} | options)

    if message is None:
        assert len(made()) > 0
        return
    with pytest.raises(FacefoldError, match=message):
        made()


def test_what_is_not_known_can_be_asked_for(tmp_path: Path) -> None:
    """None and "" are the same: samples show both as ""."""
    make_store(tmp_path, told=({"session": "a"}, {"session": None}, {"session": ""}, {}))
    for unknown in (None, "", [None], ["", None]):
        found = FaceDataset(tmp_path, where={"session": unknown}, fields=("row", "session"))
        assert found[:]["row"].tolist() == [i for i in range(40) if i % 4]
        assert set(found[:]["session"]) == {""}
    both = FaceDataset(tmp_path, where={"session": {"a", None}}, fields=("row",))
    assert len(both) == 40
    with pytest.raises(StoreError, match=r"no row has session in \['b'\]; it has None, a"):
        FaceDataset(tmp_path, where={"session": "b"})
    known = FaceDataset(tmp_path, where={"row": np.array([3, 5])}, fields=("row",))
    assert known[:]["row"].tolist() == [3, 5]


def test_indices(dataset: FaceDataset) -> None:
    rows = dataset[:]["row"].tolist()
    for index in (-1, np.int32(31), torch.tensor(31), np.int64(-1)):
        assert dataset[index]["row"].item() == rows[31]  # type: ignore[index]
    assert dataset[[-1, 0]]["scan_id"] == [dataset[31]["scan_id"], dataset[0]["scan_id"]]
    assert dataset[(2, 3)]["row"].tolist() == rows[2:4]
    for empty in ([], slice(0, 0), np.zeros(32, bool), torch.zeros(0, dtype=torch.int64)):
        assert dataset[empty]["shape"].shape == (0, 300) and dataset[empty]["scan_id"] == []
    assert [s["row"].item() for s in dataset.__getitems__([1, -1])] == [rows[1], rows[31]]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (32, r"sample 32, expected 0 … 31"),
        (-33, r"sample -33, expected 0 … 31"),
        ([0, 99], r"samples 0 … 99, expected 0 … 31"),
        (np.ones(7, bool), r"index: got bool \(7,\), expected .* or a mask \(32,\)"),
        (True, r"index: got bool \(\), expected"),
        (1.0, r"index: got float64 \(\), expected an integer"),
        ([1.7, 2.0], r"index: got float64 \(2,\), expected"),
        ("row", r"index: got <U3 \(\), expected"),
        (None, r"index: got object \(\), expected"),
        ([[1, 2], [3, 4]], r"index: got int64 \(2, 2\), expected"),
    ],
)
def test_wrong_indices(dataset: FaceDataset, index: Any, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        dataset[index]


def test_torch_s_own_selections(dataset: FaceDataset) -> None:
    """A DataLoader takes them; a FaceLoader says what to use instead."""
    parts = random_split(dataset, [20, 12], torch.Generator().manual_seed(1))
    shown = [row for part in parts for b in DataLoader(part, 4) for row in b["row"].tolist()]
    assert sorted(shown) == dataset[:]["row"].tolist()
    twice = ConcatDataset([dataset, dataset])
    assert len(list(DataLoader(twice, 8))) == 8
    sampler = BatchSampler(
        RandomSampler(dataset, generator=torch.Generator().manual_seed(0)),  # type: ignore[arg-type]
        8,
        drop_last=True,
    )
    assert len(list(DataLoader(dataset, sampler=sampler, batch_size=None))) == 4
    for wrong in (Subset(dataset, [1, 2]), twice, parts[0], [1, 2], None):
        message = f"reads a FaceDataset, got {type(wrong).__name__}; choose its samples by"
        with pytest.raises(FacefoldError, match=message):
            FaceLoader(wrong, 1)  # type: ignore[arg-type]
        with pytest.raises(FacefoldError, match="expected a FaceDataset"):
            identities(wrong, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: got 0, expected an integer ≥ 1"),
        ({"batch_size": True}, "batch_size: got True"),
        ({"batch_size": 4.0}, "batch_size: got 4.0"),
        ({"batch_size": "4"}, "batch_size: got '4'"),
        ({"seed": -1}, "seed: got -1, expected an integer ≥ 0"),
        ({"seed": torch.Generator()}, "seed: got <torch"),
        ({"seed": 3, "order": InOrder(32)}, "seed 3 beside an order"),
        (
            {"order": Shuffled(40)},
            r"Shuffled\(n=40, seed=0\) is for 40 samples, .* has 32",
        ),
        ({"order": InOrder(8)}, r"InOrder\(n=8\) is for 8 samples"),
        ({"order": Shuffled}, "order: got <class"),
        ({"order": [1, 2, 3]}, r"order: got \[1, 2, 3\], expected one of pipeline.loaders.orders"),
        ({"rank": -1, "world": 2}, "rank: got -1"),
        ({"rank": 1}, "rank 1 of 1: expected 0 … 0"),
        ({"world": 0}, "world: got 0, expected an integer ≥ 1"),
        ({"threads": -1}, "threads: got -1, expected an integer ≥ 0"),
        ({"threads": None}, "threads: got None"),
        ({"ahead": 0}, "ahead: got 0, expected an integer ≥ 1"),
        ({"transform": 3}, "transform: got 3, expected a function"),
    ],
)
def test_loaders(dataset: FaceDataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FacefoldError, match=message):
        FaceLoader(**{"dataset": dataset, "batch_size": 4} | options)


class Astray(InOrder):
    def at(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        return positions - 1


class TooFew(InOrder):
    def at(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        return positions[:3]


def test_orders_that_lead_astray(dataset: FaceDataset) -> None:
    with pytest.raises(FacefoldError, match=r"gave samples -1 … 30, expected 0 … 31"):
        list(FaceLoader(dataset, 8, Astray(32)))
    with pytest.raises(FacefoldError, match=r"gave int64 \(3,\) for 32 positions"):
        list(FaceLoader(dataset, 8, TooFew(32)))


CODES = np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shuffled(0), "n: got 0, expected an integer ≥ 1"),
        (lambda: Shuffled("4"), "n: got '4'"),  # type: ignore[arg-type]
        (lambda: Shuffled(4, -1), "seed: got -1"),
        (lambda: InOrder(2.5), "n: got 2.5"),  # type: ignore[arg-type]
        (lambda: BlockShuffled(4, block=0), "block: got 0"),
        (lambda: Mixed(CODES, {0: 1.0}, 0), "length: got 0"),
        (lambda: Mixed(CODES, {0: float("nan")}, 4), "shares: got nan"),
        (lambda: Mixed(CODES, {}, 4), "expected positive numbers"),
        (lambda: Mixed(CODES, {0: -1.0}, 4), "expected positive numbers"),
        (lambda: Mixed(CODES[:, None], {0: 1.0}, 4), r"codes: got int64 \(4, 1\)"),
        (lambda: Identities(CODES + 0.5, 1), "codes: got float64"),
        (lambda: Identities(CODES, 0), "k: got 0, expected an integer ≥ 1"),
        (lambda: Identities(CODES, 3), "k 3: expected an identity of so many"),
        (lambda: Identities(CODES, 3, fewer="repaet"), "fewer: got 'repaet'"),  # type: ignore[arg-type]
        (lambda: Pairs(CODES, CODES[:3]), "same has 4 codes, differ 3"),
        (lambda: Pairs(CODES, np.array([0, -1, 1, -1])), "of 4 samples 2 are unknown"),
        (lambda: Curriculum(np.zeros(0)), "scores: got float64"),
        (lambda: Curriculum(np.zeros(4), first=2), "first: got 2, expected a number from 0 to 1"),
        (lambda: Curriculum(np.zeros(4), epochs=-1), "epochs: got -1"),
        (lambda: RandomRotation(float("nan")), "max_degrees: got nan"),
        (lambda: RandomRotation(10, seed=-1), "seed: got -1"),
        (lambda: SomePoints(0), "n: got 0, expected an integer ≥ 1"),
    ],
)
def test_orders_and_transforms(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(FacefoldError, match=message):
        make()


def test_samplers(dataset: FaceDataset) -> None:
    assert repr(balanced(dataset, "source")) == repr(balanced(dataset, ["source"]))
    for make, message in (
        (lambda: balanced(dataset, ()), r"columns: got \(\), expected a name or a list of names"),
        (lambda: balanced(dataset, "sourc"), "no column sourc; the manifest has"),
        (lambda: balanced(dataset, "source", 0), "length: got 0"),
        (lambda: mixed(dataset, "source", ["s0"]), "shares: got"),  # type: ignore[arg-type]
        (lambda: mixed(dataset, "source", {"s7": 1}), "no sample has source 's7'; they have s0"),
        (lambda: pairs(dataset, 3), "same: got 3"),  # type: ignore[arg-type]
    ):
        with pytest.raises(FacefoldError, match=message):
            make()


def test_what_is_unknown_never_differs(tmp_path: Path) -> None:
    """Two scans a person, of which one's expression is unknown, or both are."""
    words = ("neutral", None, "neutral", "", "neutral", "smile", "smile", "unknown")
    told = tuple({"expression": word or "", "expression_class": word} for word in words)
    made = make_store(tmp_path, told=told)
    dataset = FaceDataset(made, fields=("row",))
    wanted = {i for i in range(40) if i % 8 in (4, 5)}
    for differ in (None, "expression", ("expression_class",)):
        order = pairs(dataset, differ=differ)
        shown = order.at(0, np.arange(order.size(0)))
        assert set(shown.tolist()) == wanted, differ


def test_pairs_by_class_and_by_frame(tmp_path: Path) -> None:
    """Words that mean the same do not differ; a frame is a number within its sequence."""
    told = (
        {"expression": "neutral", "expression_class": "neutral", "frame": 7},
        {"expression": "n01", "expression_class": "neutral", "frame": 8},
        {"expression": "smile", "expression_class": "smile", "frame": None},
        {"expression": "n02", "expression_class": "neutral", "frame": 9},
    )
    dataset = FaceDataset(make_store(tmp_path, told=told), fields=("row",))
    for differ, persons in ((None, 1), ("expression", None), ("frame", 0)):
        order = pairs(dataset, differ=differ)
        shown = order.at(0, np.arange(order.size(0)))
        parity = set((shown // 2 % 2).tolist())
        assert parity == ({0, 1} if persons is None else {persons}), differ


def test_a_column_of_photos_has_a_name_of_its_own(tmp_path: Path, store: Path) -> None:
    """Also in a store of an older schema, whose manifest calls it `images`."""
    with pytest.raises(StoreError, match=r"no field images; it has .*image_files"):
        FaceDataset(store, fields=("images",))
    rows = pa.table({"scan_id": ["a", "b"], "images": ["[]", '["x"]'], "source": ["s", "s"]})
    path = tmp_path / "manifest.parquet"
    pq.write_table(rows, path)
    assert read_table(path).column_names == ["scan_id", "image_files", "source"]
    some = read_table(path, ["source", "image_files"])
    assert some.column_names == ["source", "image_files"]
    assert some["image_files"].to_pylist() == ["[]", '["x"]']


def test_an_older_store_is_read_under_the_new_name(tmp_path: Path, monkeypatch: Any) -> None:
    columns = tuple(
        tables.TABLES["manifest"][0].__class__("images", c.type, c.meaning)
        if c.name == "image_files"
        else c
        for c in tables.TABLES["manifest"]
    )
    with monkeypatch.context() as older:
        older.setitem(tables.TABLES, "manifest", columns)
        make_store(tmp_path, told=({"images": '["a.jpg"]'},))
    held = pq.read_schema(open_store(tmp_path).path / "manifest.parquet").names
    assert "images" in held and "image_files" not in held
    opened = open_store(tmp_path)
    assert "image_files" in opened.column_names and "images" not in opened.column_names
    assert opened.manifest["image_files"][0].as_py() == '["a.jpg"]'
    assert FaceDataset(opened, fields=("image_files",))[3]["image_files"] == '["a.jpg"]'


def test_what_objects_say_of_themselves(dataset: FaceDataset, store: Path) -> None:
    path = dataset.store.path
    assert repr(dataset) == (
        f"FaceDataset('{path}', split='train', fields=('row', 'shape', 'scan_id'), units='mm'; "
        "32 samples)"
    )
    assert repr(FaceLoader(dataset, 8, seed=1, rank=0, world=2)).endswith(
        "batch_size=8, order=Shuffled(n=32, seed=1), rank=0, world=2, epoch=0, batches=2)"
    )
    assert repr(open_store(store)) == f"Store('{path}', 40 rows, model 'test model')"
    assert repr(Mixed(CODES, {0: 0.5, 1: 0.5}, 8)).startswith("Mixed(codes=<4 values, ")
    assert repr(Curriculum(np.zeros(4))) != repr(Curriculum(np.ones(4)))
    assert repr(Pairs(CODES, np.arange(4))) == repr(Pairs(CODES.astype(np.int32), np.arange(4)))
