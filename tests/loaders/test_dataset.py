"""Samples are the rows that were written, however they are drawn."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from random_store import N_VERTICES, make_store, random_manifest, random_rows
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from pipeline.errors import StoreError
from pipeline.loaders import FaceDataset
from pipeline.store import open_store
from pipeline.store.paths import shard_path

MANIFEST, ROWS = random_manifest(40), random_rows(40)
TRAIN = [i for i, row in enumerate(MANIFEST) if row["split"] == "train"]


def test_samples(store: Path) -> None:
    dataset = FaceDataset(store, split="train")
    assert len(dataset) == len(TRAIN) == 32
    for i, row in enumerate(TRAIN):
        sample = dataset[i]
        assert list(sample) == ["vertices_mm", "shape", "identity"]
        assert sample["vertices_mm"].numpy().tobytes() == ROWS["vertices_mm"][row].tobytes()
        assert dataset.identities[sample["identity"]] == MANIFEST[row]["identity"]
    assert dataset[-1]["shape"].equal(dataset[31]["shape"])
    with pytest.raises(IndexError, match="sample 32, expected 0 … 31"):
        dataset[32]


def test_every_stored_field_and_column(store: Path) -> None:
    opened = open_store(store)
    columns = [name for name in opened.manifest.column_names if name != "expression"]
    names = (*opened.fields, *columns, "manifest.expression")
    sample = FaceDataset(opened, fields=names)[3]
    assert list(sample) == list(names)
    for name, field in opened.fields.items():
        if name != "validity":
            assert tuple(sample[name].shape) == field.shape, name
    assert (sample["expression"].dtype, sample["scan_id"]) == (torch.float32, "s1:scan_3")
    assert (sample["row"].item(), sample["neutral"].item()) == (3, True)
    assert sample["landmark_error_mm"].isnan()
    assert sample["manifest.expression"] == "neutral"


def test_batches(store: Path) -> None:
    dataset = FaceDataset(store, "train", ("pose", "source", "scan_id"))
    batch = dataset[[5, 0, 31]]
    rows = [TRAIN[5], TRAIN[0], TRAIN[31]]
    assert batch["pose"].numpy().tobytes() == ROWS["pose"][rows].tobytes()
    assert batch["scan_id"] == [MANIFEST[row]["scan_id"] for row in rows]
    assert [dataset.sources[code] for code in batch["source"]] == [
        MANIFEST[row]["source"] for row in rows
    ]
    assert dataset[2:4]["pose"].equal(dataset[torch.tensor([2, 3])]["pose"])
    mask = np.arange(32) == 7
    assert dataset[mask]["pose"].equal(dataset[[7]]["pose"])
    assert dataset[[]]["pose"].shape == (0, 15)


def test_iteration(store: Path) -> None:
    seen = [sample["scan_id"] for sample in FaceDataset(store, "val", ("scan_id",))]
    assert seen == [row["scan_id"] for row in MANIFEST if row["split"] == "val"]


def test_validity(store: Path) -> None:
    mask = FaceDataset(store, fields=("validity",))[4]["validity"]
    assert (mask.dtype, tuple(mask.shape)) == (torch.bool, (N_VERTICES,))
    packed = FaceDataset(store, fields=("validity",), unpack_validity=False)[4]["validity"]
    assert packed.numpy().tobytes() == ROWS["validity"][4].tobytes()
    assert all(mask[8 * j + k] == bool(packed[j] >> k & 1) for j in range(8) for k in range(8))


def test_absent_landmarks_are_nan(store: Path) -> None:
    sample = FaceDataset(store, fields=("landmarks_mm", "landmark_confidence"))[3]
    assert sample["landmarks_mm"][5:].isnan().all()
    assert not sample["landmark_confidence"][5:].any()
    assert not sample["landmarks_mm"][:5].isnan().any()


def test_choosing_rows(store: Path) -> None:
    chosen = FaceDataset(store, "train", ("scan_id",), where={"source": "s1", "neutral": True})
    wanted = [
        row["scan_id"]
        for row in MANIFEST
        if row["split"] == "train" and row["source"] == "s1" and row["neutral"]
    ]
    assert [sample["scan_id"] for sample in chosen] == wanted
    assert len(FaceDataset(store, where={"split": ["train", "val"]})) == 40
    assert FaceDataset(store, "val").identities == FaceDataset(store, "train").identities


def test_choosing_rows_by_a_question(store: Path) -> None:
    asked = FaceDataset(store, "train", ("scan_id",), where="source == 's1' and coverage > 0.5")
    wanted = [
        row["scan_id"]
        for row in MANIFEST
        if row["split"] == "train" and row["source"] == "s1" and row["coverage"] > 0.5
    ]
    assert [sample["scan_id"] for sample in asked] == wanted
    with pytest.raises(StoreError, match=r"no row satisfies all of .*train.* and coverage > 2"):
        FaceDataset(store, "train", where="coverage > 2")


def test_wrong_questions(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no field vertices; it has vertices_mm, neutral_mm"):
        FaceDataset(store, fields=("vertices", "shape"))
    with pytest.raises(StoreError, match=r"no row has split in \['test'\]; it has train, val"):
        FaceDataset(store, split="test")
    with pytest.raises(StoreError, match="no column licens; the manifest has scan_id"):
        FaceDataset(store, where={"licens": "x"})
    with pytest.raises(StoreError, match="no row satisfies all of"):
        FaceDataset(store, where={"subject": "0", "split": "train"})
    with pytest.raises(StoreError, match="name at least one"):
        FaceDataset(store, fields=())
    with pytest.raises(StoreError, match="holds no published store"):
        FaceDataset(tmp_path)


def test_damage_shows_before_training(tmp_path: Path) -> None:
    """Of each field asked for, named by its file; what is not asked for need not be whole."""
    version = make_store(tmp_path, points=True)
    points = {"points_mm": 4, "normals": 4}
    for name, field in open_store(version).fields.items():
        shard = version / shard_path(name, 1, len(field.shape))
        content = shard.read_bytes()
        asked = {"fields": (name, "row"), "points": points.get(name, 0)}
        FaceDataset(version, **asked)  # type: ignore[arg-type]
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StoreError, match=f"{name}/c/1[/0]*: its index is damaged"):
            FaceDataset(version, **asked)  # type: ignore[arg-type]
        FaceDataset(version, fields=("row",))
        shard.write_bytes(content[:-1])
        with pytest.raises(StoreError, match=f"{name}/c/1[/0]*: {len(content) - 1} bytes"):
            FaceDataset(version, fields=("row",))
        shard.unlink()
        with pytest.raises(StoreError, match=f"{name}/c/1[/0]*: missing"):
            FaceDataset(version, fields=("row",))
        shard.write_bytes(content)
    shard = version / "points_at" / "c" / "0" / "0"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(StoreError, match="points_at/c/0/0: its index is damaged"):
        FaceDataset(version, fields=("normals",), points=4)


def test_a_damaged_manifest_shows_before_training(tmp_path: Path) -> None:
    manifest = make_store(tmp_path) / "manifest.parquet"
    content = manifest.read_bytes()
    manifest.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match=r"manifest\.parquet: .* bytes, expected"):
        FaceDataset(tmp_path)
    manifest.write_bytes(bytes(len(content)))
    with pytest.raises(StoreError, match=r"manifest\.parquet: unreadable"):
        FaceDataset(tmp_path)


def test_points_and_units_that_cannot_be(store: Path, tmp_path: Path) -> None:
    make_store(tmp_path, points=True)
    with pytest.raises(StoreError, match="points=0 with the fields points_mm: expected a number"):
        FaceDataset(tmp_path, fields=("points_mm",))
    with pytest.raises(StoreError, match="points=8 with the fields shape"):
        FaceDataset(tmp_path, fields=("shape",), points=8)
    with pytest.raises(StoreError, match="no field points_mm"):
        FaceDataset(store, fields=("points_mm",), points=8)
    with pytest.raises(StoreError, match="units 'cm', expected 'mm' or 'm'"):
        FaceDataset(store, units="cm")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="source_to_canonical: in millimetres, and not"):
        FaceDataset(store, fields=("source_to_canonical",), units="m")


def test_metres(store: Path) -> None:
    fields = ("vertices_mm", "pose", "landmark_error_mm", "unit_factor_mm")
    one, other = (FaceDataset(store, fields=fields, units=units) for units in ("mm", "m"))
    names = ["vertices_m", "pose", "landmark_error_m", "unit_factor_m"]
    assert (list(one[0]), list(other[0])) == (list(fields), names)
    for here, there in zip(fields, names, strict=True):
        scale = 1 if here == there else 1000
        assert other[:][there].dtype == one[:][here].dtype
        torch.testing.assert_close(scale * other[:][there], one[:][here], equal_nan=True)


@pytest.mark.parametrize("start", [None, "spawn", "forkserver", "fork"])
def test_data_loader(store: Path, start: str | None) -> None:
    dataset = FaceDataset(store, "train", ("vertices_mm", "identity", "scan_id"))
    loader = DataLoader(
        dataset,
        batch_size=5,
        shuffle=True,
        num_workers=2 if start else 0,
        multiprocessing_context=start,
        generator=torch.Generator().manual_seed(0),
    )
    row_of = {row["scan_id"]: i for i, row in enumerate(MANIFEST)}
    seen: Counter[str] = Counter()
    for batch in loader:
        rows = [row_of[name] for name in batch["scan_id"]]
        assert batch["vertices_mm"].numpy().tobytes() == ROWS["vertices_mm"][rows].tobytes()
        assert [dataset.identities[code] for code in batch["identity"]] == [
            MANIFEST[row]["identity"] for row in rows
        ]
        seen.update(batch["scan_id"])
    assert seen == Counter(MANIFEST[row]["scan_id"] for row in TRAIN)


def test_data_loader_of_whole_batches(store: Path) -> None:
    dataset = FaceDataset(store, fields=("shape", "row"))
    sampler = BatchSampler(RandomSampler(dataset), 16, drop_last=False)  # type: ignore[arg-type]
    batches = list(DataLoader(dataset, sampler=sampler, batch_size=None))
    assert [len(batch["row"]) for batch in batches] == [16, 16, 8]
    for batch in batches:
        assert batch["shape"].numpy().tobytes() == ROWS["shape"][batch["row"]].tobytes()


def test_a_pickled_dataset_carries_no_arrays(store: Path) -> None:
    dataset = FaceDataset(store)
    content = pickle.dumps(dataset)
    assert len(content) < 5000
    assert pickle.loads(content)[7]["shape"].equal(dataset[7]["shape"])


def test_importing_is_light() -> None:
    code = (
        "import sys, pipeline.loaders;"
        "heavy = {'zarr', 'scipy', 'pandas', 'pydantic', 'yaml', 'trimesh', 'rich', 'PIL'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
