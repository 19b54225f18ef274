"""Shading as stores keep it, and its gradients."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.flame.assets import load_model
from pipeline.loaders import FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.training.cameras import shrunk
from pipeline.training.shading import grey, surfaces

FIELDS = ("vertices_mm", "shaded_images", "camera_matrix_px", "canonical_to_camera")
FACES = torch.from_numpy(load_model("stand-in").faces)


def some(store: Path, n: int) -> Sample:
    return FaceDataset(store, "train", FIELDS, unit="view")[0:n]


def test_grey_is_what_the_store_keeps(made_people: Path) -> None:
    batch = some(made_people, 3)
    camera = batch["canonical_to_camera"], batch["camera_matrix_px"]
    seen = surfaces(batch["vertices_mm"], FACES, *camera, 224, 224)
    found = 255 * grey(batch["vertices_mm"], FACES, seen, camera[0])
    apart = (found - batch["shaded_images"]).abs()
    assert apart[seen.shown].mean() < 0.6  # the store's are whole numbers
    assert (apart > 2).float().mean() < 1e-3


def test_gradients_are_those_of_small_moves(made_people: Path) -> None:
    batch = some(made_people, 1)
    pose, matrix = batch["canonical_to_camera"], shrunk(batch["camera_matrix_px"], 0.25)
    vertices = batch["vertices_mm"].double().requires_grad_()
    seen = surfaces(vertices, FACES, pose, matrix, 56, 56)
    weights = torch.rand(1, 56, 56, generator=torch.Generator().manual_seed(0)).double()
    (grey(vertices, FACES, seen, pose) * weights).sum().backward()
    move = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1)).double()

    def moved(step: float) -> torch.Tensor:
        there = vertices.detach() + step * move
        again = seen._replace(barycentric=surfaces(there, FACES, pose, matrix, 56, 56).barycentric)
        return (grey(there, FACES, again, pose) * weights).sum()

    step = 1e-6
    by_differences = (moved(step) - moved(-step)) / (2 * step)
    by_gradient = (vertices.grad * move).sum()
    assert torch.isclose(by_gradient, by_differences, rtol=1e-4)
