"""The unknowns θ of a fit: what they are, what they make of the template, how likely they are.

In this order: identity, expression, joints, position, residual. Equations are those of
`model_fit.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.geometry.rigid import rotation_matrices, rotation_to_axis_angle
from pipeline.registration.coefficients import Coefficients, world_rotations
from pipeline.registration.gauss_newton.residual import START_MM, residual_basis
from pipeline.registration.gauss_newton.sites import moving_joints
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


def unfitted(coefficients: Coefficients) -> Fit:
    """No residual, and the amplitude that the search for it starts from."""
    nothing = coefficients.translation[..., None][..., :0]
    return Fit(coefficients, nothing, torch.full_like(coefficients.translation[:, 0], START_MM))


def expression_precision(template: Template) -> float:
    """Of every expression coefficient, 0 for a model without expressions."""
    moved = template.tensors.expression_basis[:, template.face_region].square().sum((0, 2))
    return float(moved.mean()) / EXPRESSION_RMS_MM**2


class Unknowns:
    """Those of a template with `modes` eigenfunctions of the residual."""

    def __init__(self, template: Template, modes: int) -> None:
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

    def widened(self, fit: Fit) -> Fit:
        """The fit with a coefficient for every mode of the residual: 0 for those it had not."""
        more = self.residual.columns.shape[1] - fit.residual.shape[2]
        return replace(fit, residual=torch.nn.functional.pad(fit.residual, (0, more)))

    def free(self, fit: Fit) -> Tensor:
        """(B,V,3) mm of the residual alone: (Ψ C) of eq. 1."""
        return self.residual.columns @ fit.residual.mT

    def moved(self, fit: Fit, step: Tensor) -> Fit:
        """Eq. 13: the fit after a step (B,columns) of all unknowns; rotations are multiplied."""
        c = fit.coefficients
        s, n = c.shape.shape[1], len(self.root_moves)
        k = 3 * len(self.joints)
        free = step[:, n + k + 3 :].reshape(fit.residual.shape)
        if not self.rigid:
            return replace(fit, residual=fit.residual + free)
        # the head turns about a joint that identity moves: the rows take it as fixed
        root = step[:, :n] @ self.root_moves
        drift = (c.rotations[:, 0] @ root[..., None])[..., 0] - root
        moved = Coefficients(
            c.shape + step[:, :s],
            c.expression + step[:, s:n],
            self._turned(c, step[:, n : n + k]),
            c.translation + step[:, n + k : n + k + 3] + drift,
        )
        return Fit(moved, fit.residual + free, fit.amplitude_mm)

    def _turned(self, c: Coefficients, step: Tensor) -> Tensor:
        """Rotations (B,J,3,3) of the joints after steps (B,3·joints) in the scan's frame."""
        world = world_rotations(self.template, c)
        rotations = c.rotations.clone()
        for slot, joint in enumerate(self.joints):
            turn = rotation_matrices(step[:, 3 * slot : 3 * slot + 3])
            if joint:  # into the parent's frame
                parent = world[:, self.template.tensors.parents[joint]]
                turn = parent.mT @ turn @ parent
            rotations[:, joint] = turn @ c.rotations[:, joint]
        return rotations

    def prior(self, fit: Fit, stiffness: Tensor) -> tuple[Tensor, Tensor]:
        """P and θ − θ̄ of eq. 2, (B,columns): precisions, and distances from the likeliest values.

        stiffness (B,2) multiplies the precision of identity, and of expression and joints.
        """
        c = fit.coefficients
        free = 1e-6 if self.rigid else 1e12
        parts = [
            stiffness[:, :1].expand_as(c.shape),
            (self.expression_precision * stiffness[:, 1:]).expand_as(c.expression),
        ]
        values = [c.shape, c.expression]
        world = world_rotations(self.template, c)
        for joint in self.joints:
            bent = torch.zeros_like(c.translation)
            precision = torch.full_like(bent, free)
            if joint:
                # steps turn in the scan's frame, so the prior's pull must as well
                angle = rotation_to_axis_angle(c.rotations[:, joint])[..., None]
                parent = world[:, self.template.tensors.parents[joint]]
                bent = (parent @ angle)[..., 0]
                precision = (free + stiffness[:, 1:] * JOINT_PRIOR_RAD[joint] ** -2).expand_as(bent)
            parts.append(precision)
            values.append(bent if self.rigid else torch.zeros_like(bent))
        parts.append(torch.full_like(c.translation, free))
        values.append(torch.zeros_like(c.translation))
        parts.append(self.residual.precision(fit.amplitude_mm).repeat(1, 3))
        values.append(fit.residual.flatten(1))
        return torch.cat(parts, 1), torch.cat(values, 1)
