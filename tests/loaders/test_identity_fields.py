"""Each scan comes with the row of its person, whichever way it is drawn."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_store import make_store, random_people, random_rows
from torch.utils.data import DataLoader

from pipeline.errors import FacefoldError, StoreError
from pipeline.loaders import Draw, FaceDataset, FaceLoader, Shuffled, identities
from pipeline.loaders.transforms import PoseRemoved, RandomRotation, identity_neutral, neutral
from pipeline.store import fields, push
from pipeline.types import Array

PEOPLE = random_people(20)
NAMES = tuple(fields(64, "identity"))
RANGE = np.arange(1)


def labels(rows: Array | torch.Tensor, name: str) -> Array:
    """What `make_store` says of the people of scans: two each, the last person first."""
    values: Array = PEOPLE[name][19 - np.asarray(rows) // 2]
    return values


@pytest.fixture(scope="module")
def dataset(store: Path) -> FaceDataset:
    return FaceDataset(store, "train", ("row", "shape", *NAMES, "identity_row"))


def check(batch: dict[str, Any]) -> None:
    rows = batch["row"]
    for name in NAMES:
        expected = labels(rows, name)
        assert batch[name].numpy().dtype == expected.dtype
        np.testing.assert_array_equal(batch[name].numpy(), expected)
    np.testing.assert_array_equal(batch["identity_row"], 19 - rows.numpy() // 2)
    np.testing.assert_array_equal(batch["shape"].numpy(), random_rows(40)["shape"][rows.numpy()])


def test_samples_and_batches(dataset: FaceDataset) -> None:
    check(dataset[[5, 0, 31, 5]])
    check(dataset[:])
    sample = dataset[7]
    assert sample["identity_neutral_mm"].shape == (64, 3) and sample["identity_scans"].shape == ()
    again = pickle.loads(pickle.dumps(dataset))
    assert again[7]["identity_neutral_mm"].equal(sample["identity_neutral_mm"])


def test_both_scans_of_a_person_have_one_label(dataset: FaceDataset) -> None:
    loader = FaceLoader(dataset, 8, order=identities(dataset, k=2))
    for batch in loader:
        check(batch)
        first, second = batch["identity_neutral_mm"][::2], batch["identity_neutral_mm"][1::2]
        assert first.equal(second) and not batch["shape"][::2].equal(batch["shape"][1::2])


@pytest.mark.parametrize("threads", [0, 2])
def test_buffers_that_are_used_again(dataset: FaceDataset, threads: int) -> None:
    loader = FaceLoader(dataset, 4, order=Shuffled(len(dataset)), threads=threads)
    for _ in range(3):
        rows = []
        for batch in loader:
            check(batch)
            rows += batch["row"].tolist()
        assert len(set(rows)) == len(dataset)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes(dataset: FaceDataset, start: str) -> None:
    loader = FaceLoader(dataset, 8, seed=1)
    for batch in DataLoader(loader, batch_size=None, num_workers=2, multiprocessing_context=start):
        check(batch)


def test_metres(store: Path) -> None:
    dataset = FaceDataset(store, fields=("row", *NAMES), units="m")
    batch = dataset[[0, 39]]
    for name in ("identity_neutral", "identity_expected_error"):
        expected = labels(batch["row"], f"{name}_mm") / np.float32(1000)
        np.testing.assert_array_equal(batch[f"{name}_m"].numpy(), expected)
    np.testing.assert_array_equal(batch["identity_shape"], labels(batch["row"], "identity_shape"))
    again = dataset[[39]]  # the store's own rows are in millimetres still
    assert again["identity_neutral_m"][0].equal(batch["identity_neutral_m"][1])


def test_int16_and_below_a_url(tmp_path: Path, s3: str) -> None:
    make_store(tmp_path / "a", people=True, int16=True)
    push(tmp_path / "a", s3)
    here, there = (FaceDataset(place, fields=("row", *NAMES)) for place in (tmp_path / "a", s3))
    got, expected = there[[39, 2, 0]], here[[39, 2, 0]]
    for name in NAMES:
        assert got[name].equal(expected[name])
        wanted = labels(got["row"], name)
        np.testing.assert_allclose(got[name].numpy(), wanted, rtol=0, atol=0.0025001)


def test_stores_without_say_so(tmp_path: Path) -> None:
    make_store(tmp_path)
    for name in ("identity_neutral_mm", "identity_row"):
        with pytest.raises(StoreError, match=f"no field {name}; .*no rows of their own: build it"):
            FaceDataset(tmp_path, fields=("shape", name))


def test_transforms_leave_what_is_at_rest(dataset: FaceDataset) -> None:
    """The label is anchored to the model's head, not to the scan."""
    store = dataset.store
    names = ("vertices_mm", "neutral_mm", "shape", "expression", "pose", "translation_mm", *NAMES)
    moved = FaceDataset(store, fields=("row", *names))
    draw = Draw(0, np.arange(3), np.arange(3))
    zeros = torch.zeros(3), torch.zeros(300, 3), torch.zeros(100, 3)
    for step in (RandomRotation(90), PoseRemoved(*zeros), neutral):
        batch = step(moved[[0, 1, 2]], draw)
        assert not batch["vertices_mm"].equal(moved[[0, 1, 2]]["vertices_mm"])
        for name in NAMES:
            np.testing.assert_array_equal(batch[name].numpy(), labels(batch["row"], name))


@pytest.mark.parametrize("units", ["mm", "m"])
def test_the_label_as_the_target(store: Path, units: str) -> None:
    names = ("vertices_mm", "shape", "pose", "landmarks_mm", "identity_neutral_mm")
    dataset = FaceDataset(store, fields=(*names, "identity_shape"), units=units)
    batch = dataset[[4, 5, 6]]
    target = identity_neutral(batch, Draw(0, np.arange(3), np.arange(3)))
    assert target[f"vertices_{units}"].equal(batch[f"identity_neutral_{units}"])
    assert target["shape"].equal(batch["identity_shape"])
    assert not target["pose"].any() and f"landmarks_{units}" not in target
    assert target["shape"][0].equal(target["shape"][1]) and f"neutral_{units}" not in target
    with pytest.raises(FacefoldError, match="no identity_shape in the batch; ask the dataset"):
        identity_neutral(FaceDataset(store, fields=names)[[0]], Draw(0, RANGE, RANGE))
