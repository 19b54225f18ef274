"""What was written comes back bit for bit, through our reader and through others'."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from random_store import N_VERTICES, make_store, random_manifest, random_rows

from pipeline.errors import StoreError
from pipeline.store import current_version, fields, open_store
from pipeline.store.paths import shard_path

# one short shard; whole shards; a short last chunk; several shards
SIZES = [(5, 4096), (32, 16), (41, 16), (40, 32), (2500, 1024)]


@pytest.mark.parametrize(("n", "rows_per_shard"), SIZES)
def test_our_reader(tmp_path: Path, n: int, rows_per_shard: int) -> None:
    make_store(tmp_path, n, rows_per_shard)
    store, written = open_store(tmp_path), random_rows(n)
    shuffled = np.random.default_rng(1).permutation(n)
    for name, values in written.items():
        assert store.read(name, slice(None)).tobytes() == values.tobytes(), name
        assert store.read(name, shuffled).tobytes() == values[shuffled].tobytes(), name
        assert store.row(name, n - 1).tobytes() == values[n - 1].tobytes(), name


@pytest.mark.parametrize(("n", "rows_per_shard"), SIZES)
def test_plain_zarr(tmp_path: Path, n: int, rows_per_shard: int) -> None:
    group = zarr.open_group(make_store(tmp_path, n, rows_per_shard), mode="r")
    assert set(group.array_keys()) == {*fields(), "scan_id"}
    for name, values in random_rows(n).items():
        array = group[name]
        assert array.dtype == values.dtype
        assert array[...].tobytes() == values.tobytes(), name
        assert array[n - 1].tobytes() == values[n - 1].tobytes(), name
        assert array.attrs["units"] == fields()[name].unit


def test_zarr_shows_a_lost_shard_as_nan_not_as_zeros(store: Path) -> None:
    version = current_version(store)
    (version / shard_path("shape", 1, 1)).unlink()
    assert np.isnan(zarr.open_group(version, mode="r")["shape"][16:32]).all()


def test_tables(store: Path) -> None:
    version, wanted = current_version(store), random_manifest(40)
    manifest = pd.read_parquet(version / "manifest.parquet")
    assert manifest["scan_id"].tolist() == [row["scan_id"] for row in wanted]
    assert manifest["row"].tolist() == list(range(40))
    assert manifest["shard"].tolist() == [i // 16 for i in range(40)]
    assert manifest["landmark_error_mm"].isna().sum() == 20
    identities = pq.read_table(version / "identities.parquet").to_pylist()
    assert identities[3] == {
        "identity": "person:0003",
        "split": "train",
        "scans": 2,
        "sources": "s0,s1",
        "held_back": None,
        "result_key": None,
    }
    assert pq.read_table(version / "quarantine.parquet")["reason"].to_pylist() == ["empty"]
    assert pq.read_table(version / "excluded.parquet")["path"].to_pylist() == ["x.txt"]


def test_a_row_is_the_file_itself(store: Path) -> None:
    row = open_store(store).row("vertices_mm", 20)
    assert row.shape == (N_VERTICES, 3)
    assert not row.flags.owndata
    assert not row.flags.writeable


def test_rows_outlive_the_store_that_mapped_them(tmp_path: Path) -> None:
    make_store(tmp_path, 2500, 1024)
    rows = [open_store(tmp_path).row("vertices_mm", row) for row in (0, 1023, 1024, 2499)]
    gc.collect()
    wanted = random_rows(2500)["vertices_mm"][[0, 1023, 1024, 2499]]
    assert np.stack(rows).tobytes() == wanted.tobytes()


def test_shards_lie_where_huge_pages_can(tmp_path: Path) -> None:
    make_store(tmp_path, 2500, 1024)
    store = open_store(tmp_path)
    for name in store.fields:
        assert [store.row(name, row).ctypes.data % 2**21 for row in (0, 1024, 2048)] == [0] * 3


def test_wrong_rows_and_fields(store: Path) -> None:
    opened = open_store(store)
    for bad in ([40], [-1], [0, 41]):
        with pytest.raises(IndexError, match=r"expected 0 … 39"):
            opened.read("shape", bad)
    with pytest.raises(IndexError, match="row -1"):
        opened.row("shape", -1)
    with pytest.raises(StoreError, match=r"no field shapes; it has vertices_mm, neutral_mm"):
        opened.read("shapes", [0])
    for bad in ([0.5], [True, False], [[1]]):
        with pytest.raises(IndexError, match="expected a list of integers"):
            opened.read("shape", bad)
    assert opened.read("shape", []).shape == (0, 300)
    mask = np.arange(40) == 7
    assert (opened.read("shape", mask) == opened.read("shape", [7])).all()


def test_a_pickled_store_stays_at_its_version(store: Path) -> None:
    opened = open_store(store)
    opened.map("shape")
    make_store(store, seed=1)
    again = pickle.loads(pickle.dumps(opened))
    assert again.path == opened.path != open_store(store).path
    assert again.read("shape", [3]).tobytes() == random_rows(40)["shape"][3].tobytes()


def test_reading_loads_no_zarr_and_no_scipy(store: Path) -> None:
    code = (
        "import sys; from pipeline.store import open_store;"
        f"open_store({str(store)!r}).read('shape', [1]);"
        "print(sorted({'zarr', 'scipy', 'torch', 'trimesh', 'pydantic'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_shards_are_the_bytes_zarr_python_writes(tmp_path: Path) -> None:
    version = make_store(tmp_path / "ours", 41, 32)
    group = zarr.open_group(tmp_path / "theirs", mode="w")
    for name, values in random_rows(41).items():
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            shards=(32, *values.shape[1:]),
            chunks=(16, *values.shape[1:]),
            compressors=None,
            fill_value=np.nan if values.dtype.kind == "f" else 0,
            config={"write_empty_chunks": True},
        )
        array[...] = values
        for shard in (0, 1):  # a full one, and one with half a chunk and a chunk absent
            path = shard_path(name, shard, values.ndim - 1)
            assert (version / path).read_bytes() == (group.store.root / path).read_bytes(), path
