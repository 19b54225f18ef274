"""Turned cameras against rendering anew, and truth in three dimensions."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.flame.assets import load_model
from pipeline.loaders import FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.training.camera_turns import Changes, Turned, turned
from pipeline.training.cameras import in_camera, rays_through, to_pixels
from pipeline.training.shading import grey, surfaces

FAR = Changes(roll_deg=25, shift=0.1, zoom=0.2)


def some(store: Path) -> tuple[Sample, torch.Tensor]:
    """Pictures, and their shaded renders as images."""
    fields = "shaded_images", "camera_matrix_px", "canonical_to_camera", "vertices_mm"
    batch = FaceDataset(store, "train", (*fields, "landmarks_px", "landmarks_mm"), unit="view")[0:3]
    return batch, batch["shaded_images"][..., None].expand(-1, -1, -1, 3)


def seeded(images: torch.Tensor, batch: Sample, size_px: int) -> Turned:
    draw = torch.Generator().manual_seed(1)
    return turned(images, batch["camera_matrix_px"], size_px, FAR, draw)


def test_a_turned_picture_is_what_the_turned_camera_renders(made_people: Path) -> None:
    batch, images = some(made_people)
    view = seeded(images, batch, 224)
    assert (view.turn - torch.eye(3)).abs().max() > 0.2
    pose = batch["canonical_to_camera"].float()
    pose[:, :3] = view.turn @ pose[:, :3]
    faces = torch.from_numpy(load_model("stand-in").faces)
    seen = surfaces(batch["vertices_mm"], faces, pose, view.camera_matrix_px, 224, 224)
    # the lights stay where the first camera was
    shown = grey(batch["vertices_mm"], faces, seen, batch["canonical_to_camera"].float())
    apart = (view.pictures[:, 0] - shown).abs()
    assert apart[seen.shown].median() < 0.005 and (apart > 0.1).float().mean() < 0.05


def test_smaller_ones_show_landmarks_where_their_camera_sees_them(made_people: Path) -> None:
    batch, _ = some(made_people)
    at = batch["landmarks_px"][:, 30].round().long()
    dots = torch.zeros(3, 224, 224, 3, dtype=torch.uint8)
    for one, (x, y) in zip(dots, at.tolist(), strict=True):
        one[y - 3 : y + 4, x - 3 : x + 4] = 255
    view = seeded(dots, batch, 64)
    marks = in_camera(batch["landmarks_mm"], batch["canonical_to_camera"])
    goal = to_pixels(view.points(marks), view.camera_matrix_px)[:, 30]
    light = view.pictures[:, 0].flatten(1)
    rows, columns = (torch.arange(64.0).repeat(64), torch.arange(64.0).repeat_interleave(64))
    middle = torch.stack([(light * x).sum(1) / light.sum(1) for x in (rows, columns)], 1)
    assert (middle - goal).abs().max() < 0.3


def test_without_changes_it_looks_at_the_middle_of_the_crop(made_people: Path) -> None:
    batch, images = some(made_people)
    view = turned(images, batch["camera_matrix_px"], 112)
    middle = torch.full((3, 1, 2), 111.5)
    ray = rays_through(middle, batch["camera_matrix_px"].float())
    axis = view.points(ray)[:, 0]
    assert axis[:, :2].abs().max() < 1e-6 and view.pictures.shape == (3, 3, 112, 112)
    assert torch.allclose(torch.linalg.det(view.turn), torch.ones(3))


def test_the_same_numbers_change_pictures_alike(made_people: Path) -> None:
    batch, images = some(made_people)
    first, again = seeded(images, batch, 32), seeded(images, batch, 32)
    assert torch.equal(first.pictures, again.pictures) and torch.equal(first.turn, again.turn)
