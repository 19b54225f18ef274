"""One process owns a shard; whatever is wrong is refused before anything is written."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from random_store import TAG, part, random_manifest, random_rows, stage, write_random_shard

from pipeline.errors import StoreError
from pipeline.store import ModelTag, create_staging, open_store, publish, sweep, verify, write_shard
from pipeline.store.staging import claimed

OTHER = ModelTag("other", "b" * 64, False, TAG.n_vertices)


PROFILES = pytest.mark.parametrize("profile", ["training", "archive"])


@PROFILES
def test_processes_write_shards_at_once(tmp_path: Path, profile: str) -> None:
    staging = create_staging(tmp_path, 90, TAG, 16, profile=profile)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=spawn) as pool:
        jobs = [pool.submit(write_random_shard, staging, k, 90, 16) for k in range(6)]
        receipts = [job.result() for job in jobs]
    publish(tmp_path, staging, receipts[::-1], random_manifest(90))
    assert verify(tmp_path) == []
    read = open_store(tmp_path).read("vertices_mm", slice(None))
    assert read.tobytes() == random_rows(90)["vertices_mm"].tobytes()


def test_writing_again_gives_the_same_receipt_and_other_rows_are_refused(tmp_path: Path) -> None:
    staging, receipts = stage(tmp_path, 20, 16)
    again = write_random_shard(staging, 1, 20, 16)
    assert (again.digest, again.files) == (receipts[1].digest, receipts[1].files)
    with pytest.raises(StoreError, match="shard 1 already holds other rows of"):
        write_shard(staging, 1, part(random_rows(20, seed=9), 1, 20, 16), TAG.digest)


def test_a_shard_in_other_hands_is_refused(tmp_path: Path) -> None:
    staging = create_staging(tmp_path, 20, TAG, 16)
    with (
        claimed(staging, "shard 0"),
        pytest.raises(StoreError, match="shard 0 is being written by another process"),
    ):
        write_random_shard(staging, 0, 20, 16)
    assert write_random_shard(staging, 0, 20, 16).rows == 16


def test_rows_of_another_model_are_refused(tmp_path: Path) -> None:
    staging, receipts = stage(tmp_path, 20, 16)
    with pytest.raises(StoreError, match="made with the model 'test model'"):
        write_shard(staging, 0, part(random_rows(20), 0, 20, 16), OTHER.digest)
    publish(tmp_path, staging, receipts, random_manifest(20))
    with pytest.raises(StoreError, match="register them again with that model or choose another"):
        create_staging(tmp_path, 20, OTHER, 16)


def _without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in random_rows(16).items() if key != name}


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (_without("pose"), "pose: missing"),
        ({**random_rows(16), "hair": np.zeros(16)}, "hair: not a stored field"),
        (random_rows(15), r"shape: got float32 \(15, 300\), expected float32 \(16, 300\)"),
        (
            {**_without("shape"), "shape": np.zeros((16, 300))},
            r"shape: got float64 \(16, 300\), expected float32 \(16, 300\)",
        ),
        (
            {**_without("shape"), "shape": np.full((16, 300), np.nan, "f4")},
            r"shape: rows \[0, 1, 2, 3, 4\] hold values that are not finite",
        ),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, rows: dict[str, np.ndarray], fault: str) -> None:
    staging = create_staging(tmp_path, 20, TAG, 16)
    with pytest.raises(StoreError, match=fault):
        write_shard(staging, 0, rows, TAG.digest)
    assert not list(staging.glob("*/c"))


def test_wrong_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="0 rows, expected at least one"):
        create_staging(tmp_path, 0, TAG)
    with pytest.raises(StoreError, match="got 100, expected a multiple of 16"):
        create_staging(tmp_path, 20, TAG, 100)
    staging = create_staging(tmp_path, 20, TAG, 16)
    with pytest.raises(StoreError, match="shard 2, expected 0 … 1"):
        write_random_shard(staging, 2, 20, 16)


@PROFILES
def test_a_killed_writer_is_run_again(tmp_path: Path, profile: str) -> None:
    staging = create_staging(tmp_path, 3000, TAG, 3008, profile=profile)
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=write_random_shard, args=(staging, 0, 3000, 3008))
    writer.start()
    while writer.is_alive() and not (staging / "vertices_mm" / "c").exists():
        time.sleep(0.001)
    writer.kill()
    writer.join()
    receipt = write_random_shard(staging, 0, 3000, 3008)
    publish(tmp_path, staging, [receipt], random_manifest(3000))
    assert verify(tmp_path) == []


def test_the_dead_leave_nothing_and_the_living_are_spared(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from random_store import *;"
        f"stage(Path({str(tmp_path)!r}), 20, 16); print('staged', flush=True); time.sleep(60)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=here)
    assert other.stdout is not None
    assert other.stdout.readline() == b"staged\n"
    (theirs,) = tmp_path.glob(".staging-*[!k]")
    assert sweep(tmp_path) == []
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    mine = create_staging(tmp_path, 20, TAG, 16)
    assert mine.is_dir()
    assert not theirs.exists()
