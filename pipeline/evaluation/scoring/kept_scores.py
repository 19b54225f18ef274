"""Scores as they lie in the work folder, by key: a second run reads them instead of scoring again.

Surfaces are kept apart, by their content, since all predictions of a person share theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.build.result_files import load_arrays, save_arrays
from pipeline.evaluation.benchmark import Finding, Score
from pipeline.types import Array

SURFACE = ("vertices_mm", "faces", "upright")
"""What of a score says where its distances are."""


class Kept(NamedTuple):
    """What became of one prediction, or of a mean head."""

    scores: tuple[Score, ...] = ()
    findings: tuple[Finding, ...] = ()
    fault: str = ""
    """Why it could not be scored."""
    seconds: float = 0.0


def kept_path(work: Path | str, key: str) -> Path:
    """Where the scores of this key lie."""
    return Path(f"{work}/scores/{key[:2]}/{key}.arrays")


def save_kept(work: Path | str, key: str, kept: Kept) -> None:
    """Leaves a file that is either whole or not there. Raises StoreError where the disk is full."""
    arrays = {str(i): np.asarray(s.distances, np.float32) for i, s in enumerate(kept.scores)}
    facts = {
        "scores": [
            {
                "mode": score.mode,
                "variant": score.variant,
                "part": score.part,
                "figures": {name: float(value) for name, value in score.figures.items()},
                "surface": _save_surface(Path(work), score),
            }
            for score in kept.scores
        ],
        "findings": [
            [f.kind, f.said, f.case, {n: float(v) for n, v in f.figures.items()}]
            for f in kept.findings
        ],
        "fault": kept.fault,
        "seconds": kept.seconds,
    }
    save_arrays(kept_path(work, key), arrays, facts)


def load_kept(work: Path | str, key: str) -> Kept | None:
    """What `save_kept` wrote; None where it is missing or damaged."""
    found = load_arrays(kept_path(work, key))
    if found is None:
        return None
    arrays, facts = found
    scores = []
    for i, told in enumerate(facts["scores"]):
        name = told.pop("surface")
        surface = _load_surface(_surface_path(Path(work), name)) if name else {}
        if surface is None:
            return None
        scores.append(Score(distances=arrays[str(i)], **told, **surface))  # type: ignore[arg-type]
    findings = tuple(Finding(*told) for told in facts["findings"])
    return Kept(tuple(scores), findings, facts["fault"], facts["seconds"])


def _surface_path(work: Path, name: str) -> Path:
    return work / "surfaces" / f"{name}.arrays"


def _save_surface(work: Path, score: Score) -> str:
    """The name of what the distances lie on; "": nothing is known of it."""
    found = {name: getattr(score, name, None) for name in SURFACE}
    arrays = {
        name: np.ascontiguousarray(array, np.int32 if name == "faces" else np.float32)
        for name, array in found.items()
        if array is not None
    }
    if not arrays:
        return ""
    name = _digest(list(arrays.items()))
    if not (path := _surface_path(work, name)).exists():
        save_arrays(path, arrays, {})
    return name


def _digest(arrays: Sequence[tuple[str, Array]]) -> str:
    sha = hashlib.sha256()
    for name, array in arrays:
        sha.update(f"{name}{array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


@lru_cache(maxsize=1024)
def _load_surface(path: Path) -> dict[str, Array] | None:
    found = load_arrays(path)
    return None if found is None else found[0]
