"""MICA: its mapping network against the authors' numbers, its batches, heads and refusals."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import FacefoldError, StoreError
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.loaders import FaceLoader
from pipeline.loaders.dataset import Sample
from pipeline.loaders.transforms import VertexWeights
from pipeline.store.reader import open_store
from pipeline.training.decoder import Decoder
from pipeline.training.losses.vertices import vertex_loss
from pipeline.training.mapping_network import MappingNetwork
from pipeline.training.mica import POINTS, SYSTEM, Mica, MicaConfig, samples
from pipeline.training.mica_heads import heads
from pipeline.training.system import Moment, Setting

SMALL = {"backbone": "small", "size_px": 56, "batch": 4, "steps": 2}
MOMENT = Moment(0, 0)


@lru_cache
def stand_in() -> FlameModel:
    return load_model("stand-in")


def setting_of(store: Path, **keys: Any) -> Setting:
    config = MicaConfig(**{**SMALL, **keys})
    opened = open_store(store / "versions" / (store / "HEAD").read_text().strip())
    return Setting(opened, stand_in(), config, torch.device("cpu"))


def batch_of(setting: Setting) -> Sample:
    asked = samples(setting, "train")
    loader = FaceLoader(asked.dataset, setting.config.batch, asked.order, transform=asked.transform)
    found: Sample = next(iter(loader))
    return found


def by_recipe(network: MappingNetwork, seed: int) -> MappingNetwork:
    random = np.random.default_rng(seed)
    for layer in (*network.network, network.output):
        out, into = layer.weight.shape
        weight = random.standard_normal((out, into)) * np.sqrt(2 / (1.04 * into))
        bias = random.standard_normal(out) * 0.1
        for own, values in ((layer.weight, weight), (layer.bias, bias)):
            own.data = torch.from_numpy(values.astype(np.float32)).double()
    return network


@pytest.mark.oracles
@pytest.mark.parametrize("hidden", [2, 3, 6])
def test_the_mapping_is_the_authors(oracles: Path, hidden: int) -> None:
    known = np.load(oracles / "mica_mapping.npz")
    of = {
        name.removeprefix(f"hidden{hidden}/"): torch.from_numpy(known[name]).double()
        for name in known.files
        if name.startswith(f"hidden{hidden}/")
    }
    network = MappingNetwork(16, 12, 10, hidden).double()
    network.load_state_dict({name: of[name] for name in network.state_dict()})
    z = of["input"].requires_grad_()
    found = network(z)
    found.square().sum().backward()
    for own, name in (
        (found, "output"),
        (z.grad, "input_grad_of_sum_of_squares"),
        (network.network[0].weight.grad, "network.0.weight_grad"),
    ):
        expected = of[name]
        assert torch.allclose(own, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


@pytest.mark.oracles
def test_the_mapping_at_its_own_size_is_the_authors(oracles: Path) -> None:
    known = np.load(oracles / "mica_mapping.npz")
    network = by_recipe(MappingNetwork(512, 300, 300).double(), int(known["full/weight_seed"]))
    sums = [value.sum().item() for value in network.state_dict().values()]
    assert np.allclose(sums, known["full/weight_sums"], rtol=1e-5)
    found = network(torch.from_numpy(known["full/input"]).double()).detach().numpy()
    assert np.allclose(found, known["full/output"], rtol=1e-5, atol=1e-5)


@pytest.mark.oracles
def test_fresh_weights_spread_as_the_authors(oracles: Path) -> None:
    known = np.load(oracles / "mica_mapping.npz")
    torch.manual_seed(0)
    fresh = [MappingNetwork(512, 300, 300) for _ in range(20)]
    layers = [(*network.network, network.output) for network in fresh]
    spread = [[layer.weight.std().item() for layer in own] for own in layers]
    assert np.allclose(np.mean(spread, 0), known["init/weight_std"], rtol=0.02)
    largest = [[layer.bias.abs().max().item() for layer in own] for own in layers]
    assert np.allclose(np.max(largest, 0), known["init/bias_absmax"], rtol=0.02)


@pytest.mark.oracles
def test_from_features_to_the_loss_all_is_the_authors(shared_data: Path, oracles: Path) -> None:
    known = np.load(oracles / "mica_loss.npz")
    model = load_model(
        shared_data / "flame_ict" / "flame_ict.npz", masks=shared_data / "flame" / "FLAME_masks.pkl"
    )
    decoder = Decoder(model, torch.float64)
    network = by_recipe(MappingNetwork(512, 300, 40).double(), int(known["end_weight_seed"]))
    codes = network(torch.from_numpy(known["end_feature"]).double())
    found = decoder(codes)
    truth = decoder(torch.from_numpy(known["end_gt_code"]).double())
    loss = vertex_loss(found, truth, VertexWeights.of(model).weights.double())
    loss.backward()
    assert np.allclose(codes.detach(), known["end_pred_code"], rtol=1e-5, atol=1e-5)
    for own, name in ((found, "pred"), (truth, "gt")):
        mean_m = own.detach().mean(1) / 1000
        assert np.allclose(mean_m, known[f"end_{name}_vertices_mean"], rtol=1e-5, atol=1e-6)
    assert loss.item() == pytest.approx(float(known["end_loss"]), rel=1e-5)
    gradient, expected = network.output.bias.grad.numpy(), known["end_output_bias_grad"]
    assert np.allclose(gradient, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    norm = network.network[0].weight.grad.norm().item()
    assert norm == pytest.approx(float(known["end_first_weight_grad_norm"]), rel=1e-4)


def test_the_label_is_the_persons_head(made_people: Path) -> None:
    """Two labels of heads that lie in the model's span are one."""
    labels = []
    for label in ("shape", "neutral"):
        setting = setting_of(made_people, label=label)
        labels.append(Mica(setting).label(batch_of(setting)))
    assert labels[0].shape == (4, 5023, 3)
    assert (labels[0] - labels[1]).abs().max() < 1e-3


def test_points_are_sought_where_crops_show_vertices(made_people: Path) -> None:
    setting = setting_of(made_people, guidance=1.0)
    learner = Mica(setting)
    places = learner.points_px(batch_of(setting))
    assert places.shape == (8, POINTS, 2)
    # a face is turned by up to 40 degrees, which moves what is seen from the front by some pixels
    assert 1 < (places - learner.usual_px).abs().mean() < 15
    assert ((learner.usual_px > -20) & (learner.usual_px < 132)).all()


def test_with_guidance_the_mapping_sees_whitened_places_alone(made_people: Path) -> None:
    setting = setting_of(made_people, guidance=1.0)
    batch, learner = batch_of(setting), Mica(setting).eval()
    with torch.no_grad():
        true = learner.whitened(learner.points_px(batch).flatten(1))
        features = learner.features_of(batch)
        unseen = torch.linalg.svd(learner.places.weight).Vh[-1]
        codes = learner.codes(features, batch)
        same, other = (learner.codes(features + x, batch) for x in (10 * unseen, torch.ones(512)))
    assert torch.allclose(same, codes, atol=1e-3)
    assert (other - codes).abs().max() > 0.01
    # of few people: less than variance 1 in most of 400 directions, never much more
    assert true.isfinite().all() and true.square().mean() < 1.5


def test_training_follows_all_terms_and_leaves_no_parameter_out(made_people: Path) -> None:
    setting = setting_of(made_people, guidance=2.0, camera=True, colour=0.2)
    learner = Mica(setting)
    losses = learner(batch_of(setting), MOMENT)
    assert losses.terms.keys() == {"vertices", "guidance"}
    assert losses.total.item() == pytest.approx(sum(losses.terms.values()).item())
    losses.total.backward()
    assert [n for n, p in learner.named_parameters() if p.grad is None] == []
    assert not any("decoder" in name for name in learner.state_dict())


def test_weights_are_a_function_of_the_seed(made_people: Path) -> None:
    first, second, other = (
        Mica(setting_of(made_people, seed=seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["mapping.output.weight"], other["mapping.output.weight"])


def test_the_camera_changes_what_is_predicted(made_people: Path) -> None:
    setting = setting_of(made_people, camera=True)
    batch, learner = batch_of(setting), Mica(setting).eval()
    with torch.no_grad():
        features = learner.features_of(batch)
        near = learner.codes(features, batch)
        further = batch | {"views.distance_mm": 2 * batch["views.distance_mm"]}
        far = learner.codes(features, further)
    assert near.shape == (8, 300) and (near - far).abs().max() > 1e-4


def test_only_the_mapping_is_trained_on_embeddings(made_people: Path) -> None:
    setting = setting_of(made_people, input="embeddings")
    learner = Mica(setting)
    assert all(name.startswith("mapping.") for name, _ in learner.named_parameters())
    batch = {"embeddings": torch.randn(3, 2, 512), "identity_shape": torch.zeros(3, 300)}
    assert learner(batch, MOMENT).total > 0
    with pytest.raises(StoreError, match="embeddings"):
        samples(setting, "train")


def test_masks_may_be_left_out(made_people: Path) -> None:
    assert Mica(setting_of(made_people, use_mask=False)).vertex_weights is None
    weights = Mica(setting_of(made_people)).vertex_weights
    assert weights is not None
    assert weights.unique().tolist() == pytest.approx([0.01, 1.0, 150.0])


def test_a_head_is_of_the_mean_coefficients_of_all_pictures(made_people: Path) -> None:
    setting = setting_of(made_people)
    learner = Mica(setting).eval()
    four, one = heads(learner, setting, "val"), heads(learner, setting, "val", 1)
    assert len(four) == 3 and four.keys() == one.keys()
    who, head = next(iter(four.items()))
    assert head.shape == (5023, 3) and not torch.equal(head, one[who])
    figures = SYSTEM.measure(learner, setting, "val")
    assert figures[SYSTEM.best_by] > 0 and "aligned_ratio" in figures


def test_the_picture_has_a_row_a_person(made_people: Path, tmp_path: Path) -> None:
    setting = setting_of(made_people)
    assert SYSTEM.picture is not None
    SYSTEM.picture(Mica(setting).eval(), setting, "val", tmp_path / "examples.png")
    assert Image.open(tmp_path / "examples.png").size == (4 * 224, 32 + 3 * 224)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"backbone": "arcface100"}, "arcface100 has no weights.*frozen: false"),
        ({"input": "embeddings", "guidance": 1.0}, "guidance: 1 with input: embeddings"),
        ({"backbone": "arcface50", "frozen": False}, "size_px: 56 with backbone arcface50"),
        ({"regions": {"tail": 1.0}}, "no region 'tail'"),
        ({"backbone": "vgg"}, "got 'vgg', expected one of small, resnet18"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(
    made_people: Path, keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(FacefoldError, match=said):
        Mica(setting_of(made_people, **keys))


def test_defaults_are_those_of_the_release() -> None:
    config = MicaConfig()
    assert (config.steps, config.batch, config.images, config.hidden) == (160_000, 8, 2, 3)
    rates = {config.optimiser.rate(step, config.steps) for step in (0, 1000, config.steps - 1)}
    assert rates == {1e-5}  # its schedule never fires
