"""The plan of a million scans: catalogue, keys, ledger, order of rows, manifest; no geometry.

    python tests/benchmarks/million.py DIR [N]        # prints one JSON object

Part of tests/benchmarks/flow.py, in a process of its own, whose memory is measured.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipeline.refusals import Code
from pipeline.types import Refusal
from tests.small_build import write_registry

A_FOLDER = 1000
SCANS_A_PERSON = 20
NO_FACE = Refusal("quality", Code.NOT_A_FACE, "hardly a face")


def million(folder: Path, scans: int) -> dict[str, Any]:
    """The figures of a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.million", str(folder), str(scans)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def write_files(folder: Path, n: int) -> Path:
    """`n` files that could be scans, none of which is opened but to be hashed."""
    name = r"\d+/(?P<subject>p\d+)_(?P<expression>e\d+)\.obj"
    scans = {"include": ["*/*.obj"], "name": name}
    folder.mkdir(parents=True, exist_ok=True)
    write_registry(folder, "many", scans=scans, landmarks="none", neutral=["e0"])
    for start in range(0, n, A_FOLDER):
        inside = folder / "many" / str(start // A_FOLDER)
        inside.mkdir(parents=True, exist_ok=True)
        for i in range(start, min(start + A_FOLDER, n)):
            person, expression = divmod(i, SCANS_A_PERSON)
            (inside / f"p{person}_e{expression}.obj").write_bytes(b"%d" % i)
    config = {
        "store": "unified.zarr",
        "model": "stand-in",
        "sources": [{"registry": "many.yaml", "root": "many"}],
    }
    path = folder / "build.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def measured(config_path: Path) -> dict[str, Any]:
    from pipeline.build.assembly import assemble, assembly_digest
    from pipeline.build.config import load_build
    from pipeline.build.ledger import Result, open_ledger, outcomes, record
    from pipeline.build.plan import batches, ledger_path, make_plan
    from pipeline.build.quarantine import quarantine_rows, summarise
    from pipeline.flame.assets import load_model
    from pipeline.store.tables import identity_rows, write_table

    seconds: dict[str, float] = {}
    cpu_seconds: dict[str, float] = {}

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        began, cpu_before = time.perf_counter(), time.process_time()
        yield
        seconds[what] = round(time.perf_counter() - began, 1)
        cpu_seconds[what] = round(time.process_time() - cpu_before, 1)

    config = load_build(config_path)
    model = load_model(config.model)
    with timed("catalogue and keys, every file hashed"):
        plan = make_plan(config, model)
    with timed("again, hashes known"):
        plan = make_plan(config, model)
    with timed("batches"):
        n_batches = sum(1 for _ in batches(plan.todo, config.batch, 8))
    figures = dict.fromkeys(FIGURES, 0.123456789)
    with timed("results to the ledger"), open_ledger(ledger_path(config)) as ledger:
        for start in range(0, len(plan.works), 8):
            rows = []
            for work in plan.works[start : start + 8]:
                scan_id = work.record.scan_id
                refused = NO_FACE if hash(work.keys.judge) % 50 == 0 else None
                told = {"scan_id": scan_id, "verdict": "accept", "unit": "mm", **figures}
                rows += [
                    Result(work.keys.read, scan_id),
                    Result(work.keys.register, scan_id),
                    Result(work.keys.judge, scan_id, refused, told),
                ]
            record(ledger, rows)
        found = outcomes(ledger, [work.keys.judge for work in plan.works])
    with timed("quarantine, digest"):
        quarantine = quarantine_rows(config, plan, found)
        summarise(plan, quarantine)
        digest = assembly_digest(config, plan, found, quarantine, model)
    with timed("identities, splits, order of rows, manifest"):
        assembly = assemble(config, plan, found, quarantine, model, digest)
    with timed("identities' table, manifest written"):
        people = len(identity_rows(assembly.manifest))
        write_table(assembly.manifest, config_path.parent / "manifest.parquet")
    return {
        "scans, rows, people, batches": [
            len(plan.works),
            len(assembly.manifest),
            people,
            n_batches,
        ],
        "shards": -(-len(assembly.manifest) // config.rows_per_shard),
        "seconds": round(sum(seconds.values()), 1),
        "by step": seconds,
        "CPU seconds": round(sum(cpu_seconds.values()), 1),
        "CPU by step": cpu_seconds,
        "GB, most": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


FIGURES = (
    *("scan_to_mesh_median_mm", "scan_to_mesh_p95_mm", "mesh_to_scan_median_mm"),
    *("mesh_to_scan_p95_mm", "coverage", "outer_eye_mm", "beyond_model_mm"),
)

if __name__ == "__main__":
    file = Path(sys.argv[1]) / "build.yaml"
    if not file.exists():
        write_files(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
    print(json.dumps(measured(file)))
