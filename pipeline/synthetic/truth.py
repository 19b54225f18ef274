"""The truth of synthetic scans: where each vertex of the template is, and how near a result is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.types import Array, Frozen


@dataclass(frozen=True, eq=False)
class Truth(Frozen):
    """One scan's truth. The file's coordinates are in the unit and the axes of its source."""

    identity: str
    """Name of the person, the same in every source."""
    vertices_file: Array  # (V,3) float64, the posed template in the file's coordinates
    vertices_mm: Array  # (V,3) float64, the same in millimetres and canonical axes
    supported: Array  # (V,) bool: the scan has data at this vertex
    shape: Array  # (S,) float64 identity coefficients; the vertices hold more than these explain
    expression: Array  # (E,) float64
    pose: Array  # (15,) float64 axis-angle

    def __post_init__(self) -> None:
        vertices = self._check("vertices_file", (None, 3), np.float64)
        self._check("vertices_mm", vertices.shape, np.float64)
        self._check("supported", (len(vertices),), np.bool_)
        for name in ("shape", "expression"):
            self._check(name, (None,), np.float64)
        self._check("pose", (15,), np.float64)


def truth_path(out: Path, source: str, stem: str) -> Path:
    """`stem` is the scan's relative path without its suffix."""
    return out / "truth" / source / f"{stem}.npz"


def save_truth(out: Path, source: str, stem: str, truth: Truth) -> None:
    path = truth_path(out, source, stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{part.name: getattr(truth, part.name) for part in fields(truth)})


def load_truth(out: Path | str, source: str, stem: str) -> Truth:
    """Raises FileNotFoundError for a scan that has none: one that was broken on purpose."""
    out = Path(out)
    with np.load(truth_path(out, source, stem)) as stored:
        parts = {part.name: stored[part.name] for part in fields(Truth)}
    return Truth(**parts | {"identity": str(parts["identity"])})


def accuracy(
    registered_mm: Array, truth: Truth, model: FlameModel, source_to_canonical: Array | None = None
) -> dict[str, float]:
    """Distance of registered vertices (V,3) to their true places, on supported face vertices.

    With `source_to_canonical` (4,4), as the store keeps it, the truth is taken from the file's
    coordinates, so that any shift a stage applied is accounted for. Returns mean_mm, median_mm,
    p95_mm, max_mm and vertices, their number. Raises ValueError where there are none.
    """
    true = truth.vertices_mm
    if source_to_canonical is not None:
        true = truth.vertices_file @ source_to_canonical[:3, :3].T + source_to_canonical[:3, 3]
    if registered_mm.shape != true.shape:
        raise ValueError(f"registered_mm: got shape {registered_mm.shape}, expected {true.shape}")
    face = np.zeros(len(true), dtype=bool)
    face[model.regions["face"]] = True
    face[model.regions["eyeballs"]] = False
    error = np.linalg.norm(registered_mm - true, axis=1)[face & truth.supported]
    if not len(error):
        raise ValueError("the scan shows no vertex of the face, so no accuracy can be measured")
    return {
        "mean_mm": float(error.mean()),
        "median_mm": float(np.median(error)),
        "p95_mm": float(np.percentile(error, 95)),
        "max_mm": float(error.max()),
        "vertices": float(len(error)),
    }
