"""Expressions fitted to noisy landmarks of known people, with and without masks of their parts.

Identity and camera are known. Expression, jaw, rotation and translation are fitted from zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.flame.assets import load_model
from pipeline.loaders import FaceDataset
from pipeline.training.cameras import project
from pipeline.training.decoder import Decoder
from pipeline.training.losses.landmarks import landmark_loss
from pipeline.training.losses.parts import (
    distance_statistics,
    grid_anchors,
    mask_statistics,
    part_loss,
)
from pipeline.training.losses.regularisation import coefficient_loss
from pipeline.training.part_surface import PartSurface
from pipeline.training.prdl_scores import region_errors_mm

FIELDS = (
    "shape",
    "vertices_mm",
    "parts",
    "landmarks_px",
    "landmark_visibility",
    "camera_matrix_px",
    "canonical_to_camera",
)
NOISE_PX, SHARED, ALIKE_PX = 3.0, 0.5, 20.0
"""Standard deviation of each landmark's column and row in a picture of 224 px, about 4 % of the
distance of the eyes' outer corners, as detectors have on expressions; half of its variance is
alike in landmarks that are near each other."""
COMPONENTS = 20
"""Of expression that are fitted: as many as the made people use."""
BORDER_PX, BORDER_ALIKE_PX = 1.0, 8
"""How far borders of masks are from the true ones, in pictures of 224 px."""
STEP_PX, CELLS = 28.0, 900
USED = [0, 1, 2, 3, 4, 5, 6]
"""Of PARTS: all but skin, which says little of expressions and costs the most."""
WEIGHTS = torch.ones(len(USED))
LANDMARKS = 1.6e-3
ROUNDS, STEPS, HELD = 5, 3, 1e-5
"""Of the fit by landmarks and then by both, and in each; what holds the head in place."""
JAW_RAD, TURN_RAD, SHIFT_MM = 0.2, 0.1, 20.0
"""What one unit of a fitted number is."""


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
    seen = truth["landmark_visibility"][..., None] > 0
    marks = truth["landmarks_px"]
    noisy = torch.where(seen, marks + landmark_noise(marks, generator), torch.nan)
    masks = rough(truth["parts"], generator)
    return Views(truth, noisy, mask_statistics(masks, anchors()), masks.any(3).any(2))


def landmark_noise(marks_px: Tensor, generator: torch.Generator) -> Tensor:
    """(B,68,2) px -> (B,68,2) px."""
    away = torch.cdist(marks_px, marks_px) / ALIKE_PX
    alike = SHARED * torch.exp(-away.square() / 2) + (1 - SHARED) * torch.eye(68)
    drawn = torch.randn(marks_px.shape, generator=generator)
    return NOISE_PX * torch.linalg.cholesky(alike) @ drawn


def anchors() -> Tensor:
    return grid_anchors(224, 224, STEP_PX)


def rough(masks: Tensor, generator: torch.Generator) -> Tensor:
    """(B,P,H,W) bool, borders moved to and fro by BORDER_PX (standard deviation of column and row),
    alike over about BORDER_ALIKE_PX, of each part its own."""
    height, width = masks.shape[2:]
    coarse = len(masks) * masks.shape[1], 2, height // BORDER_ALIKE_PX, width // BORDER_ALIKE_PX
    drawn = torch.randn(coarse, generator=generator)
    smooth = torch.nn.functional.interpolate(drawn, (height, width), mode="bicubic")
    moved = (2 * BORDER_PX / width) * smooth / smooth.std()  # a picture is 2 wide
    even = torch.nn.functional.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], False)
    flat = masks.float().flatten(0, 1)[:, None]
    there = torch.nn.functional.grid_sample(
        flat, even + moved.movedim(1, -1), align_corners=False, padding_mode="border"
    )
    return there.view(masks.shape) >= 0.5


@dataclass(frozen=True, eq=False)
class Fit:
    """What is minimised: heads of known people are functions of expression, jaw, rotation and
    translation, all in units of their spread."""

    views: Views
    decoder: Decoder
    surface: PartSurface | None
    """None: without parts."""
    prior: float
    parts: float
    """Weights."""

    @property
    def camera(self) -> tuple[Tensor, Tensor]:
        truth = self.views.truth
        return truth["canonical_to_camera"].float(), truth["camera_matrix_px"].float()

    def heads(self, unknown: Tensor) -> Tensor:
        """(B,COMPONENTS+9) -> (B,V,3) mm."""
        expression, jaw, turn, shift = unknown.split([COMPONENTS, 3, 3, 3], 1)
        pose = torch.cat([turn * TURN_RAD, torch.zeros_like(turn), jaw * JAW_RAD], 1)
        return self.decoder(self.views.truth["shape"], expression, pose, shift * SHIFT_MM)

    def in_sight(self, unknown: Tensor) -> Tensor | None:
        """(B,C) the cells of the surface that are."""
        return self.surface and self.surface.in_sight(self.heads(unknown), self.camera[0])

    def seen(self, unknown: Tensor, sight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B,68,2) px landmarks, (B,P,A,3) statistics of the parts that are used, and (B,P) bool
        whether they and the masks are there."""
        heads = self.heads(unknown)
        marks = project(self.decoder.landmarks(heads), *self.camera)
        if self.surface is None:
            return marks, marks.new_zeros(len(marks), 0, 1, 3), marks.new_zeros(len(marks), 0) > 0
        sets = self.surface(heads, *self.camera, sight)
        found = torch.stack([distance_statistics(sets[i], anchors()) for i in USED], 1)
        present = torch.stack([sets[i].present for i in USED], 1) & self.views.present[:, USED]
        return marks, found, present

    def costs(self, unknown: Tensor, sight: Tensor | None) -> Tensor:
        """(B,)."""
        marks, found, present = self.seen(unknown, sight)
        known = (~self.views.landmarks_px.isnan().any(-1)).float()
        target = self.views.statistics[:, USED[: found.shape[1]]]
        each = []
        for i in range(len(unknown)):
            own = slice(i, i + 1)
            expression, place = unknown[own, :-6], unknown[own, -6:]
            each.append(
                LANDMARKS * landmark_loss(marks[own], self.views.landmarks_px[own], known[own])
                + self.parts
                * part_loss(found[own], target[own], present[own], WEIGHTS[: found.shape[1]])
                + self.prior * coefficient_loss(expression[:, :0], expression)
                + HELD * place.square().sum()
            )
        return torch.stack(each)

    @torch.no_grad()
    def curvature(self, unknown: Tensor, sight: Tensor | None) -> Tensor:
        """(B,U,U) of the costs (Gauss and Newton), by differences of what is seen."""
        known = (~self.views.landmarks_px.isnan()) * (LANDMARKS / 68) ** 0.5
        moved, size = 0.01, unknown.shape[1]

        def weighted(at: Tensor) -> Tensor:
            marks, found, present = self.seen(at, sight)
            found = found * present[..., None, None] * (self.parts / found.shape[2]) ** 0.5
            return torch.cat([(marks * known).flatten(1), found.flatten(1)], 1)

        here = weighted(unknown)
        slope = [(weighted(unknown + moved * one) - here) / moved for one in torch.eye(size)]
        own = torch.stack(slope, 1)
        held = torch.tensor([0.8 * self.prior] * (COMPONENTS + 3) + [HELD] * 6)
        return 2 * (own @ own.mT + torch.diag(held))


def fitted(views: Views, surface: PartSurface | None, prior: float, parts: float = 0.0) -> Tensor:
    """(B,V,3) mm: the heads that explain landmarks; with a surface then the parts as well."""
    decoder = Decoder(load_model("stand-in"))
    found = torch.zeros(len(views.landmarks_px), COMPONENTS + 9)
    by_landmarks = Fit(views, decoder, None, prior, 0.0)
    by_both = Fit(views, decoder, surface, prior, parts)
    for fit in [by_landmarks] * ROUNDS + [by_both] * ROUNDS * (surface is not None):
        found = lowered(fit, found)
    return by_landmarks.heads(found)


def lowered(fit: Fit, start: Tensor) -> Tensor:
    """(B,U) from where to where a round of Levenberg's and Marquardt's steps leads, the cells in
    sight and the curvature being those of its start."""
    sight = fit.in_sight(start)
    steep = fit.curvature(start, sight)
    best, tried, gradient = start, start, torch.zeros_like(start)
    least, damping = (torch.full((len(start),), value) for value in (torch.inf, 1e-2))
    for _ in range(STEPS + 1):
        unknown = tried.clone().requires_grad_()
        costs = fit.costs(unknown, sight)
        (slope,) = torch.autograd.grad(costs.sum(), unknown)
        better = costs.detach() < least
        least = torch.where(better, costs.detach(), least)
        best, gradient = (
            torch.where(better[:, None], new, old)
            for new, old in ((tried, best), (slope, gradient))
        )
        damping = torch.where(better, damping / 4, damping * 6).clamp_min(1e-4)
        damped = steep + torch.diag_embed(damping[:, None] * steep.diagonal(dim1=1, dim2=2))
        tried = best - torch.linalg.solve(damped, gradient)
    return best


def errors_mm(found: Tensor, truth: Tensor) -> dict[str, float]:
    """(B,V,3) twice -> the mean error of each region, mm."""
    errors = region_errors_mm(found, truth, load_model("stand-in"))
    return {name: float(values.mean()) for name, values in errors.items()}
