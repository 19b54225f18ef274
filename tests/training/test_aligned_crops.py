"""Landmarks and scale of aligned crops against how the store's were made."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from pipeline.loaders import FaceDataset
from pipeline.training.aligned_crops import USUAL_PX_PER_MM, aligned, log_px_per_mm
from pipeline.views.crops import arcface_transform, five_points


def test_points_go_where_crops_show_them(made_people: Path) -> None:
    marks = FaceDataset(made_people, "train", ("landmarks_px",), unit="view")[0:8]["landmarks_px"]
    found = aligned(marks.view(4, 2, 68, 2), marks.view(4, 2, 68, 2)[..., 20:40, :])
    for own, moved in zip(marks.numpy(), found.flatten(0, 1).numpy(), strict=True):
        transform = arcface_transform(five_points(own))
        expected = np.column_stack([own[20:40], np.ones(20)]) @ transform[:2].T
        assert np.abs(moved - expected).max() < 1e-4


def test_scale_is_that_of_the_crop_and_the_distance(made_people: Path) -> None:
    fields = ("landmarks_px", "views.focal_px", "views.distance_mm")
    batch = FaceDataset(made_people, "train", fields, unit="identity", views=2)[0:3]
    found = log_px_per_mm(*(batch[name] for name in fields))
    assert found.shape == (3, 2) and found.dtype == torch.float32
    transform = arcface_transform(five_points(batch["landmarks_px"][1, 1].numpy()))
    scale = np.hypot(*transform[0, :2]) * batch["views.focal_px"][1, 1] / 1000
    assert math.isclose(found[1, 1], math.log(scale / USUAL_PX_PER_MM), abs_tol=1e-5)
    twice = log_px_per_mm(batch["landmarks_px"], *(batch[f"views.{n}"] * f for n, f in FAR))
    assert torch.allclose(twice, found - math.log(2), atol=1e-5)


FAR = (("focal_px", 1), ("distance_mm", 2))


def test_unknown_landmarks_have_no_place() -> None:
    marks = torch.full((1, 68, 2), torch.nan)
    assert aligned(marks, torch.zeros(1, 1, 2)).isnan().all()
    assert log_px_per_mm(marks, torch.ones(1), torch.ones(1)).isnan().all()
