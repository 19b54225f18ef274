"""Heads fitted to the noisy landmarks of one picture, and improved by a critic's loss.

Known are the camera and the landmarks; shape, expression, jaw, turn and place of the head are not.
Their prior is normal, with the spread of what made people are drawn from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.geometry.rigid import umeyama
from pipeline.loaders.dataset import Sample
from pipeline.training.cameras import project
from pipeline.training.decoder import Decoder

SHAPE, EXPRESSION = 100, 20
"""Coefficients that are fitted."""
NOISE_PX = 2.0
"""Standard deviation in each direction of the 224 × 224 picture."""
INNER = slice(17, 68)
"""iBUG's landmarks without the 17 of the outline, which slide along the face as it turns."""
SPREAD = torch.cat(
    [
        torch.ones(SHAPE + EXPRESSION),
        torch.full((3,), 0.1),  # turn, rad
        torch.tensor([0.2, 0.02, 0.02]),  # jaw, rad
        torch.full((3,), 12.0),  # place, mm
    ]
)
"""Standard deviation of each unknown; all are about 0."""


def head(decoder: Decoder, unknowns: Tensor) -> Tensor:
    """(B,P) -> (B,V,3) mm."""
    shape, expression, turn, jaw, place = unknowns.split([SHAPE, EXPRESSION, 3, 3, 3], -1)
    pose = torch.cat([turn, torch.zeros_like(turn), jaw], -1)
    return decoder(shape, expression, pose, place)


def truth(batch: Sample) -> Tensor:
    """(B,P) as far as the unknowns can say it."""
    pose = batch["pose"]
    parts = batch["shape"][:, :SHAPE], batch["expression"][:, :EXPRESSION]
    return torch.cat([*parts, pose[:, :3], pose[:, 6:9], batch["translation_mm"]], -1)


def of_landmarks(model: FlameModel) -> FlameModel:
    """What of the model its landmarks need: their triangles' corners, and a vertex for each joint
    that stands where the joint does."""
    marks = model.landmarks
    assert marks is not None
    corners = model.faces[marks.triangles].ravel()
    joints, n = model.joint_regressor, len(corners)

    def some(values: np.ndarray) -> np.ndarray:
        at_joints = np.einsum("jv,v...->j...", joints, values)
        return np.concatenate([values[corners], at_joints])

    faces = np.arange(n).reshape(-1, 3)
    return replace(
        model,
        template_mm=some(model.template_mm),
        faces=faces,
        shape_basis_mm=some(model.shape_basis_mm),
        expression_basis_mm=some(model.expression_basis_mm),
        pose_basis_mm=some(model.pose_basis_mm),
        joint_regressor=np.concatenate([np.zeros((len(joints), n)), np.eye(len(joints))], 1),
        weights=some(model.weights),
        landmarks=LandmarkEmbedding(marks.indices_68, np.arange(len(faces)), marks.barycentric),
        regions={"face": np.arange(n), "eyeballs": np.arange(0)},
        triangle_part=None,
    )


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Noisy landmarks of B pictures, and how far they and the prior let a head be."""

    decoder: Decoder
    """Of `of_landmarks`."""
    seen_px: Tensor  # (B,68,2)
    canonical_to_camera: Tensor  # (B,4,4)
    camera_matrix_px: Tensor  # (B,3,3)
    prior: float = 1.0

    @classmethod
    def noisy(cls, model: FlameModel, batch: Sample, seed: int, prior: float = 1.0) -> Landmarks:
        true = batch["landmarks_px"]
        drawn = torch.randn(true.shape, generator=torch.Generator().manual_seed(seed))
        camera = batch["canonical_to_camera"].float(), batch["camera_matrix_px"].float()
        return cls(Decoder(of_landmarks(model)), true + NOISE_PX * drawn, *camera, prior)

    def residuals(self, unknowns: Tensor) -> Tensor:
        """(B,P) -> (B,102 + P): half the sum of their squares is what a head costs."""
        marks = self.decoder.landmarks(head(self.decoder, unknowns))
        found = project(marks, self.canonical_to_camera, self.camera_matrix_px)
        wrong = (found - self.seen_px)[:, INNER].flatten(1) / NOISE_PX
        return torch.cat([wrong, self.prior**0.5 * unknowns / SPREAD], 1)

    def jacobian(self, unknowns: Tensor) -> Tensor:
        """(B,102 + P,P). Heads do not depend on each other, so a tangent serves them all."""
        tangents = torch.eye(unknowns.shape[1])

        def along(tangent: Tensor) -> Tensor:
            given = (unknowns,), (tangent.expand_as(unknowns),)
            derivative: Tensor = torch.func.jvp(self.residuals, *given)[1]
            return derivative

        return torch.func.vmap(along, chunk_size=16)(tangents).permute(1, 2, 0)

    def fitted(self, steps: int = 6) -> tuple[Tensor, Tensor]:
        """Gauss-Newton: unknowns (B,P), and (B,P,P) L with L Lᵀ their covariance."""
        unknowns = torch.zeros(len(self.seen_px), len(SPREAD))
        for _ in range(steps):
            residuals, (factor, j) = self.residuals(unknowns), self._factored(unknowns)
            slope = (j.mT @ residuals.double()[..., None]) * SPREAD[:, None]
            step = torch.cholesky_solve(slope, factor)[..., 0] * SPREAD
            unknowns = unknowns - step.float()
        factor, _ = self._factored(unknowns)
        eye = torch.eye(len(SPREAD), dtype=factor.dtype).expand_as(factor)
        inverse = torch.linalg.solve_triangular(factor.mT, eye, upper=True)
        return unknowns, (SPREAD[:, None] * inverse).float()

    def _factored(self, unknowns: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factor of the curvature in units of the prior's spread, and the Jacobian."""
        j = self.jacobian(unknowns).double()
        scaled = j * SPREAD
        return torch.linalg.cholesky(scaled.mT @ scaled), j


def improved(
    landmarks: Landmarks,
    start: Tensor,
    spread: Tensor,
    critic: Callable[[Tensor], Tensor],
    weight: float,
    steps: int = 30,
    rate: float = 0.15,
) -> Tensor:
    """From a landmark fit (B,P) with its spread (B,P,P), Adam on landmarks, prior and `weight` ×
    the critic's loss, in units of the spread."""
    z = torch.zeros_like(start, requires_grad=True)
    optimiser = torch.optim.Adam([z], rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        unknowns = start + (spread @ z[..., None])[..., 0]
        cost = 0.5 * landmarks.residuals(unknowns).square().sum() + weight * critic(unknowns).sum()
        optimiser.zero_grad()
        cost.backward()
        optimiser.step(), schedule.step()
    return (start + (spread @ z[..., None])[..., 0]).detach()


def errors_mm(found: Tensor, true: Tensor, face: Tensor) -> Tensor:
    """(B,V,3), (B,V,3), (M,) -> (B,) mean distance of the face's vertices after the best rigid
    motion."""
    a, b = found[:, face].double(), true[:, face].double()
    rotation, move = umeyama(a, b)
    return (a @ rotation.mT + move[:, None] - b).norm(dim=-1).mean(1)
