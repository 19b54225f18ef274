"""Random heads of a model as predictions of it, right and wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from pipeline.evaluation.benchmark import Prediction, no_points
from pipeline.flame.lbs import ModelTensors, pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.types import Array

SEED = 20_000
"""Thresholds were set on other heads: see docs/explanation/benchmarks.md."""


@lru_cache(maxsize=2)
def tensors_of(model: FlameModel) -> ModelTensors:
    return to_tensors(model)


def head(
    number: int,
    model: FlameModel | None = None,
    strange: float = 1.0,
    jaw: float = 0.0,
    std: float = 0.0,
) -> Array:
    """(V,3) mm of a random identity, the jaw open by `jaw` radians, expressions `std` strong."""
    model = model or stand_in()
    rng = np.random.default_rng([SEED, number])
    n_shape, n_expression = model.shape_basis_mm.shape[2], model.expression_basis_mm.shape[2]
    pose = np.zeros(15)
    pose[6] = jaw
    values = (
        strange * rng.normal(size=n_shape),
        std * rng.normal(size=n_expression),
        pose,
        np.zeros(3),
    )
    coefficients = (torch.tensor(value, dtype=torch.float32)[None] for value in values)
    return pose_vertices(tensors_of(model), *coefficients)[0].numpy().astype(np.float64)


def predicted(vertices: Array, model: FlameModel | None = None, unit_mm: float = 1.0) -> Prediction:
    """In the model's topology, with its landmarks."""
    model = model or stand_in()
    assert model.landmarks is not None
    points = model.landmarks.positions_68(vertices, model.faces)
    return Prediction(vertices, model.faces, points, unit_mm, in_model_topology=True)


def foreign(prediction: Prediction, kept: list[int], order: Array | None = None) -> Prediction:
    """As a mesh of another topology with landmarks of its own, which may be out of order."""
    points = no_points()
    points[kept] = prediction.landmarks_68[kept]
    if order is not None:
        points[kept] = points[kept][order]
    return replace(prediction, landmarks_68=points, in_model_topology=False)


def mirrored(prediction: Prediction) -> Prediction:
    flip = [-1.0, 1.0, 1.0]
    return replace(
        prediction,
        vertices=prediction.vertices * flip,
        landmarks_68=prediction.landmarks_68 * flip,
    )
