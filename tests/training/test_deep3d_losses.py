"""Deep3D's losses against the numbers of its code, and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.errors import FacefoldError
from pipeline.training.linear_face import LinearFace, split
from pipeline.training.losses.landmarks import HEAVY, landmark_loss, landmark_weights_68
from pipeline.training.losses.objective import Deep3dWeights, weighted
from pipeline.training.losses.photometric import (
    feature_loss,
    photometric_loss,
    reflectance_loss,
)
from pipeline.training.losses.regularisation import PriorWeights, coefficient_loss, gamma_loss
from tests.training.linear_faces import DEEP3D, arrays_of, tensors

NAMES = ("feat", "color", "reg", "gamma", "lm", "reflc")
"""What Deep3D calls its losses, in the order of `Deep3dWeights`."""


@pytest.fixture(scope="module")
def theirs(oracles: Path) -> dict[str, Tensor]:
    return tensors(oracles / "deep3d_losses.npz")


def same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> bool:
    """To a part of theirs, or of the largest where they are several."""
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())


def with_gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    at = at.clone().requires_grad_()
    found = loss(at)
    (gradient,) = torch.autograd.grad(found, at)
    return found.detach(), gradient


@pytest.mark.oracles
def test_landmarks_cost_what_deep3d_says(theirs: dict[str, Tensor]) -> None:
    found = with_gradient(lambda x: landmark_loss(x, theirs["lm_gt"]), theirs["lm_pred"])
    assert same(found[0], theirs["lm_loss"], 1e-9) and same(found[1], theirs["lm_grad"])


@pytest.mark.oracles
@pytest.mark.parametrize("kind", ["binary", "soft", "empty"])
def test_colours_cost_what_deep3d_says(theirs: dict[str, Tensor], kind: str) -> None:
    mask = theirs[f"photo_mask_{kind}"]
    loss, gradient = with_gradient(
        lambda x: photometric_loss(x, theirs["photo_b"], mask), theirs["photo_a"]
    )
    assert same(loss, theirs[f"photo_loss_{kind}"])
    assert same(gradient, theirs[f"photo_grad_{kind}"])


@pytest.mark.oracles
def test_albedo_costs_what_deep3d_says(theirs: dict[str, Tensor]) -> None:
    skin = theirs["reflectance_mask"]
    found = with_gradient(lambda x: reflectance_loss(x, skin), theirs["reflectance_texture"])
    assert same(found[0], theirs["reflectance_loss"])
    assert same(found[1], theirs["reflectance_grad"])


@pytest.mark.oracles
def test_features_and_priors_cost_what_deep3d_says(theirs: dict[str, Tensor]) -> None:
    given = split(theirs["coefficients"])
    prior = coefficient_loss(given.identity, given.expression, given.albedo)
    features = feature_loss(theirs["feature_a"], theirs["feature_b"])
    assert same(features, theirs["perceptual_loss"])
    assert same(prior, theirs["reg_loss"]) and same(gamma_loss(given.gamma), theirs["gamma_loss"])


@pytest.mark.oracles
def test_the_default_weights_are_deep3ds(theirs: dict[str, Tensor]) -> None:
    names = (*NAMES, "id", "exp", "tex")
    ours = [*Deep3dWeights().model_dump().values(), *PriorWeights().model_dump().values()]
    assert ours == [theirs[f"w_{name}"].item() for name in names]


@pytest.mark.oracles
def test_the_objective_with_its_gradient_is_deep3ds(
    theirs: dict[str, Tensor], oracles: Path
) -> None:
    face_file = oracles / "deep3d_face_model.npz"
    face = LinearFace(arrays_of(face_file, DEEP3D), recentred=True, dtype=torch.float64)
    coefficients = tensors(face_file)["coefficients"].requires_grad_()
    given = split(coefficients)
    seen = face(given)
    mask = theirs["total_attention"] * theirs["total_front_mask"]
    terms = {
        "features": feature_loss(theirs["total_feature_pred"], theirs["total_feature_gt"]),
        "colour": photometric_loss(theirs["total_face"], theirs["total_image"], mask),
        "coefficients": coefficient_loss(given.identity, given.expression, given.albedo),
        "gamma": gamma_loss(given.gamma),
        "landmarks": landmark_loss(seen.landmarks_px, theirs["total_gt_lm"]),
        "reflectance": reflectance_loss(seen.albedo, theirs["reflectance_mask"]),
    }
    total, each = weighted(terms, Deep3dWeights())
    for value, name in zip(each.values(), NAMES, strict=True):
        assert same(value, theirs[f"total_loss_{name}"]), name
    assert same(total, theirs["total_loss_all"])
    (gradient,) = torch.autograd.grad(total, coefficients)
    assert same(gradient, theirs["total_coefficients_grad"])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).double()


def test_nose_and_inner_lips_weigh_twenty() -> None:
    labels = torch.zeros(1, 68, 2)
    costs = []
    for landmark in range(68):
        moved = labels.clone()
        moved[0, landmark] = torch.tensor([3.0, 4.0])
        costs.append(landmark_loss(moved, labels).item() * 68 / 25)
    assert [i for i, cost in enumerate(costs) if cost == pytest.approx(20)] == [*HEAVY]
    assert sum(costs) == pytest.approx(57 + 11 * 20)
    assert landmark_weights_68().tolist() == pytest.approx(costs)


def test_unlabelled_landmarks_cost_nothing() -> None:
    labels, given = drawn(2, 5, 2), drawn(2, 5, 2, seed=1).requires_grad_()
    labels[0, 3] = torch.nan
    loss = landmark_loss(given, labels, torch.ones(5))
    kept = (given - labels).nan_to_num(0).square().sum() / 10
    assert torch.isclose(loss, kept)
    loss.backward()
    assert given.grad is not None and given.grad.isfinite().all() and not given.grad[0, 3].any()


def test_equal_pixels_cost_a_thousandth_and_no_pixels_nothing() -> None:
    picture = drawn(2, 3, 6, 5).requires_grad_()
    loss = photometric_loss(picture, picture.detach(), torch.ones(2, 1, 6, 5))
    assert loss.item() == pytest.approx(1e-3)
    loss.backward()
    assert picture.grad is not None and not picture.grad.any()
    assert photometric_loss(picture, 0 * picture, torch.zeros(2, 1, 6, 5)) == 0


def test_colours_differ_by_their_distance() -> None:
    black = torch.zeros(1, 3, 2, 2)
    grey = black + torch.tensor([0.2, 0.3, 0.6])[:, None, None]
    loss = photometric_loss(grey, black, torch.ones(1, 1, 2, 2))
    assert loss.item() == pytest.approx(math.sqrt(0.49), rel=1e-5)


def test_one_colour_of_skin_costs_nothing_whatever_the_lips_are() -> None:
    albedo = torch.tensor([0.8, 0.6, 0.5]).repeat(2, 10, 1)
    albedo[1] *= 0.4  # another person's
    skin = torch.ones(10)
    albedo[:, 7:], skin[7:] = torch.rand(2, 3, 3), 0
    assert reflectance_loss(albedo, skin).item() == pytest.approx(0, abs=1e-12)
    albedo[0, 0, 0] += 0.1
    assert reflectance_loss(albedo, skin).item() == pytest.approx(0.01 * (6 / 7) / 14, rel=1e-4)
    no_skin = reflectance_loss(albedo.requires_grad_(), torch.zeros(10))
    no_skin.backward()
    assert no_skin == 0 and albedo.grad is not None and not albedo.grad.any()


def test_white_light_costs_nothing() -> None:
    light = drawn(4, 1, 9).expand(4, 3, 9)
    assert gamma_loss(light.reshape(4, 27)).item() == pytest.approx(0, abs=1e-20)
    assert gamma_loss(light * torch.tensor([1.0, 2, 3])[:, None]) > 0.01


def test_priors_are_sums_of_squares_a_head() -> None:
    ones = torch.ones(3, 10)
    assert coefficient_loss(ones, ones).item() == pytest.approx(18)
    given = PriorWeights(identity=0, expression=0.5, albedo=2)
    assert coefficient_loss(ones, ones, ones[:, :4], given).item() == pytest.approx(13)


def test_gradients_are_finite_differences() -> None:
    check = torch.autograd.gradcheck
    picture, mask = drawn(2, 3, 4, 3).requires_grad_(), drawn(2, 1, 4, 3, seed=2)
    assert check(lambda x: photometric_loss(x, drawn(2, 3, 4, 3, seed=1), mask), picture)
    assert check(lambda x: landmark_loss(x, drawn(2, 68, 2)), drawn(2, 68, 2).requires_grad_())
    skin = (drawn(20, seed=3) > 0.4).double()
    assert check(lambda x: reflectance_loss(x, skin), drawn(2, 20, 3).requires_grad_())
    assert check(gamma_loss, drawn(2, 27).requires_grad_())


def test_the_sum_is_of_weighted_losses() -> None:
    terms = {"landmarks": torch.tensor(2.0), "parts": torch.tensor(5.0)}
    total, each = weighted(terms, {"parts": 0.1, "landmarks": 3.0, "gamma": 1.0})
    assert total.item() == pytest.approx(6.5) and each["parts"].item() == pytest.approx(0.5)
    with pytest.raises(FacefoldError, match="losses parts have no weight, expected some of feat"):
        weighted(terms, Deep3dWeights())
    with pytest.raises(FacefoldError, match="losses none have no weight"):
        weighted({}, Deep3dWeights())


def test_other_shapes_are_refused() -> None:
    with pytest.raises(FacefoldError, match=r"\(2, 68, 2\) predicted and \(2, 51, 2\) labelled"):
        landmark_loss(torch.zeros(2, 68, 2), torch.zeros(2, 51, 2))
    with pytest.raises(FacefoldError, match="68 weights for 51 landmarks"):
        landmark_loss(torch.zeros(2, 51, 2), torch.zeros(2, 51, 2))
    with pytest.raises(FacefoldError, match=r"the mask is \(2, 4, 4\); expected"):
        photometric_loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4))
    with pytest.raises(FacefoldError, match=r"albedo is \(2, 9, 3\) and its skin \(8,\)"):
        reflectance_loss(torch.zeros(2, 9, 3), torch.zeros(8))
