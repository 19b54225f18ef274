"""What runs on a Dask worker: a batch of scans through its stages, or a shard of the store."""

from __future__ import annotations

import errno
import pickle
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from distributed import get_worker

from pipeline.build.assembly import shard_arrays
from pipeline.build.attached_rows import AttachedRows, with_attached
from pipeline.build.code_keys import LIBRARIES, all_code
from pipeline.build.crash_guard import recorded, refusal_of
from pipeline.build.device import Device, torch_device
from pipeline.build.embeddings import Unembedded, embed_views
from pipeline.build.evidence import Comparison, FiledPerson, make_evidence
from pipeline.build.labels import PersonScans, label_rows, make_label
from pipeline.build.ledger import Result
from pipeline.build.result_files import scan_path
from pipeline.build.source_calibration import observe_scan
from pipeline.build.stages import (
    Recipe,
    Spent,
    Work,
    process,
    read,
    register_and_judge,
)
from pipeline.build.view_rows import ViewRow, view_arrays
from pipeline.build.views import views_of
from pipeline.errors import MachineError, StoreError
from pipeline.flame.model import FlameModel
from pipeline.refusals import Code
from pipeline.registration.landmarks.offsets import Observed
from pipeline.registration.template import prepare_template
from pipeline.store import write_shard
from pipeline.store.durable_files import write_file
from pipeline.store.schema import IDENTITY, VIEW
from pipeline.types import Refusal, Scan, ShardReceipt

T = TypeVar("T")
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Batch:
    """Scans of one source that are a task together."""

    works: tuple[Work, ...]
    recipe: Path
    """Where `share` left the source's recipe, and `model` the model."""
    model: Path
    boxes: Path
    """Folder of the black boxes of this run."""
    code: str
    """Of the build's facefold; a worker's has to be the same."""
    seconds: float
    """A scan that takes longer ends its worker."""
    attempt: int = 1


@dataclass
class Finished:
    """What became of a batch: results by scan and stage, and scans that are to be tried alone."""

    results: list[list[Result]] = field(default_factory=list)
    unfinished: list[tuple[Work, Refusal]] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)


@dataclass
class Read:
    """The scans of a batch on their way to a GPU worker."""

    works: list[Work] = field(default_factory=list)
    scans: list[Scan | Result] = field(default_factory=list)
    finished: Finished = field(default_factory=Finished)


def share(folder: Path, name: str, value: Any) -> Path:
    """`value` as a file of the build, for workers: no task depends on one that may die."""
    path = folder / f"{name}.pickle"
    if not path.exists():
        write_file(path, pickle.dumps(value))
    return path


@lru_cache(maxsize=64)
def shared(path: Path) -> Any:
    """What `share` wrote, read once a process."""
    return pickle.loads(path.read_bytes())


def opened(batch: Batch) -> tuple[Recipe, FlameModel]:
    """Recipe and model. Raises MachineError where this machine's facefold or folders are others."""
    here = f"the Dask worker {get_worker().address} on {socket.gethostname()}"
    if batch.code != all_code():
        raise MachineError(
            f"{here} has another facefold, or another minor version of "
            f"{', '.join(LIBRARIES.values())}: install the build's on all machines"
        )
    missing = [path for path in (batch.recipe, batch.model) if not path.exists()]
    if missing:
        raise MachineError(
            f"{here} does not see {missing[0]}: the work folder has to be there under the same "
            "path on all machines (`work` in the build file)"
        )
    return shared(batch.recipe), shared(batch.model)


def at_hand(
    batch: Batch, recipe: Recipe, finished: Finished, kept_will_do: bool = True
) -> list[Work]:
    """The works whose files are there, or were kept if that will do; one that has gone since the
    plan is left over.

    Raises MachineError where a folder is missing: a mount, and no scan is at fault.
    """
    there = []
    for work in batch.works:
        path, kept = work.record.path, scan_path(recipe.folder, work.keys.read)
        if path.exists() or (kept_will_do and kept.exists()):
            there.append(work)
        elif path.parent.exists():
            reason = f"{path} has gone since the build began"
            finished.unfinished.append((work, Refusal("worker", Code.UNREADABLE, reason)))
        else:
            hidden = recipe.registry.subjects.pseudonyms
            place = f"the folder of {work.record.scan_id}" if hidden else path.parent
            raise MachineError(
                f"the Dask worker {get_worker().address} on {socket.gethostname()} does not see "
                f"{place}: mount the source there under the same path"
            )
    return there


def process_batch(batch: Batch) -> Finished:
    """All stages, scan by scan: a result does not depend on what else is in the batch."""
    finished = Finished()
    recipe, model = opened(batch)
    prepare(recipe, model)
    for work in at_hand(batch, recipe, finished):
        finished.results += guarded(
            batch, [work], finished, lambda works: process(works, recipe, model, finished.spent)
        )
    return finished


def observe_batch(batch: Batch, scheme: str) -> dict[str, Observed]:
    """What the scans of a sample show of a scheme's landmarks, by scan id."""
    recipe, model = opened(batch)
    prepare(replace(recipe, device="cpu"), model)
    observed: dict[str, Observed] = {}
    finished = Finished()
    for work in at_hand(batch, recipe, finished):
        found = guarded(
            batch, [work], finished, lambda works: observe_scan(works[0], scheme, recipe, model)
        )
        if found:
            observed[work.record.scan_id] = found[0]
    return observed


def read_batch(batch: Batch) -> Read:
    """The first stage, for `register_batch` on another worker."""
    found = Read()
    recipe, _ = opened(batch)
    for work in at_hand(batch, recipe, found.finished):
        with found.finished.spent.at("read"):
            scans = guarded(batch, [work], found.finished, lambda works: [read(works[0], recipe)])
        found.works += [work] * len(scans)
        found.scans += scans
    return found


def register_batch(batch: Batch, found: Read, device: Device) -> Finished:
    """The later stages, all scans at once as a GPU takes them."""
    finished = found.finished
    recipe, model = opened(batch)
    recipe = replace(recipe, device=device)
    prepare(recipe, model)

    def rest(works: Sequence[Work]) -> list[list[Result]]:
        return register_and_judge(works, found.scans, recipe, model, finished.spent)

    finished.results += guarded(batch, found.works, finished, rest)
    return finished


def view_batch(batch: Batch) -> Finished:
    """The views of scans that are kept, scan by scan."""
    finished = Finished()
    recipe, model = opened(batch)
    for work in at_hand(batch, recipe, finished, kept_will_do=False):
        with finished.spent.at("views"):
            finished.results += guarded(
                batch, [work], finished, lambda works: [[views_of(works[0], recipe, model)]]
            )
    return finished


def guarded(
    batch: Batch,
    works: Sequence[Work],
    finished: Finished,
    run: Callable[[Sequence[Work]], list[T]],
) -> list[T]:
    """`run(works)` within the limits; nothing, and a reason, where they ended a worker before."""
    if not works:
        return []
    box = batch.boxes / f"{works[0].keys.judge}_{len(works)}_{batch.attempt}"
    seconds = batch.seconds * len(works)
    refusal = refusal_of(box, seconds)
    if refusal is None:
        try:
            with recorded(box, seconds, memory_bytes()):
                return run(works)
        except StoreError:  # a full or failing disk: no scan is at fault
            raise
        # no scan may stop the others, whatever it makes a worker raise; nothing is hidden, for the
        # reason is kept. As text: not every exception can be sent, and Dask waits for ever for one
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise StoreError(f"{error.filename or batch.boxes}: {error.strerror}") from error
            refusal = refusal_for(error)
    finished.unfinished += [(work, refusal) for work in works]
    return []


def refusal_for(error: BaseException) -> Refusal:
    """What an exception that no stage expects says of the scan it was at."""
    if out_of_memory(error):
        reason = f"needs more memory than a worker has: {error}"
        return Refusal("worker", Code.OUT_OF_MEMORY, reason)
    return Refusal("worker", Code.INTERNAL, f"{type(error).__name__}: {error}")


def memory_bytes() -> int | None:
    """What a scan may take: a little less than Dask kills the worker for. CUDA maps far more."""
    limit = get_worker().memory_manager.memory_limit
    return None if limit is None or torch.cuda.is_initialized() else int(0.9 * limit)


def out_of_memory(error: BaseException) -> bool:
    """torch says so in words only."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "memory" in str(error)
    )


def prepare(recipe: Recipe, model: FlameModel) -> None:
    """What a process does once for all scans does not count for the first one's limits."""
    prepare_template(model, torch_device(recipe.device), recipe.options.modes)


def write_rows(
    staging: Path,
    shard: int,
    work: Path,
    keys: Sequence[str],
    model_digest: str,
    points: int,
    attached: AttachedRows | None = None,
) -> ShardReceipt:
    """One shard of the store, whole, from the results with these keys, and what is attached."""
    rows = with_attached(shard_arrays(work, keys, points), attached)
    return write_shard(staging, shard, rows, model_digest)


def make_evidences(people: Sequence[FiledPerson], work: Path, common: Path) -> None:
    """Leaves the evidence of people in the work folder; `common` is what `share` left for all."""
    given = shared(common)
    template = prepare_template(given["model"], "cpu", given["modes"])
    for person in people:
        make_evidence(person, work, Comparison(given["population"], template, given["modes"]))


def make_labels(people: Sequence[PersonScans], work: Path, common: Path) -> None:
    """Leaves the labels of people in the work folder; `common` is what `share` left for all."""
    for person in people:
        make_label(person, work, prepare_template(shared(common)["model"], "cpu", person.modes))


def make_embeddings(scans: Sequence[Unembedded], work: Path, common: Path) -> None:
    """Leaves the embeddings of scans' views in the work folder."""
    embed_views(scans, work, shared(common)["network"])


def write_people(
    staging: Path,
    shard: int,
    work: Path,
    keys: Sequence[str],
    model_digest: str,
    attached: AttachedRows | None = None,
) -> ShardReceipt:
    """One shard of the arrays of people, whole, from the labels with these keys, and what is
    attached."""
    rows = with_attached(label_rows(work, keys), attached)
    return write_shard(staging, shard, rows, model_digest, IDENTITY)


def write_views(
    staging: Path,
    shard: int,
    work: Path,
    keys: Sequence[ViewRow],
    model_digest: str,
    embedded: bool,
    attached: AttachedRows | None = None,
) -> ShardReceipt:
    """One shard of the arrays of views, whole, from their files, and what is attached."""
    rows = with_attached(view_arrays(work, keys, embedded), attached)
    return write_shard(staging, shard, rows, model_digest, VIEW)
