"""What pixels and vertices show: against 3DDFA-V3's renderer, and of shapes known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import trimesh
from torch import Tensor

from pipeline.flame.assets import load_model
from pipeline.loaders import FaceDataset
from pipeline.training.shading import Surfaces, surfaces
from pipeline.training.visibility import (
    cosine,
    in_sight,
    rasterised_vertices,
    soft_visibility,
    visible,
)
from tests.training.linear_faces import tensors

MARGIN = 2
"""Pixels at the border of a picture, where 3DDFA-V3's renderer paints the whole bounding boxes of
triangles that reach there."""


class Rendered(NamedTuple):
    """The oracle's meshes as our rays show them."""

    theirs: dict[str, Tensor]
    seen: Surfaces
    faces: Tensor
    depth: Tensor  # (B,V,1)
    pixels: Tensor  # (B,V,2)

    def flat(self, of_vertices: Tensor) -> Tensor:
        """Values interpolated evenly in the picture, as that renderer does, not on the surface."""
        weighed = self.seen.values(of_vertices * self.depth, self.faces)
        return weighed / self.seen.values(self.depth, self.faces).clamp_min(1e-9)


@pytest.fixture(scope="module")
def rendered(oracles: Path) -> Rendered:
    theirs = tensors(oracles / "ddfa_render.npz")
    size, faces = int(theirs["size"]), theirs["faces"].long()
    points = theirs["camera_vertices"] * torch.tensor([100, -100, 100])  # y down, mm
    focal = size / 2 / torch.tan(torch.deg2rad(theirs["fov_deg"] / 2))
    matrix = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]).double()
    camera = torch.eye(4).double().expand(2, 4, 4), matrix.expand(2, 3, 3)
    seen = surfaces(points, faces, *camera, size, size)
    pixels = points @ matrix.T
    return Rendered(theirs, seen, faces, points[..., 2:] / 100, pixels[..., :2] / pixels[..., 2:])


def inside(picture: Tensor) -> Tensor:
    return picture[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


@pytest.mark.oracles
@pytest.mark.parametrize("i", [0, 1])
def test_pictures_are_those_of_3ddfa_v3s_renderer(rendered: Rendered, i: int) -> None:
    theirs, triangle = rendered.theirs, rendered.seen.triangle[i]
    # its mask leaves out the first triangle
    assert (inside(triangle > 0) == inside(theirs[f"mask_{i}"] > 0)).double().mean() >= 0.995
    colours = rendered.flat(theirs["vertex_colors"])[i].movedim(-1, 0)
    depth = rendered.flat(rendered.depth)[i, ..., 0]
    shown = inside(triangle >= 0)
    for ours, expected in ((colours, theirs[f"image_{i}"]), (depth, theirs[f"depth_{i}"])):
        apart = inside(ours - expected).abs().reshape(-1, *shown.shape).amax(0)
        assert (apart < 1e-4).double().mean() >= 0.995
        assert (apart[shown] < 1e-4).double().mean() >= 0.995


@pytest.mark.oracles
@pytest.mark.parametrize("i", [0, 1])
def test_visible_vertices_are_those_of_3ddfa_v3s_renderer(rendered: Rendered, i: int) -> None:
    ours = rasterised_vertices(rendered.seen.triangle, rendered.faces, 121)[i]
    theirs = torch.zeros(121, dtype=torch.bool)
    theirs[rendered.theirs[f"visible_vertices_{i}"].long()] = True
    size, pixels = int(rendered.theirs["size"]), rendered.pixels[i]
    well_inside = ((pixels > MARGIN) & (pixels < size - 1 - MARGIN)).all(-1)
    assert well_inside.sum() > 60
    assert torch.equal(ours[well_inside], theirs[well_inside])


SIZE = 64
LOOKING = torch.diag(torch.tensor([1.0, -1, -1, 1])).double()[None].clone()
LOOKING[0, 2, 3] = 1000.0
MATRIX = torch.tensor([[[400.0, 0, 31.5], [0, 400, 31.5], [0, 0, 1]]]).double()


def two_plates() -> tuple[Tensor, Tensor]:
    """(1,89,3), (F,3): a wall of 9 × 9 vertices, a small plate before its middle, and one beside it
    that faces away."""
    along = torch.linspace(-60, 60, 9).double()
    row, column = torch.meshgrid(along, along, indexing="ij")
    wall = torch.stack([column, row, 0 * row], -1).view(-1, 3)
    square = torch.tensor([[-5.0, -5, 0], [5, -5, 0], [5, 5, 0], [-5, 5, 0]]).double()
    plates = [square + torch.tensor(at) for at in ([0.0, 0, 30], [75.0, 0, 0])]
    corner = torch.arange(81).view(9, 9)[:-1, :-1].reshape(-1, 1, 1)
    halves = (corner + torch.tensor([[0, 1, 10], [0, 10, 9]])).view(-1, 3)
    plate = torch.tensor([[0, 1, 2], [0, 2, 3]])
    faces = torch.cat([halves, plate + 81, plate.flip(1) + 85])
    return torch.cat([wall, *plates])[None], faces


def test_a_plate_hides_the_wall_behind_it() -> None:
    vertices, faces = two_plates()
    sight = in_sight(vertices, faces, LOOKING)[0]
    behind = vertices[0, :81].abs().amax(-1) < 1  # the wall's middle alone
    assert behind.sum() == 1 and not sight[:81][behind].any() and sight[:81][~behind].all()
    assert sight[81:].all()
    soft = soft_visibility(vertices, faces, LOOKING)[0]
    assert torch.allclose(soft[:85], sight[:85].double())  # faces the camera: all or nothing
    assert not soft[85:].any()  # turned away


def test_visible_is_rasterised_and_turned_here() -> None:
    vertices, faces = two_plates()
    seen = surfaces(vertices, faces, LOOKING, MATRIX, SIZE, SIZE)
    facing = cosine(vertices, faces, LOOKING)
    assert (facing[0, :85] > 0.99).all() and (facing[0, 85:] < -0.9).all()
    found = visible(seen.triangle, faces, facing)[0]
    assert found[:85].all()  # the hidden vertex too: triangles round it are seen
    assert not found[85:].any()
    moved = vertices + torch.tensor([0, 0, 2000])  # behind the camera
    nothing = surfaces(moved, faces, LOOKING, MATRIX, SIZE, SIZE)
    assert not visible(nothing.triangle, faces, facing).any()


def test_a_balls_visibility_fades_towards_its_outline() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=50)
    vertices, faces = torch.tensor(ball.vertices)[None], torch.tensor(ball.faces)
    soft = soft_visibility(vertices, faces, LOOKING)[0]
    facing = cosine(vertices, faces, LOOKING)[0]
    order = facing.argsort()
    assert (soft[order].diff() >= -1e-9).all()  # more the more it is turned here
    assert (soft[facing < 0] == 0).all() and (soft[facing > 0.26] == 1).all()
    assert soft[order].diff().max() < 0.2  # nothing jumps


def test_gradients_are_those_of_small_moves(made_people: Path) -> None:
    fields = ("vertices_mm", "canonical_to_camera")
    batch = FaceDataset(made_people, "train", fields, unit="view")[0:2]
    faces = torch.from_numpy(load_model("stand-in").faces)
    pose = batch["canonical_to_camera"].double()
    vertices = batch["vertices_mm"].double().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(vertices.shape[:2], generator=generator).double()
    soft = soft_visibility(vertices, faces, pose)
    assert 0.2 < (soft > 0).double().mean() < 0.7
    (soft * weights).sum().backward()
    move = torch.randn(vertices.shape, generator=generator).double()
    sight = in_sight(vertices, faces, pose)

    def moved(step: float) -> Tensor:
        there = vertices.detach() + step * move
        share = (cosine(there, faces, pose) / 0.25).clamp(0, 1)
        return (share**2 * (3 - 2 * share) * sight * weights).sum()

    by_differences = (moved(1e-5) - moved(-1e-5)) / 2e-5
    assert vertices.grad is not None
    assert torch.isclose((vertices.grad * move).sum(), by_differences, rtol=1e-4)
