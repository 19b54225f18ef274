"""A model's parts as points of its surface, against the masks that a store keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.flame.assets import load_model
from pipeline.flame.model import PARTS
from pipeline.loaders import FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.training.losses.parts import distance_statistics, grid_anchors, mask_statistics
from pipeline.training.part_surface import PartSurface

CAMERA = ("canonical_to_camera", "camera_matrix_px")
MODEL = load_model("stand-in")
SURFACE = PartSurface(MODEL, 1000)
ANCHORS = grid_anchors(224, 224, 28.0)


def some(store: Path) -> Sample:
    fields = ("vertices_mm", "parts", *CAMERA)
    return FaceDataset(store, "train", fields, where="neutral", unit="view")[0:6]


def test_points_cover_what_the_masks_cover(made_people: Path) -> None:
    batch = some(made_people)
    sets = SURFACE(batch["vertices_mm"], *(batch[name].float() for name in CAMERA))
    found = torch.stack([distance_statistics(own, ANCHORS) for own in sets], 1)
    target = mask_statistics(batch["parts"], ANCHORS)
    apart = (found - target).abs().mean((0, 2))  # (P,3) px
    inner = PARTS.index("skin")  # of which a third is drawn at random
    assert apart[:inner, :2].max() < 1.5 and apart[:inner, 2].max() < 0.7
    areas = torch.stack([own.weights.sum(1) for own in sets], 1)
    pixels = batch["parts"].sum((2, 3))
    assert torch.allclose(areas[:, :inner], pixels[:, :inner].float(), rtol=0.15, atol=12)


def test_eyes_follow_the_lids_and_not_the_eyeballs(made_people: Path) -> None:
    batch = some(made_people)
    moved = batch["vertices_mm"].clone().requires_grad_()
    eye = SURFACE(moved, *(batch[name].float() for name in CAMERA))[0]
    eye.weights.sum().backward()
    assert moved.grad is not None and moved.grad.any()
    assert moved.grad[:, MODEL.regions["left_eyeball"]].abs().max() < 1e-6
    with torch.no_grad():
        lids = SURFACE.lid_corners[: len(SURFACE.lid_corners) // 2].unique()
        shut = moved.detach().clone()
        shut[:, lids, 1] = shut[:, lids, 1].mean(1, keepdim=True)
        closed = SURFACE(shut, *(batch[name].float() for name in CAMERA))[0]
    assert (closed.weights.sum(1) < 0.3 * eye.weights.sum(1)).all()


def test_what_is_hidden_or_turned_away_weighs_nothing(made_people: Path) -> None:
    batch = some(made_people)
    behind = batch["canonical_to_camera"].clone()
    behind[:, :3, :3] = behind[:, :3, :3] @ torch.diag(torch.tensor([-1.0, 1, -1])).double()
    sets = SURFACE(batch["vertices_mm"], behind.float(), batch["camera_matrix_px"].float())
    inner = PARTS.index("skin")  # at the temples it is seen from behind
    assert not any(own.present.any() for own in sets[:inner])


def test_parts_have_at_most_so_many_points() -> None:
    few = PartSurface(MODEL, 200)
    assert len(few.sizes) == len(PARTS) and min(few.sizes) > 0 and max(few.sizes) <= 200
    assert not list(few.parameters()) and not few.state_dict()


def test_a_model_without_parts_is_refused() -> None:
    with pytest.raises(ModelError, match="name its landmark embedding"):
        PartSurface(replace(MODEL, triangle_part=None))
