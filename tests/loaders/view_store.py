"""A store whose scans have no view, one, two or three, in no order: all of known content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from random_store import (
    TAG,
    part,
    people_of,
    random_manifest,
    random_people,
    random_rows,
    random_views,
)

from pipeline.store import create_staging, publish, write_shard
from pipeline.store.schema import IDENTITY, SCAN, VIEW
from pipeline.types import Array

SCANS = 40
KINDS = ("photo", "render", "shaded")
MANIFEST = [row | {"frame": i, "session": "1"} for i, row in enumerate(random_manifest(SCANS))]
"""Two scans a person; scan i has i % 4 views, so that people have one or five."""
_EVERY = [(i, j) for i in range(SCANS) for j in range(i % 4)]
_ORDER = np.random.default_rng(5).permutation(len(_EVERY))
SCAN_OF: Array = np.array([_EVERY[k][0] for k in _ORDER])
"""(60,) the row of each view's scan."""
VIEWS = [
    {
        "scan_id": MANIFEST[i]["scan_id"],
        "view": f"{KINDS[j]}0",
        "kind": KINDS[j],
        "yaw_deg": float((7 * i + 11 * j) % 80 - 40),
        "distance_mm": 500.0 + k,
        "result_key": f"view {k}",
    }
    for k, (i, j) in enumerate(_EVERY[k] for k in _ORDER)
]
PERSON_OF: Array = SCANS // 2 - 1 - SCAN_OF // 2
"""(60,) the row of each view's person: the people are stored last first."""
ROWS, PEOPLE, SHOWN = random_rows(SCANS), random_people(SCANS // 2), random_views(len(VIEWS))


def make_view_store(
    store: Path, told: Sequence[dict[str, Any]] = ({},), extra: Any = None, **form: Any
) -> Path:
    """Returns the version's folder; `told`, over and over, changes the manifest's rows, `extra`
    gives arrays by what their rows are of."""
    n_people, more = len(people_of(SCANS)), extra or {}
    staging = create_staging(store, SCANS, TAG, 16, identities=n_people, views=len(VIEWS), **form)
    held = {SCAN: (ROWS, SCANS), IDENTITY: (PEOPLE, n_people), VIEW: (SHOWN, len(VIEWS))}
    receipts = [
        write_shard(staging, shard, part(rows | more.get(of, {}), shard, n, 16), TAG.digest, of)
        for of, (rows, n) in held.items()
        for shard in range(-(-n // 16))
    ]
    manifest = [row | told[i % len(told)] for i, row in enumerate(MANIFEST)]
    return publish(store, staging, receipts, manifest, identities=people_of(SCANS), views=VIEWS)
