"""The decoder against the model's own arithmetic, and the views that a store keeps of its heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.flame.assets import load_model
from pipeline.loaders import FaceDataset
from pipeline.training.cameras import project
from pipeline.training.decoder import Decoder

GIVEN = ("shape", "expression", "pose", "translation_mm")


def test_stored_coefficients_become_the_stored_vertices(made_people: Path) -> None:
    batch = FaceDataset(made_people, "train", (*GIVEN, "vertices_mm"))[0:4]
    found = Decoder(load_model("stand-in"))(*(batch[name] for name in GIVEN))
    assert (found - batch["vertices_mm"]).abs().max() < 1e-3


def test_landmarks_are_seen_where_the_store_says(made_people: Path) -> None:
    fields = ("vertices_mm", "canonical_to_camera", "camera_matrix_px", "landmarks_px")
    batch = FaceDataset(made_people, "train", fields, unit="view")[0:4]
    marks = Decoder(load_model("stand-in")).landmarks(batch["vertices_mm"])
    seen = project(marks, batch["canonical_to_camera"], batch["camera_matrix_px"])
    assert np.nanmax((seen - batch["landmarks_px"]).abs().numpy()) < 1e-3


def test_a_head_at_rest_needs_no_skinning() -> None:
    decoder = Decoder(load_model("stand-in"), torch.float64)
    shape, expression = torch.randn(2, 2, 20, dtype=torch.float64).unbind()
    posed = decoder(shape, expression, torch.zeros(2, 3, dtype=torch.float64))
    assert torch.allclose(decoder(shape, expression), posed, atol=1e-9)


def test_nothing_of_the_model_is_saved_or_trained() -> None:
    decoder = Decoder(load_model("stand-in"))
    assert not decoder.state_dict() and not list(decoder.parameters())
    assert decoder.double()(torch.zeros(1, 2).double()).dtype == torch.float64
