"""MICA's loss and vertex weights against the authors' numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import FacefoldError
from pipeline.flame.assets import load_model
from pipeline.loaders.transforms import VertexWeights
from pipeline.training.losses.vertices import vertex_loss


def weights_of_flame(shared_data: Path) -> torch.Tensor:
    model = load_model(
        shared_data / "flame_ict" / "flame_ict.npz", masks=shared_data / "flame" / "FLAME_masks.pkl"
    )
    return VertexWeights.of(model).weights


@pytest.mark.oracles
def test_vertices_weigh_as_in_the_released_configuration(shared_data: Path, oracles: Path) -> None:
    expected = torch.from_numpy(np.load(oracles / "mica_weights.npz")["vertex"])
    assert torch.equal(weights_of_flame(shared_data), expected)


@pytest.mark.oracles
@pytest.mark.parametrize("kind", ["masked", "plain"])
def test_loss_and_gradient_are_the_authors(shared_data: Path, oracles: Path, kind: str) -> None:
    known = np.load(oracles / "mica_loss.npz")
    found_m = torch.from_numpy(known["pred_vertices_m"]).double().requires_grad_()
    truth_m = torch.from_numpy(known["gt_vertices_m"]).double()
    weights = weights_of_flame(shared_data).double() if kind == "masked" else None
    loss = vertex_loss(1000 * found_m, 1000 * truth_m, weights)
    loss.backward()
    assert loss.item() == pytest.approx(known[f"loss_{kind}"], rel=1e-5)
    gradient = found_m.grad[:, :50].numpy()
    assert np.allclose(gradient, known[f"grad_{kind}_first50"], rtol=1e-5, atol=1e-9)


def test_weights_may_differ_by_sample() -> None:
    found, truth = torch.ones(2, 3, 3), torch.zeros(2, 3, 3)
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
    assert vertex_loss(found, truth, weights) == 1.0
    assert vertex_loss(found, truth, weights[1]) == pytest.approx(5 / 3)


def test_heads_of_another_topology_are_refused() -> None:
    with pytest.raises(FacefoldError, match=r"\(1, 4, 3\) and \(1, 3, 3\).*one topology"):
        vertex_loss(torch.zeros(1, 4, 3), torch.zeros(1, 3, 3))
    with pytest.raises(FacefoldError, match=r"weights \(3,\) for vertices \(1, 4, 3\)"):
        vertex_loss(torch.zeros(1, 4, 3), torch.zeros(1, 4, 3), torch.ones(3))
