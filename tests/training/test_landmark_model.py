"""A model of its landmarks alone says what the whole model says of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.flame.assets import load_model
from pipeline.training.decoder import Decoder
from pipeline.training.landmark_model import landmark_model


def test_landmarks_are_those_of_the_whole_model() -> None:
    model = load_model("stand-in")
    whole, small = Decoder(model, torch.float64), Decoder(landmark_model(model), torch.float64)
    draw = torch.Generator().manual_seed(0)
    sizes = {"shape": 80, "expression": 30, "pose": 15, "translation_mm": 3}
    given = [0.5 * torch.randn(4, n, generator=draw).double() for n in sizes.values()]
    expected, found = (decoder.landmarks(decoder(*given)) for decoder in (whole, small))
    assert torch.allclose(found, expected, atol=1e-9)
    assert len(small.model.template_mm) < 220


def test_a_model_without_landmarks_is_refused() -> None:
    with pytest.raises(ModelError, match="no landmarks of the iBUG scheme; name an embedding"):
        landmark_model(replace(load_model("stand-in"), landmarks=None))
