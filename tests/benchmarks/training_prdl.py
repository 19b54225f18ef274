"""Do part masks add to landmarks? Expressions fitted to noisy landmarks, with and without the part
re-projection distance loss; what it costs beside `cdist`; and networks trained with and without it.

Identity and camera are known. Expression, jaw, rotation and translation are fitted from zero.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from loader_figures import Figure
from torch import Tensor

from pipeline.flame.assets import load_model
from pipeline.flame.parts import parts_of
from pipeline.geometry.rigid import umeyama
from pipeline.loaders import FaceDataset
from pipeline.training.cameras import project
from pipeline.training.decoder import Decoder
from pipeline.training.losses.landmarks import landmark_loss
from pipeline.training.losses.parts import (
    PointSet,
    distance_statistics,
    grid_anchors,
    mask_statistics,
    part_loss,
)
from pipeline.training.losses.regularisation import coefficient_loss
from pipeline.training.part_surface import PartSurface

FIELDS = (
    "shape",
    "vertices_mm",
    "parts",
    "landmarks_px",
    "landmark_visibility",
    "camera_matrix_px",
    "canonical_to_camera",
)
VIEWS, QUICK_VIEWS = 48, 12
NOISE_PX = 2.0
"""Standard deviation of each landmark's column and row in a picture of 224 px: a good detector's."""
COMPONENTS = 20
"""Of expression that are fitted: as many as the made people use."""
BORDER_PX, BORDER_ALIKE_PX = 1.0, 8
"""How far borders of masks are from the true ones, in pictures of 224 px."""
STEP_PX, CELLS = 16.0, 400
PARTS_USED = torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 0])
"""Skin says little of expressions, and costs the most."""
LANDMARKS, PARTS = 1.6e-3, 0.8e-3
PRIOR = {"landmarks": 1e-4, "landmarks and parts": 1e-4}
USED = [0, 1, 2, 3, 4, 5, 6]
STEPS, HELD = 8, 1e-5
"""Of the fit; what holds the head's place."""
JAW_RAD, TURN_RAD, SHIFT_MM = 0.2, 0.1, 20.0
"""What one unit of a fitted number is."""
REGIONS: Mapping[str, tuple[str, ...]] = {
    "mouth": ("lips", "right mouth corner", "left mouth corner"),
    "eyes": ("right lids", "left lids", "right eye corners", "left eye corners"),
}


@dataclass(frozen=True, eq=False)
class Views:
    """Pictures of people with expressions, as a detector and a segmenter would see them."""

    truth: Mapping[str, Tensor]
    landmarks_px: Tensor  # (B,68,2), noisy; NaN where hidden
    statistics: Tensor  # (B,P,A,3) of the masks
    present: Tensor  # (B,P) bool


def views_of(store: Path, split: str, n: int, seed: int) -> Views:
    """`n` views evenly from a split's that have expressions, with noise drawn from the seed."""
    data = FaceDataset(store, split, FIELDS, where="not neutral", unit="view")
    truth = data[np.linspace(0, len(data) - 1, n).round().astype(np.int64)]
    generator = torch.Generator().manual_seed(seed)
    noise = NOISE_PX * torch.randn(truth["landmarks_px"].shape, generator=generator)
    seen = truth["landmark_visibility"][..., None] > 0
    marks = torch.where(seen, truth["landmarks_px"] + noise, torch.nan)
    masks = rough(truth["parts"], generator)
    return Views(truth, marks, mask_statistics(masks, anchors()), masks.any(3).any(2))


def anchors() -> Tensor:
    return grid_anchors(224, 224, STEP_PX)


def rough(masks: Tensor, generator: torch.Generator) -> Tensor:
    """(B,P,224,224) bool of half the resolution, each border moved to and fro along its way: by
    BORDER_PX (standard deviation), alike over BORDER_ALIKE_PX."""
    size = len(masks) * masks.shape[1], 2, *(n // BORDER_ALIKE_PX for n in masks.shape[2:])
    drawn = torch.randn(size, generator=generator)
    smooth = torch.nn.functional.interpolate(drawn, (112, 112), mode="bicubic")
    moved = BORDER_PX / 112 * smooth / smooth.std()  # the picture is 2 wide
    even = torch.nn.functional.affine_grid(torch.eye(2, 3)[None], [1, 1, 112, 112], False)
    halved = torch.nn.functional.avg_pool2d(masks.float(), 2).flatten(0, 1)[:, None]
    there = torch.nn.functional.grid_sample(
        halved, even + moved.movedim(1, -1), align_corners=False, padding_mode="border"
    )
    found = (there >= 0.5).view(*masks.shape[:2], 112, 112)
    return found.repeat_interleave(2, 2).repeat_interleave(2, 3)


class Fit:
    """Heads of known people as functions of expression, jaw, rotation and translation, all in units
    of their spread."""

    def __init__(self, views: Views) -> None:
        self.views, self.decoder = views, Decoder(load_model("stand-in"))
        truth = views.truth
        self.camera = truth["canonical_to_camera"].float(), truth["camera_matrix_px"].float()
        self.seen = (~views.landmarks_px.isnan().any(-1)).float()

    def heads(self, unknown: Tensor) -> Tensor:
        """(B,COMPONENTS+9) -> (B,V,3) mm."""
        expression, jaw, turn, shift = unknown.split([COMPONENTS, 3, 3, 3], 1)
        pose = torch.cat([turn * TURN_RAD, torch.zeros_like(turn), jaw * JAW_RAD], 1)
        return self.decoder(self.views.truth["shape"], expression, pose, shift * SHIFT_MM)

    def marks(self, vertices: Tensor) -> Tensor:
        """(B,V,3) mm -> (B,68,2) px."""
        return project(self.decoder.landmarks(vertices), *self.camera)

    def costs(
        self,
        unknown: Tensor,
        vertices: Tensor,
        sets: Sequence[PointSet],
        prior: float,
        parts: float,
    ) -> Tensor:
        """(B,) what is minimised of each view; no sets: without parts."""
        marks, one = self.marks(vertices), torch.ones(len(USED))
        if sets:
            found = torch.stack([distance_statistics(sets[i], anchors()) for i in USED], 1)
            present = torch.stack([sets[i].present for i in USED], 1) & self.views.present[:, USED]
            target = self.views.statistics[:, USED]
        each = []
        for i in range(len(unknown)):
            own = slice(i, i + 1)
            seen = landmark_loss(marks[own], self.views.landmarks_px[own], self.seen[own])
            held = coefficient_loss(unknown[own, :0], unknown[own, : COMPONENTS + 3])
            cost = LANDMARKS * seen + prior * held + HELD / 2 * unknown[own, -6:].square().sum()
            if sets:
                cost = cost + parts * part_loss(found[own], target[own], present[own], one)
            each.append(cost)
        return torch.stack(each)


@torch.no_grad()
def slopes(of: Callable[[Tensor], list[Tensor]], unknown: Tensor) -> list[Tensor]:
    """Each (B,N,2) of functions of (B,U) -> its (B,N,2,U), by differences."""
    start, moved = of(unknown), 0.01
    there = [of(unknown + moved * one) for one in torch.eye(unknown.shape[1])]
    return [
        torch.stack([(one[k] - first) / moved for one in there], -1)
        for k, first in enumerate(start)
    ]


@torch.no_grad()
def curvature(points: PointSet, slope: Tensor, present: Tensor) -> Tensor:
    """(B,N,2,U) -> (B,U,U): of half the loss of one part (Gauss and Newton), from its statistics'
    own slopes with the weights of points held."""
    some = anchors()[::3]
    away = points.points[:, None] - some[:, None]  # (B,A,N,2)
    distance = away.norm(dim=-1, keepdim=True)
    way = away / distance.clamp_min(1e-6)
    shares = points.weights / points.weights.sum(1, keepdim=True).clamp_min(1e-9)
    mean = (way * shares[:, None, :, None]).flatten(2) @ slope.flatten(1, 2)
    total = mean.mT @ mean
    known = (points.weights > 0)[:, None]
    for best in (
        distance[..., 0].masked_fill(~known, torch.inf).argmin(2),
        distance[..., 0].masked_fill(~known, -torch.inf).argmax(2),
    ):
        own = best[..., None, None].expand(-1, -1, *slope.shape[2:])
        end = (
            slope.gather(1, own)
            * way.gather(2, best[..., None, None].expand(-1, -1, 1, 2))[:, :, 0, :, None]
        ).sum(2)
        total += end.mT @ end
    return total * (present / len(some))[:, None, None]


def fitted(views: Views, surface: PartSurface | None, prior: float, parts: float) -> Tensor:
    """(B,V,3) mm: the heads that explain landmarks, and with a surface the parts. Levenberg's and
    Marquardt's steps: gradients are the losses' own, curvature as of Gauss and Newton."""
    fit = Fit(views)
    best = torch.zeros(len(fit.seen), COMPONENTS + 9)
    tried, least = best, torch.full((len(best),), torch.inf)
    damping = torch.full((len(best),), 1e-2)
    steep, gradient = torch.zeros(len(best), *2 * best.shape[1:]), torch.zeros_like(best)
    for _ in range(STEPS):
        unknown = tried.clone().requires_grad_()
        vertices = fit.heads(unknown)
        sight = None if surface is None else surface.in_sight(vertices.detach(), fit.camera[0])
        sets = [] if surface is None else surface(vertices, *fit.camera, sight)
        costs = fit.costs(unknown, vertices, sets, prior, parts)
        (slope_here,) = torch.autograd.grad(costs.sum(), unknown)
        costs = costs.detach()
        better = costs < least
        damping = torch.where(better, damping / 4, damping * 6).clamp_min(1e-4)
        least, best = torch.minimum(costs, least), torch.where(better[:, None], tried, best)
        gradient = torch.where(better[:, None], slope_here, gradient)
        here = _steepness(fit, unknown.detach(), surface, sight, prior, parts)
        steep = torch.where(better[:, None, None], here, steep)
        damped = steep + torch.diag_embed(damping[:, None] * steep.diagonal(dim1=1, dim2=2))
        tried = best - torch.linalg.solve(damped, gradient)
    return fit.heads(best)


def _steepness(
    fit: Fit,
    unknown: Tensor,
    surface: PartSurface | None,
    sight: Tensor | None,
    prior: float,
    parts: float,
) -> Tensor:
    """(B,U,U) the curvature of `Fit.costs`."""

    def seen(values: Tensor) -> list[Tensor]:
        heads = fit.heads(values)
        sets = [] if surface is None else surface(heads, *fit.camera, sight)
        return [fit.marks(heads), *(sets[i].points for i in USED if sets)]

    slope = slopes(seen, unknown)
    marks = (slope[0] * fit.seen[..., None, None]).flatten(1, 2)
    held = torch.tensor([1.6 * prior] * (COMPONENTS + 3) + [HELD] * 6)
    steep = 2 * LANDMARKS / 68 * marks.mT @ marks + torch.diag(held)
    if surface is not None:
        sets = surface(fit.heads(unknown), *fit.camera, sight)
        for k, i in enumerate(USED):
            present = sets[i].present & fit.views.present[:, i]
            steep = steep + 2 * parts * curvature(sets[i], slope[1 + k], present)
    return steep


def errors_mm(found: Tensor, truth: Tensor) -> dict[str, float]:
    """(B,V,3) twice -> the mean distance of each region's vertices, the face rigidly aligned."""
    model = load_model("stand-in")
    face = torch.from_numpy(model.regions["face"])
    rotation, translation = umeyama(found[:, face], truth[:, face])
    apart = (found @ rotation.mT + translation[:, None] - truth).norm(dim=-1)
    own = parts_of(model)
    rows = {
        n: np.unique(np.concatenate([own[p].vertices for p in names]))
        for n, names in REGIONS.items()
    }
    return {name: float(apart[:, index].mean()) for name, index in rows.items()}


def proof(store: Path, seeds: tuple[int, ...], quick: bool, folder: Path) -> list[Figure]:
    raise NotImplementedError
