"""The depth buffer against rays, and its corner cases."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.flame.assets import load_model
from pipeline.loaders import FaceDataset
from pipeline.training.cameras import in_camera, shrunk
from pipeline.training.rasterising import rasterised
from pipeline.views.camera import Camera
from pipeline.views.raycasting import prepare

CAMERA = torch.tensor([[[10.0, 0, 4], [0, 10, 4], [0, 0, 1]]])


def test_pixels_show_what_rays_meet(made_people: Path) -> None:
    fields = ("vertices_mm", "camera_matrix_px", "canonical_to_camera")
    batch = FaceDataset(made_people, "train", fields, unit="view")[0:3]
    faces = load_model("stand-in").faces
    matrix, pose = shrunk(batch["camera_matrix_px"], 0.5), batch["canonical_to_camera"]
    found = rasterised(
        in_camera(batch["vertices_mm"], pose), torch.from_numpy(faces), matrix, 112, 112
    )
    for i in range(3):
        camera = Camera(matrix[i].numpy(), pose[i].numpy(), 112, 112)
        met = prepare(batch["vertices_mm"][i].double().numpy(), faces).seen(camera).triangle
        met = torch.from_numpy(met).view(112, 112)
        assert ((found[i] >= 0) == (met >= 0)).all() and (met >= 0).sum() > 4000
        assert (found[i] != met).float().mean() < 1e-3  # on the edges of two


def test_the_nearer_triangle_is_shown_from_either_side() -> None:
    square = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    vertices = torch.cat([square + torch.tensor([0, 0, 9.0]), square + torch.tensor([0, 0, 5.0])])
    faces = torch.tensor([[0, 1, 2], [5, 4, 3]])
    found = rasterised(vertices[None], faces, CAMERA, 9, 9)
    assert found[0, 4, 4] == 1 and found[0, 0, 0] == -1
    assert set(found.unique().tolist()) == {-1, 1}


def test_what_is_behind_the_camera_or_outside_is_not_shown() -> None:
    square = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    faces = torch.tensor([[0, 1, 2]])
    for place in ([0, 0, -5.0], [0, 0, 0.0], [90, 0, 5.0]):
        assert (rasterised(square[None] + torch.tensor(place), faces, CAMERA, 9, 9) == -1).all()
    thin = square * torch.tensor([1.0, 0, 1])  # no area
    assert (rasterised(thin[None] + torch.tensor([0, 0, 5.0]), faces, CAMERA, 9, 9) == -1).all()
