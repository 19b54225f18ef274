"""Trainers that would divide among processes what a loader has divided already."""

from __future__ import annotations

import sys
from typing import Any

from pipeline.errors import FacefoldError

REMEDY = (
    "FaceLoader gives each process its own part: make it after the Accelerator, iterate over it "
    "as it is, and leave it out of accelerator.prepare()"
)


def check_accelerate(loader: Any, world: int) -> None:
    """Raises FacefoldError if accelerate is about to divide the loader's batches once more.

    Of a prepared DataLoader accelerate reads in the first process alone, whose part it hands
    round, or keeps every n-th batch of each process' own part: most samples would never be shown.
    """
    if (state := sys.modules.get("accelerate.state")) is None:
        return
    active = state.GradientState().active_dataloader
    inside = getattr(active, "dataset", None)
    if getattr(inside, "dataset", None) is loader:
        raise FacefoldError(f"accelerate divides this loader's batches once more; {REMEDY}")
    dispatches = inside is loader and type(active).__name__ == "DataLoaderDispatcher"
    if not dispatches or active.state.num_processes == 1:
        return
    if world > 1:
        raise FacefoldError(
            f"accelerate hands round what its first process reads, here one part of {world}; "
            f"{REMEDY}. Or let it hand round all of it: FaceLoader(…, rank=0, world=1)"
        )
    if active.use_stateful_dataloader:
        raise FacefoldError(
            "accelerate reads ahead when it hands batches round: a state that it saves is not "
            f"where training stopped; {REMEDY}, and save its own state_dict()"
        )
