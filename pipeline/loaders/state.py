"""What a loader's saved state holds, and whether it belongs to the loader that is given it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.loaders.checks import digest, exactly, whole
from pipeline.loaders.dataset import FaceDataset
from pipeline.loaders.orders import Order
from pipeline.store.schema import SCAN
from pipeline.types import Array

OWNER = {"version": "version of the store", "rows": "selection", "order": "order"}
"""Keys of what a state belongs to, and what they are."""
PLACE = {"epoch": 0, "position": 0, "stride": 1, "workers": 0}
"""Keys of where it is, and the least that each may be."""


def owner(dataset: FaceDataset, order: Order) -> dict[str, str]:
    """What a state belongs to: equal wherever the same samples come in the same order."""
    rows = f"{len(dataset)} rows, {_digest_of(dataset.rows)}"
    if dataset.unit != SCAN:
        rows += f", unit {dataset.unit}"
    if (views := dataset.selection.views) is not None:
        rows += f", {dataset.views} of {len(views.rows)} views, {_digest_of(views.rows)}"
    return {"version": dataset.store.version, "rows": rows, "order": described(order)}


def _digest_of(rows: Array) -> str:
    return digest(np.ascontiguousarray(rows, np.int64).tobytes())


def described(order: Order) -> str:
    """An order's `repr`, or its name and the beginning of what it shows if that says no more."""
    text = repr(order)
    if type(order).__repr__ is not object.__repr__ and f"{id(order):x}" not in text:
        return text
    first = np.arange(min(order.size(0), 64))
    return f"{type(order).__qualname__}({exactly(np.asarray(order.at(0, first)))})"


def checked_state(state: Any, belonging: Mapping[str, str]) -> dict[str, Any]:
    """The state, complete and of this loader.

    Raises FacefoldError for one that is partial or of another store, selection or order.
    """
    keys = [*OWNER, *PLACE, "turned"]
    missing = [key for key in keys if not isinstance(state, Mapping) or key not in state]
    if missing:
        raise FacefoldError(
            f"state: got {exactly(state)[:200]}, expected what state_dict() gave, with "
            f"{', '.join(keys)}; without a whole state, go to the start of an epoch by set_epoch"
        )
    if other := [key for key in OWNER if state[key] != belonging[key]]:
        theirs, ours = (", ".join(str(s[key]) for key in other) for s in (state, belonging))
        raise FacefoldError(
            f"a state of another {' and '.join(OWNER[key] for key in other)}: it is of {theirs}, "
            f"this loader of {ours}; resume with what it was saved with, or go to the start of an "
            "epoch by set_epoch"
        )
    place = {key: whole(f"state: {key}", state[key], least) for key, least in PLACE.items()}
    return {**belonging, **place, "turned": bool(state["turned"])}
