"""The model's coefficients that explain a scan: point-to-plane Gauss–Newton with a prior."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.flame.lbs import pose_model
from pipeline.geometry.rigid import rotation_matrices, rotation_to_axis_angle
from pipeline.registration.annealing import INDEPENDENT_PATCHES, geometric
from pipeline.registration.coefficients import (
    Coefficients,
    posed_vertices,
    vertex_rotations,
    world_rotations,
)
from pipeline.registration.landmarks import LandmarkTargets
from pipeline.registration.matches import Matches, ScanSurface, find_matches
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.template import Template

WARM_UP = 5
"""Point-to-point iterations before point-to-plane ones, which diverge from 20° or 25 mm off."""
JOINT_PRIOR_RAD = {1: 0.10, 2: 0.30}
"""Standard deviation of the neck's and the jaw's rotation; eyes leave no trace in the shape."""
EXPRESSION_RMS_MM = 7.0
"""What the prior expects expressions to move the face by: components of some models are no standard
deviations, and what identity can explain is not to be taken for an expression."""
FREE_STIFFNESS = 300.0
"""Times the prior's precision at first where no landmarks hold the start: the pose comes before
the shape, else an odd face absorbs a tilt."""
FREE_LAST = (1.0, 4.0)
"""The same at the end, of identity and of expression: without landmarks nothing tells thick lips
from an open mouth, and most scans are neutral."""
MAX_DATA_VERTICES = 2000
LAST_LANDMARK_NOISE = 4.0
"""Times the landmark noise at the end: landmarks lose their say as the surfaces come close."""


def fit_model(
    template: Template,
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    start: Coefficients,
    options: RegistrationOptions,
) -> Coefficients:
    """Identity, expression, pose and position by iterated closest points.

    A model without basis gets its rigid motion refined. Robust weights tighten and landmarks lose
    their say as the surfaces come close.
    """
    c, system = start, NormalEquations(template, options.model_noise_mm)
    free = landmarks.confidence.sum(1) == 0
    for i in range(options.model_iterations):
        progress = i / max(options.model_iterations - 1, 1)
        vertices = posed_vertices(template, c)
        matches = find_matches(
            vertices,
            surfaces,
            template,
            geometric(options.robust_mm[0], options.handover_mm, progress),
            options.min_normal_cosine,
            at=system.data_vertices(i < WARM_UP),
        )
        noise = options.landmark_noise_mm * geometric(1, LAST_LANDMARK_NOISE, progress)
        pull = landmarks.pull(vertices, noise, progress)
        soft = [geometric(FREE_STIFFNESS, last, min(1.0, 1.5 * progress)) for last in FREE_LAST]
        stiff = torch.where(free[:, None], torch.tensor(soft, device=free.device), 1.0).double()
        c = system.step(c, vertices, matches, landmarks, pull, stiff, i < WARM_UP)
    return c


class NormalEquations:
    """Gauss–Newton's (JᵀWJ + P) δ = JᵀWr − P x, P the prior's precision, for one template."""

    def __init__(self, template: Template, noise_mm: float) -> None:
        self.template, tensors = template, template.tensors
        self.precision = INDEPENDENT_PATCHES / noise_mm**2
        self.basis = torch.cat([tensors.shape_basis, tensors.expression_basis]).float()
        moved = tensors.expression_basis[:, template.face_region].square().sum((0, 2)).mean()
        self.expression_precision = float(moved) / EXPRESSION_RMS_MM**2
        self.joints = [j for j in (0, 1, 2) if j < max(len(tensors.parents), 1)]
        self.turned = self._subtree_weights()

    def data_vertices(self, warm_up: bool) -> Tensor:
        """(N,) the vertices that are matched: few of them in the warm-up, which needs no detail."""
        wanted = MAX_DATA_VERTICES // (3 if warm_up else 1)
        return self.template.data[:: -(-len(self.template.data) // wanted)]

    def _subtree_weights(self) -> Tensor:
        """(V, joints): the share of each vertex that turns with a joint or its descendants."""
        tensors = self.template.tensors
        if not tensors.parents:
            return torch.ones_like(self.template.areas)[:, None]
        share = tensors.weights.clone()
        for joint in range(len(tensors.parents) - 1, 0, -1):
            share[:, tensors.parents[joint]] += share[:, joint]
        return share[:, self.joints]

    def step(
        self,
        c: Coefficients,
        vertices: Tensor,
        matches: Matches,
        landmarks: LandmarkTargets,
        pull: tuple[Tensor, Tensor],
        stiffness: Tensor,
        warm_up: bool,
    ) -> Coefficients:
        """One Gauss–Newton step from the matches of the posed `vertices` (B,V,3)."""
        system = _Sum(len(vertices), self.columns, vertices.device)
        joints = pose_model(
            self.template.tensors, c.shape, c.expression, c.pose, c.translation
        ).joints
        if not self.template.tensors.parents:
            joints = c.translation[:, None]
        jacobian = _Jacobian(self, c, vertices, joints[:, self.joints])
        at = self.data_vertices(warm_up)
        areas = self.template.areas[at]
        weight = self.precision / areas.sum() * areas * matches.weight
        gap = matches.point - vertices[:, at]
        directions = _axes(gap) if warm_up else [matches.normal]
        for direction in directions:
            system.add(jacobian.rows(at, direction), weight, (direction * gap).sum(-1))
        gap, weight = pull
        for direction in _axes(gap):
            rows = sum(
                share[:, None].float() * jacobian.rows(at, direction)
                for at, share in zip(landmarks.corners.T, landmarks.barycentric.T, strict=True)
            )
            system.add(rows, weight, (direction * gap).sum(-1))
        self._add_prior(system, c, stiffness)
        return self._moved(c, system.solve())

    @property
    def columns(self) -> int:
        return len(self.basis) + 3 * len(self.joints) + 3

    def _add_prior(self, system: _Sum, c: Coefficients, stiffness: Tensor) -> None:
        """stiffness (B,2) multiplies the precision of identity, and of expression, neck and jaw."""
        n = len(self.basis)
        precision = torch.full_like(system.right, 1e-6)
        s = c.shape.shape[1]
        precision[:, :s], precision[:, s:n] = (
            stiffness[:, :1],
            self.expression_precision * stiffness[:, 1:],
        )
        for slot, joint in enumerate(self.joints):
            if joint:
                at = slice(n + 3 * slot, n + 3 * slot + 3)
                precision[:, at] = stiffness[:, 1:] * JOINT_PRIOR_RAD[joint] ** -2
        world, bent = world_rotations(self.template, c), [torch.zeros_like(c.translation)]
        for joint in self.joints[1:]:
            # steps turn in the scan's frame, so the prior's pull must as well
            angle = rotation_to_axis_angle(c.rotations[:, joint])[..., None]
            bent.append((world[:, self.template.tensors.parents[joint]] @ angle)[..., 0])
        value = torch.cat([c.shape, c.expression, *bent, torch.zeros_like(c.translation)], 1)
        system.left += torch.diag_embed(precision)
        system.right -= precision * value

    def _moved(self, c: Coefficients, step: Tensor) -> Coefficients:
        s, n = c.shape.shape[1], len(self.basis)
        world = world_rotations(self.template, c)
        rotations = c.rotations.clone()
        for slot, joint in enumerate(self.joints):
            turn = rotation_matrices(step[:, n + 3 * slot : n + 3 * slot + 3])
            # the step turns the joint in the scan's frame: bring it into the parent's
            parent = self.template.tensors.parents[joint] if joint else None
            if parent is not None:
                turn = world[:, parent].mT @ turn @ world[:, parent]
            rotations[:, joint] = turn @ c.rotations[:, joint]
        return Coefficients(
            c.shape + step[:, :s],
            c.expression + step[:, s:n],
            rotations,
            c.translation + step[:, -3:],
        )


class _Jacobian:
    """∂(direction · vertex) / ∂(coefficients, joint rotations, translation)."""

    def __init__(
        self, system: NormalEquations, c: Coefficients, vertices: Tensor, joints: Tensor
    ) -> None:
        self.system, self.vertices, self.joints = system, vertices, joints
        self.rotations = vertex_rotations(system.template, c)

    def rows(self, at: Tensor, direction: Tensor) -> Tensor:
        """Vertices (n,), direction (B,n,3) -> (B,n,columns) float32."""
        # direction · (R_v basis) = (R_vᵀ direction) · basis: the pose bends only the normals
        rest = torch.einsum("bvkl,bvk->bvl", self.rotations[:, at], direction).float()
        parts = [torch.einsum("bvd,pvd->bvp", rest, self.system.basis[:, at])]
        for slot in range(len(self.system.joints)):
            arm = self.vertices[:, at] - self.joints[:, slot, None]
            torque = torch.linalg.cross(arm, direction)
            parts.append((self.system.turned[at, slot, None] * torque).float())
        return torch.cat([*parts, direction.float()], -1)


class _Sum:
    """Accumulates the normal equations of weighted rows."""

    def __init__(self, batch: int, columns: int, device: torch.device) -> None:
        self.left = torch.zeros(batch, columns, columns, dtype=torch.float64, device=device)
        self.right = torch.zeros(batch, columns, dtype=torch.float64, device=device)

    def add(self, rows: Tensor, weight: Tensor, gap: Tensor) -> None:
        """rows (B,n,columns), weight (B,n), gap (B,n): Σ w (row · δ − gap)²."""
        weighted = rows * weight[..., None].float()
        self.left += weighted.mT @ rows
        self.right += (weighted.mT @ gap[..., None].float())[..., 0]

    def solve(self) -> Tensor:
        return torch.cholesky_solve(self.right[..., None], torch.linalg.cholesky(self.left))[..., 0]


def _axes(like: Tensor) -> list[Tensor]:
    """Unit vectors along x, y and z, shaped as (B,n,3)."""
    return [axis.expand_as(like) for axis in torch.eye(3, dtype=like.dtype, device=like.device)]
