"""A few faults of each kind; `tests/benchmarks/faults.py` draws as many as are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3_server import make_bucket
from tests.store.faults import FAULTS, OWN_DISK, own_disks_possible, strike

QUICK = {name for name in FAULTS if "S3" not in name} | {"S3: damaged object"}
SEEDS = {"bit flip": 4, "truncation": 2, "deleted file": 3, "kill −9 of the writer": 3}


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str) -> None:
    make_bucket(s3_endpoint, "faults")


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        pytest.param(name, seed, marks=() if name in QUICK and not seed else pytest.mark.slow)
        for name in FAULTS
        for seed in range(SEEDS.get(name, 1))
    ],
)
def test_old_or_new_and_mended(name: str, seed: int, tmp_path: Path, s3: str, bucket: None) -> None:
    if name in OWN_DISK and not own_disks_possible():
        pytest.skip("this user may not mount a file system of his own (unshare -rm)")
    outcome = strike(name, tmp_path / "unified.zarr", seed)
    assert outcome.fine, outcome
