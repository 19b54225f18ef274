"""What explains a scan: identity, expression, pose and a smooth residual, by Gauss–Newton.

Each iteration matches template vertices to the scan and minimises

    Σ w (n · (x − q))² / σ²  +  Σ |landmarks|² / σ_l²  +  cᵀ P c  +  Cᵀ D C

over all unknowns at once: model coefficients c with prior precision P, and the coefficients C of
the residual (`residual.py`) with D. Solved jointly, the residual takes what the model cannot
explain before its coefficients are bent to it (maximum a posteriori of a Gaussian process
morphable model, Lüthi et al. 2018; point-to-plane as in Chen, Medioni 1992).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.flame.lbs import pose_model
from pipeline.geometry.rigid import rotation_matrices, rotation_to_axis_angle
from pipeline.registration.annealing import geometric
from pipeline.registration.coefficients import (
    Coefficients,
    posed_vertices,
    vertex_rotations,
    world_rotations,
)
from pipeline.registration.landmarks import LandmarkTargets
from pipeline.registration.matches import ScanSurface, find_matches
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.residual import residual_basis
from pipeline.registration.template import Template

WARM_UP = 5
"""Point-to-point iterations before point-to-plane ones, which diverge from 20° or 25 mm off."""
JOINT_PRIOR_RAD = {1: 0.05, 2: 0.30}
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

MODEL_VERTICES, RESIDUAL_VERTICES = 1200, 1800
"""Of the template that are matched: enough for a hundred coefficients, and for the residual's."""
LONG_WAVES, LAST_ITERATIONS = 60, 3
"""Eigenvectors of the residual until the last iterations, which have all of them."""
BARE_MORE = 10
"""Iterations more for a bare template, which has further to go."""
BARE_NOISE_MM, BARE_LANDMARK_MM = (40.0, 1.5), 1.5
"""Its matches count little at first, when landmarks alone lead it."""


@dataclass(frozen=True)
class Schedule:
    """How one stage goes from its first iteration to its last; lengths in millimetres."""

    iterations: int
    modes: int
    """Of the residual; 0 leaves the model alone."""
    vertices: int
    """Template vertices that are matched."""
    noise_mm: tuple[float, float]
    """Of a match: scanner, closest point and all that is not in the unknowns."""
    landmark_noise_mm: tuple[float, float]
    robust_mm: tuple[float, float]
    min_normal_cosine: float = 0.5
    warm_up: int = 0
    stiffness: tuple[float, float] = (1.0, 1.0)
    """Times the prior's precision where there are no landmarks, of identity, of expression."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What a stage knows of B scans."""

    coefficients: Coefficients
    residual: Tensor  # (B,3,K)


def fit_model(
    template: Template,
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    start: Coefficients,
    people: Tensor,
    options: RegistrationOptions,
) -> Coefficients:
    """Identity, expression, pose and position alone; of a bare template the rigid motion."""
    schedule = Schedule(
        iterations=options.model_iterations,
        modes=0,
        vertices=MODEL_VERTICES,
        noise_mm=(options.model_noise_mm, options.model_noise_mm),
        landmark_noise_mm=(options.landmark_noise_mm, 4 * options.landmark_noise_mm),
        robust_mm=(options.robust_mm[0], options.handover_mm),
        min_normal_cosine=options.min_normal_cosine,
        warm_up=WARM_UP,
        stiffness=(FREE_STIFFNESS, FREE_STIFFNESS),
    )
    return _fit(template, surfaces, landmarks, start, people, schedule)[0].coefficients


def fit_with_residual(
    template: Template,
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    start: Coefficients,
    people: Tensor,
    options: RegistrationOptions,
) -> tuple[Coefficients, Tensor, System]:
    """All unknowns together: coefficients, the vertices (B,V,3) with the residual, the last system.

    The inverse of its `information` is the covariance of the unknowns (`uncertainty.py`).
    """
    bare = not template.has_basis
    last = Schedule(
        iterations=min(LAST_ITERATIONS, options.residual_iterations),
        modes=options.modes,
        vertices=RESIDUAL_VERTICES,
        noise_mm=(BARE_NOISE_MM if bare else options.residual_noise_mm)[1:] * 2,
        landmark_noise_mm=(BARE_LANDMARK_MM if bare else 1.5 * options.landmark_noise_mm,) * 2,
        robust_mm=(options.robust_mm[1] / (1 if bare else 2),) * 2,
        min_normal_cosine=options.min_normal_cosine,
        stiffness=FREE_LAST,
    )
    first = replace(
        last,
        iterations=options.residual_iterations - last.iterations + (BARE_MORE if bare else 0),
        modes=min(LONG_WAVES, options.modes),
        noise_mm=BARE_NOISE_MM if bare else options.residual_noise_mm,
        robust_mm=options.robust_mm if bare else (options.handover_mm, options.robust_mm[1] / 2),
    )
    fit, _, _ = _fit(template, surfaces, landmarks, start, people, first)
    fit, free, system = _fit(
        template, surfaces, landmarks, fit.coefficients, people, last, fit.residual
    )
    return fit.coefficients, posed_vertices(template, fit.coefficients) + free, system


def _fit(
    template: Template,
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    start: Coefficients,
    people: Tensor,
    schedule: Schedule,
    residual: Tensor | None = None,
) -> tuple[Fit, Tensor, System]:
    """The fit, its residual as (B,V,3) mm, and the system of its last step."""
    equations = Equations(template, schedule, landmarks)
    fit = Fit(start, equations.no_residual(len(start.shape)))
    if residual is not None:
        fit.residual[..., : residual.shape[-1]] = residual
    system = System(equations, fit)
    free = landmarks.confidence.sum(1) == 0
    for i in range(schedule.iterations):
        progress = min(1.0, i / max(schedule.iterations - 2, 1))
        warm_up = i < schedule.warm_up
        sites = equations.few if warm_up else equations.sites
        system = System(equations, fit)
        vertices = system.vertices + equations.free(fit)
        matches = find_matches(
            vertices,
            surfaces,
            template,
            geometric(*schedule.robust_mm, progress),
            schedule.min_normal_cosine,
            at=sites.at,
        )
        gap = matches.point - vertices[:, sites.at]
        weight = matches.weight / geometric(*schedule.noise_mm, progress) ** 2
        if warm_up:
            system.add(sites.three_times(), *_all_axes(gap, weight))
        else:
            system.add(sites, matches.normal, weight, (matches.normal * gap).sum(-1))
        noise = geometric(*schedule.landmark_noise_mm, progress)
        gap, weight = landmarks.pull(vertices, noise, progress)
        if gap.shape[1]:
            system.add(equations.landmarks.three_times(), *_all_axes(gap, weight))
        held = [
            geometric(s, last, min(1.0, 1.5 * progress))
            for s, last in zip(schedule.stiffness, FREE_LAST, strict=True)
        ]
        stiffness = torch.where(free[:, None], torch.tensor(held, device=free.device), 1.0).double()
        fit = equations.moved(fit, system.solve(stiffness, people))
    return fit, equations.free(fit), system


class Sites(NamedTuple):
    """n places of the template and how the unknowns move them."""

    at: Tensor  # (n,) vertex indices, or (n,3) a triangle's
    share: Tensor | None  # (n,3) barycentric coordinates where `at` is (n,3)
    basis: Tensor  # (n,3,p) float32, identity and expression
    turned: Tensor  # (n,joints): the share that turns with a joint or its descendants
    residual: Tensor  # (n,K) float32

    def of(self, values: Tensor) -> Tensor:
        """(B,V,…) -> (B,n,…), interpolated."""
        found = values[:, self.at]
        if self.share is None:
            return found
        return torch.einsum("nk,bnk...->bn...", self.share, found)

    def three_times(self) -> Sites:
        """The sites once for each axis."""
        share = None if self.share is None else self.share.repeat(3, 1)
        basis, turned, residual = (torch.cat([x] * 3) for x in self[2:])
        return Sites(torch.cat([self.at] * 3), share, basis, turned, residual)


@lru_cache(maxsize=16)
def matched_sites(template: Template, count: int, modes: int) -> Sites:
    """About `count` of the vertices that may carry data, the same for every scan."""
    return sites_of(template, modes, spread_evenly(template.data, count))


def sites_of(template: Template, modes: int, at: Tensor, share: Tensor | None = None) -> Sites:
    """Vertices (n,), or points (n,3) of triangles by barycentric coordinates (n,3)."""

    def of(values: Tensor) -> Tensor:
        found = values[at]
        return found if share is None else torch.einsum("nk,nk...->n...", share, found)

    tensors = template.tensors
    basis = torch.cat([tensors.shape_basis, tensors.expression_basis]).permute(1, 2, 0)
    columns = residual_basis(template, modes).columns
    turned = subtree_weights(template)
    return Sites(at, share, of(basis).float(), of(turned), of(columns).float())


def moving_joints(template: Template) -> list[int]:
    """Of whole, neck and jaw those that the model has."""
    return [j for j in (0, 1, 2) if j < max(len(template.tensors.parents), 1)]


def subtree_weights(template: Template) -> Tensor:
    """(V,joints): the share of each vertex that turns with a joint or its descendants."""
    tensors = template.tensors
    if not tensors.parents:
        return torch.ones_like(template.areas)[:, None]
    share = tensors.weights.clone()
    for joint in range(len(tensors.parents) - 1, 0, -1):
        share[:, tensors.parents[joint]] += share[:, joint]
    return share[:, moving_joints(template)]


class Equations:
    """Unknowns of a stage, in this order: identity, expression, joints, position, residual."""

    def __init__(self, template: Template, schedule: Schedule, landmarks: LandmarkTargets) -> None:
        self.template, self.schedule = template, schedule
        tensors = template.tensors
        self.residual = residual_basis(template, schedule.modes)
        # a bare template's residual holds rigid motions too
        self.rigid = template.has_basis or not schedule.modes
        self.joints = moving_joints(template)
        basis = torch.cat([tensors.shape_basis, tensors.expression_basis])
        self.root_moves = basis.new_zeros(len(basis), 3)
        if tensors.parents:
            self.root_moves = torch.einsum("v,pvd->pd", tensors.joint_regressor[0], basis)
        moved = tensors.expression_basis[:, template.face_region].square().sum((0, 2)).mean()
        self.expression_precision = float(moved) / EXPRESSION_RMS_MM**2
        self.sites = matched_sites(template, schedule.vertices, schedule.modes)
        self.few = matched_sites(template, schedule.vertices // 3, schedule.modes)
        self.landmarks = sites_of(
            template, schedule.modes, landmarks.corners, landmarks.barycentric
        )

    def no_residual(self, batch: int) -> Tensor:
        return self.residual.columns.new_zeros(batch, 3, self.residual.columns.shape[1])

    def free(self, fit: Fit) -> Tensor:
        """(B,V,3) mm of the residual alone."""
        return self.residual.columns @ fit.residual.mT

    def moved(self, fit: Fit, step: Tensor) -> Fit:
        """The fit after a step (B,columns) of all unknowns."""
        c = fit.coefficients
        s, n = c.shape.shape[1], self.sites.basis.shape[2]
        k = 3 * len(self.joints)
        free = step[:, n + k + 3 :].reshape(fit.residual.shape)
        if not self.rigid:
            return replace(fit, residual=fit.residual + free)
        world = world_rotations(self.template, c)
        rotations = c.rotations.clone()
        for slot, joint in enumerate(self.joints):
            turn = rotation_matrices(step[:, n + 3 * slot : n + 3 * slot + 3])
            # the step turns the joint in the scan's frame: bring it into the parent's
            if joint:
                parent = world[:, self.template.tensors.parents[joint]]
                turn = parent.mT @ turn @ parent
            rotations[:, joint] = turn @ c.rotations[:, joint]
        # the head turns about a joint that identity moves: the rows take it as fixed
        root = step[:, :n] @ self.root_moves
        drift = (c.rotations[:, 0] @ root[..., None])[..., 0] - root
        moved = Coefficients(
            c.shape + step[:, :s],
            c.expression + step[:, s:n],
            rotations,
            c.translation + step[:, n + k : n + k + 3] + drift,
        )
        return Fit(moved, fit.residual + free)


class System:
    """Gauss–Newton's (JᵀWJ + P) δ = JᵀWr − P x at one fit."""

    def __init__(self, equations: Equations, fit: Fit) -> None:
        self.equations, self.fit = equations, fit
        c, template = fit.coefficients, equations.template
        posed = pose_model(template.tensors, c.shape, c.expression, c.pose, c.translation)
        self.vertices = posed.vertices
        self.joints = c.translation[:, None]  # a model without joints turns about its origin
        if template.tensors.parents:
            self.joints = posed.joints[:, equations.joints]
        self.rotations = vertex_rotations(template, c)
        self.left, self.right = torch.zeros(()), torch.zeros(())
        self.information = self.left  # (B,columns,columns), JᵀWJ + P once solved

    def rows(self, sites: Sites, direction: Tensor) -> Tensor:
        """∂(direction · site) / ∂(unknowns): direction (B,n,3) -> (B,n,columns) float32."""
        # direction · (R_v basis) = (R_vᵀ direction) · basis: the pose bends only the normals
        rest = torch.einsum("bnkl,bnk->bnl", sites.of(self.rotations), direction).float()
        places = sites.of(self.vertices)
        parts = [torch.einsum("bnd,ndp->bnp", rest, sites.basis)]
        for slot in range(self.joints.shape[1]):
            torque = torch.linalg.cross(places - self.joints[:, slot, None], direction)
            parts.append((sites.turned[:, slot, None] * torque).float())
        direction = direction.float()
        parts.append(direction)
        parts += [direction[..., axis, None] * sites.residual for axis in range(3)]
        return torch.cat(parts, -1)

    def add(self, sites: Sites, direction: Tensor, weight: Tensor, gap: Tensor) -> None:
        """Σ w (row · δ − gap)² over (B,n) weights in 1/mm² and gaps in mm."""
        rows = self.rows(sites, direction)
        weighted = rows * weight[..., None].float()
        self.left = self.left + (weighted.mT @ rows).double()
        self.right = self.right + (weighted.mT @ gap[..., None].float())[..., 0].double()

    def solve(self, stiffness: Tensor, people: Tensor) -> Tensor:
        """(B,columns); stiffness (B,2) multiplies the prior of identity, and of expression.

        people (B,) numbers the persons from 0: scans of one person get the same step of identity.
        Each scan's other unknowns are eliminated first (Schur complement), which leaves a small
        system a person.
        """
        precision, value = self._prior(stiffness)
        s = self.fit.coefficients.shape.shape[1]
        left = self.information = self.left + torch.diag_embed(precision)
        right = (self.right - precision * value)[..., None]
        both = torch.cat([left[:, s:, :s], right[:, s:]], 2)
        reduced = torch.cholesky_solve(both, torch.linalg.cholesky(left[:, s:, s:]))
        to_shape, alone = reduced[..., :s], reduced[..., s:]
        schur = left[:, :s, :s] - left[:, :s, s:] @ to_shape
        pull = right[:, :s] - left[:, :s, s:] @ alone
        # the prior of identity counts once a person
        own = torch.diag_embed(precision[:, :s])
        pulled = (precision * value)[:, :s, None]
        count = torch.bincount(people).to(own)[:, None, None]
        total = _by_person(schur - own, people) + _by_person(own, people) / count
        pull = _by_person(pull + pulled, people) - _by_person(pulled, people) / count
        shape = torch.cholesky_solve(pull, torch.linalg.cholesky(total))[people]
        return torch.cat([shape, alone - to_shape @ shape], 1)[..., 0]

    def _prior(self, stiffness: Tensor) -> tuple[Tensor, Tensor]:
        """Precision of each unknown and its distance from the most likely value, (B,columns)."""
        equations, c = self.equations, self.fit.coefficients
        batch = len(c.shape)
        free = 1e-6 if equations.rigid else 1e12
        parts = [
            stiffness[:, :1].expand_as(c.shape),
            (equations.expression_precision * stiffness[:, 1:]).expand_as(c.expression),
        ]
        values = [c.shape, c.expression]
        world = world_rotations(equations.template, c)
        for joint in equations.joints:
            bent = torch.zeros_like(c.translation)
            precision = torch.full_like(bent, free)
            if joint:
                # steps turn in the scan's frame, so the prior's pull must as well
                angle = rotation_to_axis_angle(c.rotations[:, joint])[..., None]
                parent = world[:, equations.template.tensors.parents[joint]]
                bent = (parent @ angle)[..., 0]
                precision = (free + stiffness[:, 1:] * JOINT_PRIOR_RAD[joint] ** -2).expand_as(bent)
            parts.append(precision)
            values.append(bent if equations.rigid else torch.zeros_like(bent))
        parts.append(torch.full_like(c.translation, free))
        values.append(torch.zeros_like(c.translation))
        parts.append(equations.residual.precision.repeat(3).expand(batch, -1))
        values.append(self.fit.residual.flatten(1))
        return torch.cat(parts, 1), torch.cat(values, 1)


def _by_person(values: Tensor, people: Tensor) -> Tensor:
    """(B,…) -> (persons,…) sums."""
    total = values.new_zeros(int(people.max()) + 1, *values.shape[1:])
    return total.index_add_(0, people, values)


def spread_evenly(indices: Tensor, count: int) -> Tensor:
    """About `count` of the indices, evenly along their order."""
    if len(indices) <= count:
        return indices
    at = torch.linspace(0, len(indices) - 1, count, device=indices.device).round().long()
    return indices[at]


def _all_axes(gap: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B,n,3), (B,n) -> directions (B,3n,3) along x, y, z, weights and gaps (B,3n)."""
    axes = torch.eye(3, dtype=gap.dtype, device=gap.device)
    directions = axes.repeat_interleave(gap.shape[1], 0).expand(len(gap), -1, -1)
    return directions, weight.repeat(1, 3), gap.mT.flatten(1)
