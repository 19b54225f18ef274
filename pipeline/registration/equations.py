"""The unknowns of a fit and Gauss–Newton's normal equations for them.

In this order: identity, expression, joints, position, residual.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.flame.lbs import pose_model
from pipeline.geometry.rigid import rotation_matrices, rotation_to_axis_angle
from pipeline.registration.coefficients import Coefficients, vertex_rotations, world_rotations
from pipeline.registration.landmarks import LandmarkTargets
from pipeline.registration.residual import AMPLITUDES_MM, BEYOND, START_MM, residual_basis
from pipeline.registration.template import Template

JOINT_PRIOR_RAD = {1: 0.05, 2: 0.30}
"""Standard deviation of the neck's and the jaw's rotation; eyes leave no trace in the shape."""
EXPRESSION_RMS_MM = 7.0
"""What the prior expects expressions to move the face by: components of some models are no standard
deviations, and what identity can explain is not to be taken for an expression."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What a stage knows of B scans."""

    coefficients: Coefficients
    residual: Tensor  # (B,3,K)
    amplitude_mm: Tensor  # (B,) of the residual's large field


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


def expression_precision(template: Template) -> float:
    """Of every expression coefficient, 0 for a model without expressions."""
    moved = template.tensors.expression_basis[:, template.face_region].square().sum((0, 2))
    return float(moved.mean()) / EXPRESSION_RMS_MM**2


class Equations:
    """Where a stage compares the template with scans, and how its unknowns move it.

    `modes` eigenfunctions of the residual; about `vertices` of the template are matched.
    """

    def __init__(
        self, template: Template, modes: int, vertices: int, landmarks: LandmarkTargets
    ) -> None:
        self.template = template
        tensors = template.tensors
        self.modes, self.residual = modes, residual_basis(template, modes)
        # a bare template's residual holds rigid motions too
        self.rigid = template.has_basis or not modes
        self.joints = moving_joints(template)
        basis = torch.cat([tensors.shape_basis, tensors.expression_basis])
        self.root_moves = basis.new_zeros(len(basis), 3)
        if tensors.parents:
            self.root_moves = torch.einsum("v,pvd->pd", tensors.joint_regressor[0], basis)
        self.expression_precision = expression_precision(template)
        self.sites = matched_sites(template, vertices, modes)
        self.few = matched_sites(template, vertices // 3, modes)
        self.landmarks = sites_of(template, modes, landmarks.corners, landmarks.barycentric)

    def no_residual(self, batch: int) -> tuple[Tensor, Tensor]:
        """Residual (B,3,K) and amplitude (B,) that a new `Fit` starts from."""
        columns = self.residual.columns
        return columns.new_zeros(batch, 3, columns.shape[1]), columns.new_full((batch,), START_MM)

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
        return Fit(moved, fit.residual + free, fit.amplitude_mm)


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
        self.precision, self.value = self.left, self.left
        """(B,columns) of the prior it was solved with, and the unknowns' distance from its mean."""

    @property
    def information(self) -> Tensor:
        """(B,columns,columns) JᵀWJ + P, once solved."""
        return self.left + torch.diag_embed(self.precision)

    @cached_property
    def factor(self) -> Tensor:
        """The lower Cholesky factor of the information, once solved."""
        return torch.linalg.cholesky(self.information)

    def rows(self, sites: Sites, direction: Tensor) -> Tensor:
        """∂(direction · site) / ∂(unknowns but the residual's): (B,n,3) -> (B,n,p) float32.

        The residual's columns along axis d are direction[..., d] times `sites.residual`.
        """
        # direction · (R_v basis) = (R_vᵀ direction) · basis: the pose bends only the normals
        rest = torch.einsum("bnkl,bnk->bnl", sites.of(self.rotations), direction).float()
        places = sites.of(self.vertices)
        parts = [torch.einsum("bnd,ndp->bnp", rest, sites.basis)]
        for slot in range(self.joints.shape[1]):
            torque = torch.linalg.cross(places - self.joints[:, slot, None], direction)
            parts.append((sites.turned[:, slot, None] * torque).float())
        parts.append(direction.float())
        return torch.cat(parts, -1)

    def add(self, sites: Sites, direction: Tensor, weight: Tensor, gap: Tensor) -> None:
        """Σ w (row · δ − gap)² over (B,n) weights in 1/mm² and gaps in mm."""
        rows, columns = self.rows(sites, direction), sites.residual
        weight, direction = weight[..., None].float(), direction.float()
        weighted = rows * weight
        pull = weight * gap[..., None].float()
        if not columns.shape[1]:
            self.left = self.left + (weighted.mT @ rows).double()
            self.right = self.right + (rows.mT @ pull)[..., 0].double()
            return
        p, k = rows.shape[2], columns.shape[1]
        left = rows.new_zeros(len(rows), p + 3 * k, p + 3 * k)
        left[:, :p, :p] = weighted.mT @ rows
        at = [slice(p + axis * k, p + (axis + 1) * k) for axis in range(3)]
        for i in range(3):
            along = direction[..., i, None]
            left[:, at[i], :p] = columns.mT @ (weighted * along)
            left[:, :p, at[i]] = left[:, at[i], :p].mT
            # the blocks of two axes are symmetric and the same both ways
            for j in range(i + 1):
                block = columns.mT @ (weight * along * direction[..., j, None] * columns)
                left[:, at[i], at[j]] = left[:, at[j], at[i]] = block
        free = (columns.mT @ (pull * direction)).mT.flatten(1)
        self.left = self.left + left.double()
        self.right = self.right + torch.cat([(rows.mT @ pull)[..., 0], free], 1).double()

    def solve(self, stiffness: Tensor, people: Tensor) -> Tensor:
        """(B,columns); stiffness (B,2) multiplies the prior of identity, and of expression.

        people (B,) numbers the persons from 0: scans of one person get the same step of identity.
        Each scan's other unknowns are eliminated first (Schur complement), which leaves a small
        system a person.
        """
        self.precision, self.value = precision, value = self._prior(stiffness)
        s = self.fit.coefficients.shape.shape[1]
        left = self.information
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
        total = sum_by_person(schur - own, people) + sum_by_person(own, people) / count
        pull = sum_by_person(pull + pulled, people) - sum_by_person(pulled, people) / count
        shape = torch.cholesky_solve(pull, torch.linalg.cholesky(total))[people]
        return torch.cat([shape, alone - to_shape @ shape], 1)[..., 0]

    def best_amplitude(self, stiffness: Tensor) -> Tensor:
        """(B,) mm: the amplitude of the residual's large field under which the scan is likeliest.

        By the evidence of each of AMPLITUDES_MM, all unknowns integrated out (MacKay, "Bayesian
        interpolation", 1992, sec. 3); beside a basis times BEYOND.
        """
        precision, value = self._prior(stiffness)
        k = self.fit.residual.shape[-1]
        seen = self.right + (self.left @ value[..., None])[..., 0]
        scores = []
        for amplitude in AMPLITUDES_MM:
            tried = torch.full_like(self.fit.amplitude_mm, amplitude)
            own = self.equations.residual.precision(tried).repeat(1, 3)
            prior = torch.cat([precision[:, : -3 * k], own], 1)
            factor = torch.linalg.cholesky(self.left + torch.diag_embed(prior))
            whitened = torch.linalg.solve_triangular(factor, seen[..., None], upper=False)
            volume = own.log().sum(1) - 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
            scores.append(0.5 * (whitened.square().sum((1, 2)) + volume))
        tried = torch.tensor(AMPLITUDES_MM, dtype=seen.dtype, device=seen.device)
        likeliest = tried[torch.stack(scores).argmax(0)]
        if self.equations.template.has_basis:
            likeliest = (BEYOND * likeliest).clamp_max(AMPLITUDES_MM[-1])
        return likeliest

    def _prior(self, stiffness: Tensor) -> tuple[Tensor, Tensor]:
        """Precision of each unknown and its distance from the most likely value, (B,columns)."""
        equations, c = self.equations, self.fit.coefficients
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
        parts.append(equations.residual.precision(self.fit.amplitude_mm).repeat(1, 3))
        values.append(self.fit.residual.flatten(1))
        return torch.cat(parts, 1), torch.cat(values, 1)


def sum_by_person(values: Tensor, people: Tensor) -> Tensor:
    """(B,…) -> (persons,…) sums."""
    total = values.new_zeros(int(people.max()) + 1, *values.shape[1:])
    return total.index_add_(0, people, values)


def spread_evenly(indices: Tensor, count: int) -> Tensor:
    """About `count` of the indices, evenly along their order."""
    if len(indices) <= count:
        return indices
    at = torch.linspace(0, len(indices) - 1, count, device=indices.device).round().long()
    return indices[at]
