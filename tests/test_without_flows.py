"""`pipeline/` works where Prefect and Dask are not installed, and the kernel on a bare machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ModuleNotFoundError(f"{{name}} is blocked")

sys.meta_path.insert(0, Refuse())
"""
ONE_SCAN_INTO_A_STORE = """
from pathlib import Path
from pipeline.catalogue import catalogue
from pipeline.flame.assets import load_model
from pipeline.loaders import FaceDataset
from pipeline.quality.thresholds import Gates
from pipeline.registration import RegistrationOptions
from pipeline.registry import load_registry
from pipeline.build.assembly import shard_arrays
from pipeline.build.ledger import Keys
from pipeline.build.stages import Recipe, Work, process
from pipeline.store import ModelTag, create_staging, publish, write_shard
from pipeline.synthetic import write_sources

out = Path({out!r})
model = load_model()
source = next(s for s in write_sources(out, scans=24) if s.id == "synth_studio")
registry = load_registry(source.id)
records = catalogue(registry, source.root).records
works = [Work(r, Keys("aa", "bb", "cc")) for r in records if r.path.name not in
         {{Path(b).name for b in source.broken}}][:1]
options = RegistrationOptions(
    model_iterations=12, residual_iterations=4, fine_iterations=3, tolerance_mm=1.0
)
recipe = Recipe(registry, options, Gates(), out)
[results] = process(works, recipe, model)
assert results[-1].kept, results
staging = create_staging(out / "s.zarr", 1, ModelTag.of(model), rows_per_shard=16)
receipt = write_shard(staging, 0, shard_arrays(out, ["bb"]), model.digest)
row = dict(results[-1].summary) | {{"identity": "a", "split": "train"}}
publish(out / "s.zarr", staging, [receipt], [row])
print(tuple(FaceDataset(out / "s.zarr", split="train")[0]["vertices_mm"].shape))
"""
KERNEL = """
import pipeline.geometry, pipeline.flame.assets, pipeline.flame.lbs, pipeline.registration
print("kernel")
"""
PLANNING = """
import pipeline.build.dry_run, pipeline.build.run, pipeline.build.tally
print("planned")
"""


@pytest.mark.parametrize(
    ("refused", "code", "printed"),
    [
        ({"prefect", "dask", "distributed", "flows"}, ONE_SCAN_INTO_A_STORE, "(5023, 3)"),
        ({"prefect", "dask", "distributed", "flows", "rich", "typer"}, PLANNING, "planned"),
        (
            {"prefect", "dask", "distributed", "flows", "trimesh", "pydantic", "yaml", "zarr",
             "pyarrow", "PIL", "embreex", "rich", "typer", "open3d"},
            KERNEL,
            "kernel",
        ),
    ],
    ids=["pipeline without flows", "planning", "kernel with numpy, scipy, torch alone"],
)  # fmt: skip
def test_runs_without(refused: set[str], code: str, printed: str, tmp_path: Path) -> None:
    script = BLOCK.format(refused=sorted(refused)) + code.format(out=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert printed in done.stdout


def test_the_block_really_blocks() -> None:
    script = BLOCK.format(refused=["prefect"]) + "import prefect"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode != 0 and "prefect is blocked" in done.stderr
