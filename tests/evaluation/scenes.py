"""Made subjects with predictions of them, for the miniatures of benchmarks.

One is the oracles' own (`oracle_scene`), which the authors' code scored; others are of the stand-in
model and need nothing from outside (`stand_in_scene`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.evaluation.crops import SEVEN_68
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.synthetic.people import landmarks_68
from pipeline.types import Array
from tests.miniatures.heads import Head, cast, head

NAMES = ("truth", "mean", "near", "near_scaled_105", "near_mirrored", "near_moved_noisy")
"""What the predictions of a scene are called."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A scan with its landmarks in millimetres, and predictions of it in metres."""

    vertices_mm: Array  # (V,3)
    faces: Array  # (F,3)
    seven_mm: Array  # (7,3) FG2018's points
    predictions_m: Mapping[str, Array]  # of NAMES, each (P,3)
    prediction_faces: Array
    model: FlameModel
    """In whose topology the predictions are; its landmarks are the benchmark's."""
    model_options: tuple[str, ...]
    """Options of the command that name the model."""

    def seven_m(self, name: str) -> Array:
        """(7,3) m, the landmarks of a prediction."""
        assert self.model.landmarks is not None
        found = self.model.landmarks.positions_68(self.predictions_m[name], self.prediction_faces)
        return found[list(SEVEN_68)]


def oracle_scene(oracles: Path, folder: Path) -> Scene:
    """The subject of `face_scene.npz`; writes the embedding of its landmarks to `folder`."""
    with np.load(oracles / "face_scene.npz") as found:
        scene = dict(found)
    chosen = scene["landmark_vertices"]
    embedding = folder / "seven.txt"
    embedding.write_text("".join(f"{vertex}\n" for vertex in chosen), encoding="utf-8")
    path = oracles.parent / "data" / "flame_ict" / "flame_ict.npz"
    return Scene(
        scene["scan_vertices_mm"].astype(np.float64),
        scene["scan_faces"].astype(np.int64),
        scene["scan_landmarks_mm"].astype(np.float64),
        dict(zip(scene["names"], scene["prediction_vertices_m"].astype(np.float64), strict=True)),
        scene["prediction_faces"].astype(np.int64),
        load_model(path, embedding),
        ("--model", str(path), "--embedding", str(embedding)),
    )


@lru_cache(maxsize=8)
def stand_in_scene(person: int = 40) -> Scene:
    """A neutral head of the stand-in as a scanner saw it, and predictions as in the oracles'."""
    played = cast()
    seen: Head = head(person, kind="face")
    model, known = played.model, played.person(person)
    shape = known.shape * (np.arange(len(known.shape)) % 2)
    rng = np.random.default_rng([7, person])
    near = model.template_mm + model.shape_basis_mm @ shape
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned *= np.sign(np.linalg.det(turned))
    noisy = near @ turned.T + [30.0, -200.0, 55.0] + rng.normal(0, 0.3, near.shape)
    predictions = {
        "truth": known.neutral_mm,
        "mean": model.template_mm,
        "near": near,
        "near_scaled_105": 1.05 * near,
        "near_mirrored": near * [-1.0, 1.0, 1.0],
        "near_moved_noisy": noisy,
    }
    return Scene(
        seen.vertices_mm.astype(np.float64),
        seen.faces.astype(np.int64),
        seen.landmarks_mm[list(SEVEN_68)].astype(np.float64),
        {name: points / 1000 for name, points in predictions.items()},
        model.faces,
        model,
        (),
    )


def embedded(model: FlameModel, vertices: Array) -> Array:
    """(68,3) landmarks of a mesh in the model's topology."""
    return landmarks_68(model, vertices)


def write_obj(path: Path, vertices: Array, faces: Array) -> None:
    """Nine significant digits, so that single precision survives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}\n" for a, b, c in faces + 1]
    path.write_text("".join(lines), encoding="utf-8")
