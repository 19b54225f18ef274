"""Trainers that would divide among processes what a loader has divided already."""

from __future__ import annotations

import sys
from typing import Any

from pipeline.errors import FacefoldError


def check_accelerate(loader: Any) -> None:
    """Raises FacefoldError if accelerate is about to divide the loader's batches once more.

    Of a prepared DataLoader it hands round what the first process reads, which is that process'
    part alone, or keeps every n-th batch of each process' own part: the rest is never shown.
    """
    if (state := sys.modules.get("accelerate.state")) is None:
        return
    active = state.GradientState().active_dataloader
    inside = getattr(active, "dataset", None)
    hands_round = type(active).__name__ == "DataLoaderDispatcher" and inside is loader
    if getattr(inside, "dataset", None) is loader or (
        hands_round and active.state.num_processes > 1
    ):
        raise FacefoldError(
            "accelerate would divide this loader's batches among the processes once more, and most "
            "samples would never be shown: leave it out of accelerator.prepare() and iterate over "
            "it, or over its DataLoader, as it is"
        )
