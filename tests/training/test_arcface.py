"""The layout of ArcFace's networks, and weights of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.errors import FacefoldError
from pipeline.training.backbones import backbone
from pipeline.training.backbones.arcface import ArcFace, load_weights
from pipeline.training.backbones.features import Features


@pytest.mark.oracles
def test_names_shapes_and_what_is_trained_are_those_of_mica(oracles: Path) -> None:
    known = json.loads((oracles / "mica_arcface_structure.json").read_text())
    with torch.device("meta"):
        network = ArcFace("arcface100")
    own = dict(network.named_parameters())
    assert {name: list(value.shape) for name, value in own.items()} == known["parameters"]
    trained = [name for name, value in own.items() if value.requires_grad]
    assert trained == known["trainable"]
    assert sum(value.numel() for value in own.values()) == known["parameters_total"]
    counted = sum(value.numel() for value in own.values() if value.requires_grad)
    assert counted == known["parameters_trainable"]
    crops = torch.zeros(2, 3, 112, 112, device="meta")
    assert list(network(crops).shape) == known["output_shape_for_2x3x112x112"]


@pytest.mark.parametrize("drift", [True, False])
def test_frozen_norms_drift_in_training_where_asked_for(drift: bool) -> None:
    network = ArcFace("arcface50", norms_drift=drift).train()
    crops = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(crops)
    moved = {
        name
        for name, value in network.named_buffers()
        if name.endswith("running_mean") and not torch.equal(value, before[name])
    }
    assert ("layer1.0.bn1.running_mean" in moved) == drift
    assert ("bn1.running_mean" in moved) == drift
    assert {"layer4.0.bn1.running_mean", "bn2.running_mean", "features.running_mean"} <= moved


def test_weights_of_the_user_are_loaded(tmp_path: Path) -> None:
    theirs = ArcFace("arcface50")
    with torch.no_grad():
        theirs.fc.bias.fill_(0.5)
    # as files of several processes, and of old versions of torch, have them
    saved = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    saved = {name: value for name, value in saved.items() if "num_batches" not in name}
    torch.save(saved, tmp_path / "weights.pth")
    found = Features("arcface50", str(tmp_path / "weights.pth")).eval()
    crops = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = found(crops)
        expected = theirs.eval()(crops)
    assert torch.allclose(features, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: s.pop("0.bias"), r"it lacks 0\.bias; name the backbone"),
        (lambda s: s.update(extra=torch.zeros(1)), "it has besides extra;"),
        (
            lambda s: s.update({"0.weight": torch.zeros(3, 2)}),
            r"other shapes 0\.weight \(3, 2\), expected \(2, 2\)",
        ),
        (lambda s: s.update(epoch=3), "holds entries such as epoch, expected name -> tensor"),
    ],
)
def test_weights_of_another_network_are_refused(spoil, said: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    network = nn.Sequential(nn.Linear(2, 2))
    saved = dict(network.state_dict())
    spoil(saved)
    torch.save(saved, tmp_path / "weights.pth")
    with pytest.raises(FacefoldError, match=said):
        load_weights(network, tmp_path / "weights.pth")


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for name, said in {
        "text.pth": "cannot be read as weights",
        "missing.pth": "cannot be read as weights .*No such file",
        "list.pth": "holds a list, expected",
    }.items():
        with pytest.raises(FacefoldError, match=said):
            load_weights(network, tmp_path / name)


def test_a_backbone_of_another_name_is_refused() -> None:
    with pytest.raises(FacefoldError, match="got 'arcface18', expected one of small, resnet18"):
        backbone("arcface18")
