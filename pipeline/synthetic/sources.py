"""Writes all synthetic sources."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.synthetic import captures, expressions, frames, range_images, studio
from pipeline.synthetic.delivery import Cast, Delivery, SyntheticSource
from pipeline.types import Array

MIN_SCANS = 24
Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""The face looks along −y."""
X_FORWARD_Z_UP = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


class Kind(NamedTuple):
    """A source: who writes it, how many files it has besides good ones, and its share of those."""

    write: Callable[[Cast, Delivery, int], SyntheticSource]
    extra: int
    share: int
    unit_mm: float = 1.0
    canonical_to_file: Array = np.eye(3)  # (3,3) rotation


KINDS: dict[str, Kind] = {
    "synth_studio": Kind(studio.write_studio, studio.EXTRA, 10),
    "synth_expressions": Kind(expressions.write_expressions, expressions.EXTRA, 13),
    "synth_range": Kind(range_images.write_range, range_images.EXTRA, 8),
    "synth_ply": Kind(frames.write_frames, frames.EXTRA, 10, 1000.0, Z_UP),
    "synth_cm": Kind(captures.write_captures, captures.EXTRA, 8, 10.0, X_FORWARD_Z_UP),
}


def good_counts(scans: int) -> dict[str, int]:
    """How many sound scans each source has, so that all files together are `scans`.

    Raises ValueError where that leaves a source with less than one.
    """
    if scans < MIN_SCANS:
        raise ValueError(f"scans: got {scans}, expected at least {MIN_SCANS}")
    good = scans - sum(kind.extra for kind in KINDS.values())
    ends = np.cumsum([kind.share for kind in KINDS.values()])
    counts = np.diff(np.round(good * ends / ends[-1]).astype(int), prepend=0)
    return dict(zip(KINDS, counts.tolist(), strict=True))


def write_sources(
    out: Path | str,
    scans: int = 60,
    seed: int = 0,
    model: FlameModel | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[SyntheticSource]:
    """Writes every source to `out`/sources/<id> and the truth of its scans to `out`/truth/<id>.

    What an earlier call wrote for these sources is removed first.
    `scans` counts all scan files: sound, broken and excluded ones. The same arguments give the
    same bytes. `model` defaults to the stand-in; `progress` is called with each source's id before
    it is written. Raises ValueError for fewer than MIN_SCANS scans, and for a model without
    landmarks.
    """
    out = Path(out)
    if model is None:
        from pipeline.flame.stand_in import stand_in

        model = stand_in()
    cast = Cast.of(model, seed)
    sources = []
    for number, (name, good) in enumerate(good_counts(scans).items()):
        if progress is not None:
            progress(name)
        for kept in ("sources", "truth"):
            shutil.rmtree(out / kept / name, ignore_errors=True)
        kind = KINDS[name]
        delivery = Delivery(out, name, seed, number, kind.unit_mm, kind.canonical_to_file)
        sources.append(kind.write(cast, delivery, good))
    return sources
