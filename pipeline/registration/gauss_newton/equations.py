"""Gauss–Newton's normal equations: assembled row by row, solved for all scans of a person.

Equations are those of `model_fit.py`.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from pipeline.flame.lbs import pose_model
from pipeline.registration.coefficients import vertex_rotations
from pipeline.registration.gauss_newton.residual import AMPLITUDES_MM, BEYOND
from pipeline.registration.gauss_newton.sites import Sites
from pipeline.registration.gauss_newton.unknowns import Fit, Unknowns


class System:
    """(A + P) δ = b − P (θ − θ̄) at one fit, eq. 10; A and b are sums over rows, eq. 9."""

    def __init__(self, unknowns: Unknowns, fit: Fit) -> None:
        self.unknowns, self.fit = unknowns, fit
        c, template = fit.coefficients, unknowns.template
        posed = pose_model(template.tensors, c.shape, c.expression, c.pose, c.translation)
        self.vertices = posed.vertices
        """(B,V,3) mm, the model's alone."""
        self.joints = c.translation[:, None]  # a model without joints turns about its origin
        if template.tensors.parents:
            self.joints = posed.joints[:, unknowns.joints]
        self.rotations = vertex_rotations(template, c)
        self.left, self.right = torch.zeros(()), torch.zeros(())
        """A (B,columns,columns) and b (B,columns)."""
        self.precision, self.value = self.left, self.left
        """(B,columns) of the prior it was solved with: P and θ − θ̄."""

    def positions(self) -> Tensor:
        """Eq. 1: (B,V,3) mm, the model's vertices and the residual."""
        return self.vertices + self.unknowns.free(self.fit)

    @property
    def information(self) -> Tensor:
        """(B,columns,columns) A + P, once solved."""
        return self.left + torch.diag_embed(self.precision)

    @cached_property
    def factor(self) -> Tensor:
        """The lower Cholesky factor of the information, once solved."""
        factor: Tensor = torch.linalg.cholesky(self.information)
        return factor

    def rows(self, sites: Sites, direction: Tensor) -> Tensor:
        """Eq. 8: ∂(direction · site) / ∂(unknowns but the residual's), (B,n,3) -> (B,n,p) float32.

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
        """Eq. 9: adds to A and b the terms Σ w (row · δ − gap)², (B,n) in 1/mm² and in mm."""
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
        """Eq. 10 and 11: the step δ (B,columns); stiffness (B,2) as in `Unknowns.prior`.

        people (B,) numbers the persons from 0: scans of one person get the same step of identity.
        Each scan's other unknowns are eliminated first (Schur complement), which leaves a small
        system a person.
        """
        self.precision, self.value = precision, value = self.unknowns.prior(self.fit, stiffness)
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
        """Eq. 12: (B,) mm, the residual's amplitude under which the scan is likeliest.

        By the evidence of each of AMPLITUDES_MM, all unknowns integrated out (MacKay, "Bayesian
        interpolation", 1992, sec. 3); beside a basis times BEYOND.
        """
        precision, value = self.unknowns.prior(self.fit, stiffness)
        k = self.fit.residual.shape[-1]
        seen = self.right + (self.left @ value[..., None])[..., 0]
        scores = []
        for amplitude in AMPLITUDES_MM:
            tried = torch.full_like(self.fit.amplitude_mm, amplitude)
            own = self.unknowns.residual.precision(tried).repeat(1, 3)
            prior = torch.cat([precision[:, : -3 * k], own], 1)
            factor = torch.linalg.cholesky(self.left + torch.diag_embed(prior))
            whitened = torch.linalg.solve_triangular(factor, seen[..., None], upper=False)
            volume = own.log().sum(1) - 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
            scores.append(0.5 * (whitened.square().sum((1, 2)) + volume))
        tried = torch.tensor(AMPLITUDES_MM, dtype=seen.dtype, device=seen.device)
        likeliest = tried[torch.stack(scores).argmax(0)]
        if self.unknowns.template.has_basis:
            likeliest = (BEYOND * likeliest).clamp_max(AMPLITUDES_MM[-1])
        return likeliest


def sum_by_person(values: Tensor, people: Tensor) -> Tensor:
    """(B,…) -> (persons,…) sums."""
    total = values.new_zeros(int(people.max()) + 1, *values.shape[1:])
    return total.index_add_(0, people, values)
