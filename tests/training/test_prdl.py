"""PRDL's network: what it predicts, what its losses see, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline.errors import FacefoldError
from pipeline.flame.assets import load_model
from pipeline.loaders import FaceDataset
from pipeline.store.reader import open_store
from pipeline.training.cameras import in_camera
from pipeline.training.prdl import SYSTEM, Prdl, PrdlConfig, samples
from pipeline.training.prdl_scores import (
    PrdlPrediction,
    measure,
    overlaps,
    part_masks,
    picture,
    region_errors_mm,
)
from pipeline.training.system import Moment, Setting

SMALL: dict[str, Any] = {
    "steps": 4,
    "batch": 4,
    "backbone": "small",
    "size_px": 56,
    "n_shape": 10,
    "n_expression": 10,
    "anchor_px": 56,
    "cells": 100,
    "mask_px": 56,
    "photo_px": 28,
    "validation_views": 4,
}
NOW = Moment(0, 0)
MODEL = load_model("stand-in")


def setting(store: Path, **changes: Any) -> Setting:
    config = PrdlConfig(**(SMALL | changes))
    return Setting(open_store(store), MODEL, config, torch.device("cpu"))


def batch_of(where: Setting, n: int = 4) -> dict[str, Any]:
    return samples(where, "train").dataset[0:n]


class Truth(torch.nn.Module):
    """Predicts what the store says."""

    def predict(self, batch: dict[str, Any]) -> PrdlPrediction:
        heads = in_camera(batch["vertices_mm"], batch["canonical_to_camera"])
        return PrdlPrediction(heads, batch["landmarks_px"])


def test_a_fresh_network_sees_an_average_face_in_the_middle(made_people: Path) -> None:
    where = setting(made_people)
    found = Prdl(where).predict(batch_of(where))
    middle = found.landmarks_px.mean(1)
    assert ((middle - 111.5).abs() < 25).all()
    assert (found.vertices_mm[..., 2] > 500).all()
    nose, back = found.vertices_mm[:, where.model.regions["nose"], 2], found.vertices_mm[..., 2]
    assert (nose.mean(1) < back.mean(1) - 30).all()  # it faces the camera


def test_every_loss_teaches_the_network(made_people: Path) -> None:
    where = setting(made_people)
    network = Prdl(where)
    losses = network(batch_of(where), NOW)
    assert set(losses.terms) == {"landmarks", "parts", "colour", "coefficients", "gamma"}
    assert torch.isclose(losses.total, torch.stack([*losses.terms.values()]).sum())
    for name in ("landmarks", "parts", "colour"):
        (slope,) = torch.autograd.grad(losses.terms[name], network.head.weight, retain_graph=True)
        assert slope.isfinite().all() and slope.any(), name


def test_landmarks_that_are_hidden_or_unknown_teach_nothing(made_people: Path) -> None:
    where = setting(made_people)
    batch, network = batch_of(where), Prdl(where)
    batch["landmark_visibility"][:, 5] = 0
    before = network(batch, NOW).terms["landmarks"]
    batch["landmarks_px"][:, 5] += 50
    assert torch.equal(network(batch, NOW).terms["landmarks"], before)
    batch["landmarks_px"][:] = torch.nan
    assert not network(batch, NOW).terms["landmarks"].any()


def test_parts_may_be_missing_weighed_and_left_out(made_people: Path) -> None:
    where = setting(made_people)
    batch, network = batch_of(where), Prdl(where)
    assert network(batch, NOW).terms["parts"] > 0
    batch["parts"][:] = False
    assert not network(batch, NOW).terms["parts"].any()
    only = Prdl(setting(made_people, part_weights={"skin": 0.0}))
    assert len(only.used) == 7
    without = Prdl(setting(made_people, weights={"parts": 0.0}))
    assert "parts" not in without(batch, NOW).terms


def test_a_few_steps_lower_what_it_minimises(made_people: Path) -> None:
    where = setting(made_people)
    batch, network = batch_of(where), Prdl(where)
    optimiser = torch.optim.Adam(network.parameters(), 3e-4)
    totals = []
    for _ in range(10):
        losses = network(batch, NOW)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        totals.append(float(losses.total.detach()))
    assert totals[-1] < 0.8 * totals[0]


def test_the_same_seed_gives_the_same_network(made_people: Path) -> None:
    one, other, third = (Prdl(setting(made_people, seed=s)).head.weight for s in (1, 1, 2))
    assert torch.equal(one, other) and not torch.equal(one, third)


def test_the_truth_scores_as_such(made_people: Path) -> None:
    found = measure(Truth(), setting(made_people), "val")
    assert found["landmarks_px"] < 1e-3 and found["mouth_mm"] < 1e-3 and found["eyes_mm"] < 1e-3
    assert found["mouth_overlap"] > 0.97 and found["eyes_overlap"] > 0.97
    assert SYSTEM.best_by in found


def test_regions_are_measured_where_they_are(made_people: Path) -> None:
    data = FaceDataset(made_people, "val", ("vertices_mm",))
    truth = data[0:2]["vertices_mm"]
    moved = truth + torch.tensor([3.0, -2.0, 1.0])  # a rigid motion is no error
    lips = torch.as_tensor(MODEL.regions["lips"])
    moved[:, lips] += torch.tensor([0.0, 0.0, 2.0])
    errors = region_errors_mm(moved, truth, MODEL)
    assert 1.0 < errors["mouth"].mean() < 2.0 and errors["eyes"].mean() < 0.5


def test_overlap_is_of_the_parts_that_are_labelled() -> None:
    labelled = torch.zeros(1, 8, 4, 4, dtype=torch.bool)
    labelled[:, 4, :2] = True
    found = labelled.clone()
    found[:, 4, 1] = False
    shared = overlaps(found, labelled)
    assert shared["mouth"].tolist() == [0.5] and shared["eyes"].isnan().all()


def test_masks_of_the_truth_are_the_stores(made_people: Path) -> None:
    fields = ("vertices_mm", "parts", "canonical_to_camera", "camera_matrix_px")
    batch = FaceDataset(made_people, "val", fields, unit="view")[0:2]
    heads = in_camera(batch["vertices_mm"], batch["canonical_to_camera"])
    found = part_masks(heads, MODEL, batch["camera_matrix_px"].float())
    assert (found != batch["parts"]).float().mean() < 2e-4


def test_the_picture_shows_six_views(made_people: Path, tmp_path: Path) -> None:
    where = setting(made_people)
    picture(Prdl(where), where, "val", tmp_path / "seen.png")
    assert Image.open(tmp_path / "seen.png").size == (6 * 224, 3 * 224)


def test_a_part_that_there_is_not_is_refused(made_people: Path) -> None:
    with pytest.raises(FacefoldError, match="beard: no such part, expected some of left_eye"):
        Prdl(setting(made_people, part_weights={"beard": 1.0}))
