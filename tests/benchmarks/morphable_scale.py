"""Morphable models of many people by Dask: seconds, memory of a worker, nearness to exact ones.

    python tests/benchmarks/morphable_scale.py FOLDER [--people N] [--components K] [--workers N]
        [--memory-gb GB] [--exact] [--json]

People are drawn from the stand-in's 300 components with .3 mm of noise a coordinate; FOLDER keeps
their store, of some 330 kB a person. `--exact` makes the same model in this process too. Memory is
the largest resident set of each worker's process and of this one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from flows.cluster.connection import workers
from flows.cluster.modelling import on_workers
from flows.cluster.scoring import Processes
from pipeline.evaluation.morphable.model import in_memory
from pipeline.evaluation.morphable.people import people_of
from pipeline.flame.morphable import Morphable
from pipeline.flame.stand_in import stand_in
from pipeline.store import ModelTag, create_staging, open_store, publish, write_shard
from pipeline.store.schema import IDENTITY
from pipeline.store.topology import Topology
from tests.evaluation.people_store import row
from tests.store.random_store import random_people, random_rows

IN_SHARD = 256
NOISE_MM = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--components", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-gb", type=float, help="at which a worker is ended")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    store = arguments.folder / f"people_{arguments.people}.zarr"
    if not store.exists():
        write(store, arguments.people)
    found = measured(store, arguments)
    print(json.dumps(found) if arguments.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


def write(store: Path, people: int) -> None:
    """Scans are of no interest: their rows are the same in every shard."""
    model, random = stand_in(), np.random.default_rng(0)
    tag, basis = ModelTag.of(model), model.shape_basis_mm.reshape(-1, 300)
    staging = create_staging(
        store, people, tag, IN_SHARD, topology=Topology.of(model), identities=people
    )
    scans, labels = (f(IN_SHARD, n_vertices=5023) for f in (random_rows, random_people))
    receipts = []
    for shard, start in enumerate(range(0, people, IN_SHARD)):
        n = min(IN_SHARD, people - start)
        moved = random.normal(size=(n, 300)) @ basis.T + NOISE_MM * random.normal(size=(n, 15069))
        labels["identity_neutral_mm"] = (model.template_mm.ravel() + moved).reshape(n, -1, 3)
        own = {name: np.asarray(x[:n], x.dtype) for name, x in labels.items()}
        own["identity_neutral_mm"] = own["identity_neutral_mm"].astype(np.float32)
        rest = {name: x[:n] for name, x in scans.items()}
        receipts.append(write_shard(staging, shard, rest, tag.digest))
        receipts.append(write_shard(staging, shard, own, tag.digest, IDENTITY))
    named = [{"identity": f"person:{i:05d}"} for i in range(people)]
    rows = [row(i, i) | {"split": "train"} for i in range(people)]
    publish(store, staging, receipts, rows, identities=named)


def measured(store: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    heads = people_of(str(store), open_store(store), "train").heads
    own = Path(TemporaryDirectory().name)
    with workers(Processes(own, arguments.workers, arguments.memory_gb), None) as client:
        client.run(peak_mb)  # processes have started, and know the store's code
        began = time.monotonic()
        found = on_workers(heads, arguments.components, 0, client)
        seconds = time.monotonic() - began
        peaks = sorted(client.run(peak_mb).values())
    said: dict[str, Any] = {
        "people": len(heads), "components": len(found), "workers": arguments.workers,
        "seconds": round(seconds, 1), "workers_mb": peaks, "driver_mb": peak_mb(),
    }  # fmt: skip
    if arguments.exact:
        began = time.monotonic()
        exact = in_memory(heads, arguments.components, 0)
        said |= {"exact_seconds": round(time.monotonic() - began, 1), "exact_mb": peak_mb()}
        said |= apart(found, exact)
    return said


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def apart(found: Morphable, exact: Morphable) -> dict[str, float]:
    """How far two models are from each other: variances each and together, and the subspaces'
    largest angle."""
    overlap = np.linalg.svd(found.components @ exact.components.T, compute_uv=False)
    variances = np.abs(found.variances_mm2 / exact.variances_mm2 - 1)
    return {
        "variances_apart": float(variances.max()),
        "together_apart": float(1 - found.variances_mm2.sum() / exact.variances_mm2.sum()),
        "subspaces_apart_deg": float(np.degrees(np.arccos(min(overlap[-1], 1.0)))),
    }


if __name__ == "__main__":
    main()
