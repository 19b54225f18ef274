"""Principal components of people who are too many for one memory, on Dask's workers."""

from __future__ import annotations

from concurrent.futures import CancelledError
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from distributed import Client, KilledWorker
from distributed.comm.core import CommClosedError

from flows.cluster.batches import scheduler_gone, wait_for_workers
from flows.cluster.connection import workers
from flows.cluster.scoring import Processes
from pipeline.errors import FacefoldError
from pipeline.evaluation.morphable.model import in_memory
from pipeline.evaluation.morphable.people import Heads
from pipeline.flame.morphable import Morphable, common_mean, placed, settled
from pipeline.types import Array

SMALL = 2000
"""People who are done in this process: 240 MB of heads."""
BLOCK = 256
"""People of a task, however many workers there are: sums are then the same."""
PASSES, OVERSAMPLES = 4, 20
"""Of the randomised decomposition (Halko, Martinsson, Tropp 2011, algorithms 4.4 and 5.1): power
iterations, and the least of dimensions beside those asked for. There are as many as those, for
people's spectra are flat where components end."""


def components(
    heads: Heads, count: int, seed: int, address: str | None, processes: int
) -> Morphable:
    """The model of so many components: in this process if it is small and no cluster is named.

    Raises FacefoldError where no scheduler answers, or workers are killed.
    """
    if address is None and len(heads) <= SMALL:
        return in_memory(heads, count, seed)
    with (
        TemporaryDirectory(prefix="facefold-model-") as folder,
        workers(Processes(Path(folder), processes), address) as client,
    ):
        return on_workers(heads, count, seed, client)


def on_workers(heads: Heads, count: int, seed: int, client: Client) -> Morphable:
    """The same model by a randomised decomposition that reads the heads in each of its passes.

    No process holds more than some blocks of heads. Blocks, and what is drawn for them, depend on
    neither the number of workers nor their order. Raises as `components` does.
    """
    wait_for_workers(client)
    try:
        # of sums over all blocks no worker then holds many summands, each of 3V × components
        with dask.config.set(split_every=2):
            return _decomposed(heads, count, seed)
    except (CommClosedError, CancelledError) as error:
        raise scheduler_gone(client) from error
    except KilledWorker as error:
        raise FacefoldError(
            f"a model of {len(heads)} people: the workers were killed; give them more memory"
        ) from error


def _matrix(heads: Heads, reference: Array | None) -> Any:
    """(n,3V) float64 mm by blocks of people, placed onto the reference."""
    width = heads.some(slice(1)).read().size
    parts = [heads.some(slice(i, i + BLOCK)) for i in range(0, len(heads), BLOCK)]
    read = delayed(_flat)
    blocks = [
        da.from_delayed(read(part, reference), (len(part), width), np.float64) for part in parts
    ]
    return da.concatenate(blocks)


def _flat(heads: Heads, reference: Array | None) -> Array:
    found = heads.read() if reference is None else placed(heads.read(), reference)
    return found.reshape(len(found), -1)


def _decomposed(heads: Heads, count: int, seed: int) -> Morphable:
    def mean_onto(reference: Array | None) -> Array:
        mean: Array = _matrix(heads, reference).mean(0).compute()
        return mean.reshape(-1, 3)

    reference, people = common_mean(mean_onto), len(heads)
    mean = mean_onto(reference)
    left = _matrix(heads, reference) - mean.ravel()
    total = float(da.square(left).sum().compute()) / (people - 1)
    _, values, vectors = da.linalg.svd_compressed(
        left,
        count,
        iterator="QR",
        n_power_iter=PASSES,
        n_oversamples=max(OVERSAMPLES, count),
        seed=np.random.default_rng(seed).integers(2**32),
        compute=True,
    )
    singular, found = compute(values, vectors)
    variances = singular**2 / (people - 1)
    return settled(mean, found, variances, total, people, exact=False)
