"""The critic of shapes: its pairs, its score, and the loss that it gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.errors import FacefoldError, RegistryError
from pipeline.flame.assets import load_model
from pipeline.loaders.dataset import Sample
from pipeline.store.reader import open_store
from pipeline.training.config import load_config
from pipeline.training.losses.shape_critic import (
    LEAST_PX,
    POINTS,
    Critic,
    PerceptualShapeLoss,
    carried,
    photos,
    rendered,
    thinned,
)
from pipeline.training.negatives import Recipe
from pipeline.training.perceptual_shape import (
    MEASURED,
    SYSTEM,
    PerceptualShape,
    PerceptualShapeConfig,
    drawn,
    pairs,
)
from pipeline.training.system import Moment, Setting

CONFIG = PerceptualShapeConfig(size_px=112, batch=4, negatives=4, validation_views=4)


@pytest.fixture(scope="module")
def setting(made_people: Path) -> Setting:
    return Setting(open_store(made_people), load_model("stand-in"), CONFIG, torch.device("cpu"))


@pytest.fixture(scope="module")
def learner(setting: Setting) -> PerceptualShape:
    return PerceptualShape(setting)


@pytest.fixture(scope="module")
def batch(setting: Setting) -> Sample:
    return SYSTEM.samples(setting, "train").dataset[0:4]


def camera(batch: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    return batch["canonical_to_camera"], batch["camera_matrix_px"]


def test_the_store_s_render_is_what_the_loss_renders(
    learner: PerceptualShape, batch: Sample
) -> None:
    made = pairs(learner, batch, [Recipe("pose", i, 0.0) for i in range(4)], learner.pool)
    true, other = made.render.chunk(2)
    apart = (true - other).abs()[made.shown[:4] & made.shown[4:]]
    assert apart.max() <= 1.5 / 255 and (apart > 1e-6).float().mean() < 0.01
    assert torch.allclose(*made.points_px.chunk(2), atol=1e-3)
    faces = learner.decoder.faces
    render, seen = rendered(batch["vertices_mm"], faces, *camera(batch), 112)
    assert (seen.shown != made.shown[:4]).float().mean() < 1e-3
    assert (render - true).abs().max() < 0.51 / 255 or (render - true).abs().mean() < 1e-3


def test_photo_and_render_lie_over_each_other() -> None:
    dot = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
    dot[0, 80, 120] = 255
    found = photos(dot, 112)[0, 0] > -1
    assert found.nonzero().tolist() == [[40, 60]]
    matrix = torch.tensor([[[900.0, 0, 112], [0, 900, 112], [0, 0, 1]]])
    point = torch.tensor([8.0 / 900, -32 / 900, 1])  # at (120, 80)
    assert torch.allclose(thinned(matrix, 112)[0] @ point, torch.tensor([60.0, 40, 1]))


def test_a_step_is_a_function_of_its_moment(learner: PerceptualShape, batch: Sample) -> None:
    first, again, other = (learner(batch, Moment(step, 0)).total.detach() for step in (3, 3, 4))
    assert not torch.equal(first, other)
    assert torch.isclose(first, again, rtol=0.05)  # the covariance alone has moved on


def test_weights_are_a_function_of_the_seed(setting: Setting, learner: PerceptualShape) -> None:
    torch.manual_seed(123)
    again = PerceptualShape(setting)
    pair = learner.critic.state_dict(), again.critic.state_dict()
    assert all(torch.equal(pair[0][k], pair[1][k]) for k in pair[0] if k != "covariance")


def test_a_few_steps_on_the_same_pictures_teach_it(setting: Setting, batch: Sample) -> None:
    learner = PerceptualShape(setting)
    optimiser = torch.optim.AdamW(learner.parameters(), 2e-4)
    totals = []
    for _ in range(8):
        total = learner(batch, Moment(0, 0)).total
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]
    assert all(p.grad is not None for p in learner.critic.parameters())


def test_the_score_is_a_distance_by_the_covariance() -> None:
    critic = Critic(112)
    variance = torch.linspace(1, 9, 2 * POINTS)
    critic.covariance.copy_((variance - LEAST_PX**2).diag())
    photo, render = torch.zeros(1, 2 * POINTS), torch.ones(1, 2 * POINTS)
    expected = -0.5 * float((1 / variance).sum())
    assert critic.score(photo, render).item() == pytest.approx(expected, rel=1e-4)
    assert critic.score(render, render).item() == 0
    for _ in range(2000):
        critic.learn_covariance(photo, render)
    assert torch.allclose(critic.covariance, render.T @ render, atol=1e-3)


def test_readers_start_from_where_points_mostly_are() -> None:
    critic = Critic(112)
    places = 100 + 5 * torch.randn(50, 2 * POINTS, generator=torch.Generator().manual_seed(0))
    critic.expect(places)
    for found in (critic.read(torch.rand(1, 3, 112, 112)), critic.read_render(torch.rand(1, 9, 9))):
        assert torch.allclose(found[0], places.mean(0), atol=0.5)


def test_only_so_many_pictures_have_a_negative(setting: Setting, batch: Sample) -> None:
    config = CONFIG.model_copy(update={"negatives": 1})
    learner = PerceptualShape(replace(setting, config=config))
    made = pairs(learner, batch, drawn(1, config, Moment(0, 0).generator("a")), learner.pool)
    assert len(made.photo) == 4 and len(made.render) == len(made.points_px) == 5
    assert learner(batch, Moment(0, 0)).total.isfinite()


def test_by_shading_the_loss_has_the_gradient_of_small_moves(
    learner: PerceptualShape, batch: Sample
) -> None:
    loss = PerceptualShapeLoss(learner.critic, by_shading=True).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.nn.init.normal_(loss.critic.of_renders.places.weight, std=0.1)
    faces, images, cameras = learner.decoder.faces, batch["images"][:1], camera(batch)
    cameras = cameras[0][:1], cameras[1][:1]
    vertices = batch["vertices_mm"][:1].double().requires_grad_()
    loss(images, vertices, faces, *cameras).sum().backward()
    assert vertices.grad is not None and vertices.grad.abs().max() > 0
    move = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1)).double()

    def at(step: float) -> torch.Tensor:
        return loss(images, vertices.detach() + step * move, faces, *cameras)

    step = 1e-7  # no pixel comes to show another triangle
    by_differences = (at(step) - at(-step)) / (2 * step)
    assert torch.isclose((vertices.grad * move).sum(), by_differences, rtol=1e-3).all()


def test_readings_are_carried_by_the_surface_under_them() -> None:
    """A triangle that faces the camera, 500 mm away, in the upper left of the picture."""
    corners = torch.tensor([[-40.0, -40.0, 500.0], [40.0, -40.0, 500.0], [-40.0, 40.0, 500.0]])
    shown = torch.stack([corners, corners * torch.tensor([1.0, 1.0, -1.0])])  # behind the camera
    vertices = shown.clone().requires_grad_()
    matrix = torch.tensor([[900.0, 0, 112], [0, 900, 112], [0, 0, 1]]).expand(2, -1, -1)
    given = vertices, torch.tensor([[0, 1, 2]]), torch.eye(4).expand(2, -1, -1), matrix
    seen = rendered(*given, 112)[1]
    places = torch.tensor([100.0, 60.0, 220.0, 100.0, 90.0, 220.0]).expand(2, -1)  # the last beside
    found = carried(places, seen, *given)
    assert torch.equal(found, places)
    (column,) = torch.autograd.grad(found[0, 0], vertices, retain_graph=True)
    (row,) = torch.autograd.grad(found[0, 4], vertices, retain_graph=True)
    (beside,) = torch.autograd.grad(found[0, 2], vertices, retain_graph=True)
    (nothing,) = torch.autograd.grad(found[1].sum(), vertices)
    for derivative, axis in ((column, 0), (row, 1), (beside, 0)):
        assert derivative[0, :, axis].sum().item() == pytest.approx(900 / 500)
    # each corner by its share of the place
    assert torch.allclose(column[0, :, 0] / 1.8, torch.tensor([1, 2.5, 2.5]) / 6, atol=0.01)
    assert not nothing.any()


class Middle(torch.nn.Module):
    """Reads every point in the middle of what is shown: what is not as grey as the corners."""

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        grey = picture[:, 0]
        shown = ((grey - grey[:, :9, :9].mean((1, 2), keepdim=True)).abs() > 0.1).float()
        place = 2.0 * torch.arange(112)
        column, row = (
            (shown.sum(along) @ place) / shown.sum((1, 2)).clamp_min(1) for along in (1, 2)
        )
        return torch.stack([column, row], 1).repeat_interleave(POINTS, 1)


def test_the_loss_falls_as_its_gradient_says(learner: PerceptualShape, batch: Sample) -> None:
    critic = Critic(112)
    critic.of_renders = Middle()  # type: ignore[assignment]
    loss, faces = PerceptualShapeLoss(critic), learner.decoder.faces
    images, cameras = batch["images"], camera(batch)
    sideways = torch.linalg.inv(cameras[0][:, :3, :3].float())[:, None, :, 0]

    middle = batch["vertices_mm"].mean(1, keepdim=True)
    small = middle + 0.4 * (batch["vertices_mm"] - middle)  # all of it is in the picture

    def at(step_mm: torch.Tensor) -> torch.Tensor:
        moved = small + step_mm[:, None, None] * sideways
        return loss(images, moved, faces, *cameras)

    step = torch.full((4,), 15.0, requires_grad=True)
    (by_gradient,) = torch.autograd.grad(at(step).sum(), step)
    with torch.no_grad():
        by_differences = (at(step + 4) - at(step - 4)) / 8
    assert torch.allclose(by_gradient, by_differences, rtol=0.25)


def test_any_mesh_will_do(learner: PerceptualShape, batch: Sample) -> None:
    loss = PerceptualShapeLoss(learner.critic)
    faces, vertices = learner.decoder.faces, batch["vertices_mm"][:2]
    given = batch["images"][:2], *(x[:2] for x in camera(batch))
    whole = loss(given[0], vertices, faces, *given[1:])
    # the same surface as other triangles: each in three, about its middle
    corners = vertices[:, faces]
    finer = torch.cat([vertices, corners.mean(2)], 1)
    middles = len(vertices[0]) + torch.arange(len(faces))
    parts = [
        torch.stack([faces[:, i], faces[:, j], middles], 1) for i, j in ((0, 1), (1, 2), (2, 0))
    ]
    again = loss(given[0], finer, torch.cat(parts), *given[1:])
    assert whole.shape == (2,) and (whole >= 0).all()
    assert torch.allclose(whole, again, rtol=0.2)
    triangle = torch.tensor([[[-60.0, 0, 60], [60, 0, 60], [0, 80, 60]]]).expand(2, -1, -1)
    alone = loss(given[0], triangle, torch.tensor([[0, 1, 2]]), *given[1:])
    assert alone.isfinite().all()


def test_images_of_another_kind_are_refused(learner: PerceptualShape, batch: Sample) -> None:
    loss = PerceptualShapeLoss(learner.critic)
    given = batch["vertices_mm"], learner.decoder.faces, *camera(batch)
    with pytest.raises(FacefoldError, match=r"\(4, 112, 112, 3\) torch.uint8: expected \(B,224"):
        loss(batch["images"][:, ::2, ::2], *given)
    with pytest.raises(FacefoldError, match=r"torch.float32: expected .* uint8"):
        loss(batch["images"].float(), *given)


def test_sizes_and_keys_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FacefoldError, match="critic of 56 px: expected"):
        Critic(56)
    file = tmp_path / "psl.yaml"
    file.write_text("kinds: {hats: 1}\n")
    with pytest.raises(RegistryError, match="hats"):
        load_config(file, PerceptualShapeConfig)


def test_kinds_are_drawn_by_their_shares() -> None:
    config = CONFIG.model_copy(
        update={"kinds": CONFIG.kinds.model_copy(update={"all": 0.0, "pose": 0.0})}
    )
    found = drawn(400, config, torch.Generator().manual_seed(0))
    kinds = [recipe.kind for recipe in found]
    assert set(kinds) == {"identity", "shape", "expression"} and len({r.seed for r in found}) > 390
    assert drawn(400, config, torch.Generator().manual_seed(0)) == found


def test_measured_and_pictured(learner: PerceptualShape, setting: Setting, tmp_path: Path) -> None:
    found = SYSTEM.measure(learner, setting, "val")
    assert SYSTEM.best_by in found and found == SYSTEM.measure(learner, setting, "val")
    assert all(0 <= found[f"{kind}_preferred_percent"] <= 100 for kind in MEASURED)
    assert SYSTEM.picture is not None
    SYSTEM.picture(learner, setting, "val", tmp_path / "critic.png")
    assert Image.open(tmp_path / "critic.png").size == (224 * (2 + len(MEASURED)), 224 * 4)
