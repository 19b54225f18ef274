"""The coefficients of a model for heads that have its vertices already: no scan, no matching.

The model's vertices x_v(θ) are those of eq. 1 of `gauss_newton/model_fit.py`, without a residual.
The unknowns θ are identity, expression, the rotations of all joints and the position. They are the
maximum a posteriori

    min Σ_v w_v |y_v − x_v(θ)|² + (θ − θ̄)ᵀ P (θ − θ̄)                                         (1)

with the priors of the model's fit, and w_v = 1 / e_v² where a vertex is valid and expected to be
off by e_v, less for one that is off by much more (Huber 1964).

An iteration turns what is left of y − x back into the rest frame, where the components' columns B
do not depend on the pose, and those of the rotations A, axis × arm from the joint, follow the
shape. There it solves a ridge regression,

    [ BᵀWB + P   BᵀWA     ] [ δ_s ]   [ BᵀW r ]
    [ AᵀWB       AᵀWA + P ] [ δ_p ] = [ AᵀW r ] − P (θ − θ̄)                                  (2)

where BᵀWB is the sum over patches of the template, of matrices made once for a model times the
patch's weight. So weights are the same all over a patch: what it lacks is taken to be off as the
rest of it is, and a patch that is hardly seen is left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.flame.lbs import ModelTensors, joint_transforms, pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import rotation_matrices, rotation_to_axis_angle, umeyama
from pipeline.registration.outcome import padded
from pipeline.registration.refit_columns import (
    NECK,
    PATCHES,
    Columns,
    axial,
    columns_of,
    pose_blocks,
)
from pipeline.registration.template import Template, prepare_template
from pipeline.types import N_EXPRESSION, N_POSE, N_SHAPE, Array

LEAST_SEEN = 0.9
"""Share of a patch's vertices that must be valid, of what is usual in the head's others."""
STIFFNESS, FROZEN = (100.0, 10.0, 1.0, 1.0), 2
"""Times the prior's precision of bent joints in each iteration, for at first turns that are not yet
small pass for shape; after how many iterations the columns of the rotations stay as they are."""
USUAL_ERROR_MM = 0.5
"""What a vertex is expected to be off by if nothing is said of it."""
HUBER = 4.0
"""Times its expected error a vertex is off before it counts for less."""
FEWEST = 100
"""Valid vertices that a head must have."""
BATCH = 64
"""Heads that are solved together: what they share is read once, their own stays in the cache."""


class Refitted(NamedTuple):
    """Of B heads, as a store has them: the model posed by the coefficients plus the offset is the
    vertices that were given. float32."""

    shape: Array  # (B,300), zero beyond the model's own
    expression: Array  # (B,100)
    pose: Array  # (B,15) axis-angle
    translation_mm: Array  # (B,3)
    offset_mm: Array  # (B,V,3)
    residual_mm: Array  # (B,) root mean square length of the offset over valid vertices


def refit(
    vertices_mm: Array,
    validity: Array,
    model: FlameModel,
    expected_error_mm: Array | None = None,
) -> Refitted:
    """The model's coefficients that explain heads of its topology best.

    vertices_mm (B,V,3) in any pose and place; validity (B,V) bool: vertices that count, which must
    be finite; expected_error_mm (B,V): how far each is expected to be off, by default the same
    everywhere. Each head counts alone. What the coefficients leave is `offset_mm`. Raises
    RegistrationError for other shapes, and if a head has fewer than FEWEST valid vertices.
    """
    template = prepare_template(model, "cpu", 0)
    vertices, valid, error = _checked(vertices_mm, validity, expected_error_mm, template)
    rows = np.array_split(np.arange(len(vertices)), max(1, -(-len(vertices) // BATCH)))
    parts = [_fitted(template, vertices[some], valid[some], error[some]) for some in rows]
    return Refitted(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _checked(
    vertices: Array, validity: Array, error: Array | None, template: Template
) -> tuple[Array, Array, Array]:
    """The arguments as (B,V,3) float, (B,V) bool and (B,V) float, > 0 where valid."""
    v = len(template.areas)
    if vertices.ndim != 3 or vertices.shape[1:] != (v, 3):
        raise RegistrationError(
            f"vertices of shape {vertices.shape}, expected (B, {v}, 3): the model "
            f"{template.model.name} has {v} vertices"
        )
    error = np.full(vertices.shape[:2], USUAL_ERROR_MM) if error is None else error
    for name, array in (("validity", validity), ("expected_error_mm", error)):
        if array.shape != vertices.shape[:2]:
            raise RegistrationError(f"{name}: {array.shape}, expected {vertices.shape[:2]}")
    valid = validity.astype(bool)
    bad = valid & ~(np.isfinite(vertices).all(2) & np.isfinite(error) & (error > 0))
    if bad.any():
        row, vertex = np.argwhere(bad)[0]
        raise RegistrationError(
            f"head {row}: vertex {vertex} is valid, lies at {vertices[row, vertex]} mm and is "
            f"expected to be off by {error[row, vertex]} mm: expected finite numbers, the last > 0"
        )
    few = np.flatnonzero(valid.sum(1) < FEWEST)
    if len(few):
        raise RegistrationError(
            f"head {few[0]}: {valid[few[0]].sum()} valid vertices, expected at least {FEWEST}: "
            "they do not tell a shape from a pose; leave it out"
        )
    return vertices, valid, error


def _fitted(template: Template, vertices: Array, valid: Array, error: Array) -> tuple[Array, ...]:
    """Of at most BATCH heads, the fields of `Refitted`."""
    columns = columns_of(template)
    given, seen = torch.from_numpy(vertices).double(), torch.from_numpy(valid)
    near, heavy = given[:, columns.at], seen[:, columns.at]
    near = torch.where(heavy[..., None], near, 0.0)
    weight = torch.where(heavy, torch.from_numpy(error).double()[:, columns.at] ** -2, 0.0)
    rest = template.tensors.template[columns.at]
    rotation, shift = umeyama(rest.expand_as(near), near, weight)
    target = ((near - shift[:, None]) @ rotation).mT
    pose = gauss_newton(columns, target.float(), weight.float())
    found = _placed(columns, len(template.tensors.shape_basis), pose, rotation, shift)
    offset = given - pose_vertices(_single(template), *found)
    square = torch.where(seen, offset.square().sum(-1), 0.0)
    residual = (square.sum(1) / seen.sum(1)).sqrt()
    lengths = N_SHAPE, N_EXPRESSION, N_POSE, 3
    stored = [padded(values, n) for values, n in zip(found, lengths, strict=True)]
    return tuple(x.float().numpy() for x in (*stored, offset, residual))


@lru_cache(maxsize=4)
def _single(template: Template) -> ModelTensors:
    """The model in single precision, as what is stored."""
    return to_tensors(template.model)


class Pose(NamedTuple):
    """Unknowns of B heads; float32."""

    components: Tensor  # (B,n)
    rotations: Tensor  # (B,J,3,3) of each joint against its parent
    translation: Tensor  # (B,3) mm

    def unknowns(self) -> Tensor:
        """(B,n+3J+3) θ, rotations as axis-angle."""
        angles = rotation_to_axis_angle(self.rotations).flatten(1)
        return torch.cat([self.components, angles, self.translation], 1)


def gauss_newton(columns: Columns, target: Tensor, weight: Tensor) -> Pose:
    """Eq. 1, from rest; target (B,3,N) mm, near the model at rest; weight (B,N) 1/mm², 0 if not
    valid, when the target may be anything finite. Of all iterations each head's best counts: a
    step that goes too far is not taken."""
    b, n, j = len(target), len(columns.components), len(columns.parents)
    patches = Patches(columns, weight)
    smooth = patches.weight[:, columns.patch]
    left = System(columns.prior, (patches.weight @ columns.gram).view(b, n, n))
    pose = Pose(target.new_zeros(b, n), torch.eye(3).expand(b, j, 3, 3), target.new_zeros(b, 3))
    best, least = pose, target.new_full((b,), torch.inf)
    for iteration, stiffness in enumerate((*STIFFNESS, None)):
        posed = posed_at_rest(columns, pose)
        gap, unknowns = patches.filled(target - posed.vertices), pose.unknowns()
        cost = (columns.prior * unknowns.square()).sum(1) + _robust_sum(smooth, gap)
        best, least = _better(cost < least, pose, best), torch.minimum(cost, least)
        if stiffness is None:
            break
        if iteration < FROZEN:
            arms = posed.arms
            left.see(*(pose_blocks(columns, arms, smooth) if iteration else patches.at_rest()))
        pull = gradient(columns, posed.blend, arms, smooth * _huber(smooth, gap), gap)
        prior = torch.cat([columns.prior[:n], stiffness * columns.prior[n:]])
        pose = _moved(columns, pose, left.solve(pull - prior * unknowns, stiffness))
    return best


def _better(where: Tensor, one: Pose, other: Pose) -> Pose:
    """(B,) bool: the first of two, else the second."""
    pairs = zip(one, other, strict=True)
    return Pose(*(torch.where(where.view(-1, *[1] * (x.ndim - 1)), x, y) for x, y in pairs))


def _robust_sum(weight: Tensor, gap: Tensor) -> Tensor:
    """(B,N), (B,3,N) -> (B,): squares that become lengths beyond HUBER times what is expected."""
    square = weight * gap.square().sum(1) / HUBER**2
    return (2 * HUBER**2 * ((1 + square).sqrt() - 1)).sum(1)


def _moved(columns: Columns, pose: Pose, step: Tensor) -> Pose:
    """The pose after a step (B,n+3J+3); rotations are multiplied."""
    n, j = len(columns.components), len(columns.parents)
    turns, shift = step[:, n:-3].unflatten(1, (j, 3)).clone(), step[:, -3:]
    if j > NECK:  # to turn what is below the neck is to turn the neck, and all the other way
        neck = turns[:, NECK]
        turns[:, 0] -= neck
        arm = (columns.joints[0] - columns.joints[NECK]).expand_as(neck)
        shift = shift - torch.linalg.cross(neck, arm)
    rotations = pose.rotations @ rotation_matrices(turns)
    return Pose(pose.components + step[:, :n], rotations, pose.translation + shift)


class Patches:
    """Which patches of the template B heads show, and how much each counts."""

    def __init__(self, columns: Columns, weight: Tensor) -> None:
        self.columns, self.patch, self.seen = columns, columns.patch, weight > 0
        count = self._sums(self.seen.float())
        self.share = 1 / count.clamp_min(1)
        """(B,PATCHES) of a vertex that is valid in the mean of those that are."""
        shown = count / columns.in_patch
        usual = torch.where(shown > 0, shown, torch.nan).nanmedian(1, keepdim=True).values
        enough = shown >= LEAST_SEEN * usual
        self.weight = self._sums(weight) * self.share * enough
        """(B,PATCHES) 1/mm² of each vertex."""

    def at_rest(self) -> tuple[Tensor, Tensor]:
        """`pose_blocks` of the model at rest."""
        cross, own = (self.weight @ blocks for blocks in self.columns.at_rest)
        q = 3 * len(self.columns.parents) + 3
        return cross.unflatten(1, (-1, q)), own.unflatten(1, (q, q))

    def filled(self, gap: Tensor) -> Tensor:
        """(B,3,N) -> with the mean of its patch at vertices that are not valid."""
        gap = gap * self.seen[:, None]
        means = self._sums(gap) * self.share[:, None]
        return torch.where(self.seen[:, None], gap, means[..., self.patch])

    def _sums(self, values: Tensor) -> Tensor:
        """(B,…,N) -> (B,…,PATCHES)."""
        sums = values.new_zeros(*values.shape[:-1], PATCHES)
        return sums.index_add_(-1, self.patch, values)


def _huber(weight: Tensor, gap: Tensor) -> Tensor:
    """(B,N), (B,3,N) -> (B,N) Huber's weights, by the scale of the gaps while that is more than
    was expected."""
    square = weight * gap.square().sum(1)
    scale = (square.sum(1) / (weight > 0).sum(1).clamp_min(1)).sqrt().clamp_min(1.0)
    return (HUBER * scale[:, None] / square.sqrt().clamp_min(1e-6)).clamp_max(1.0)


class Posed(NamedTuple):
    vertices: Tensor  # (B,3,N) mm
    blend: Tensor  # (B,9,N) the rows of what turns each vertex
    arms: Tensor  # (B,J,3,N) mm at rest from the joints, as far as a vertex turns with them


def posed_at_rest(columns: Columns, pose: Pose) -> Posed:
    """Linear blend skinning of the vertices that are compared (`flame.lbs`)."""
    b, j = len(pose.components), len(columns.parents)
    joints = columns.joints + (pose.components @ columns.joints_moved).view(b, j, 3)
    rest = columns.rest + pose.components @ columns.components
    if len(columns.correctives):
        bent = (pose.rotations[:, 1:] - torch.eye(3)).flatten(1)
        rest = rest + bent @ columns.correctives
    rest = rest.unflatten(1, (3, -1))
    world, places = joint_transforms(pose.rotations, joints, columns.parents)
    shifts = places - (world @ joints[..., None])[..., 0] + pose.translation[:, None]
    parts = torch.cat([world.flatten(2), shifts], 2).mT
    blend = (parts.reshape(b * 12, j) @ columns.weights).unflatten(0, (b, 12))
    turned = [(blend[:, 3 * i : 3 * i + 3] * rest).sum(1) + blend[:, 9 + i] for i in range(3)]
    arms = (rest[:, None] - joints[..., None]) * columns.share[:, None]
    return Posed(torch.stack(turned, 1), blend[:, :9], arms)


def gradient(columns: Columns, blend: Tensor, arms: Tensor, weight: Tensor, gap: Tensor) -> Tensor:
    """(B,n+3J+3): the right side of eq. 2 without the prior; weight (B,N), gap (B,3,N) mm."""
    pull = gap * weight[:, None]
    back = torch.stack([(blend[:, k:9:3] * pull).sum(1) for k in range(3)], 1)
    moments = (arms.flatten(1, 2) @ back.mT).unflatten(1, (-1, 3))
    components = back.flatten(1) @ columns.components.mT
    return torch.cat([components, axial(moments).flatten(1), back.sum(2)], 1)


class System:
    """The left side of eq. 2; components are eliminated first (Schur complement)."""

    def __init__(self, prior: Tensor, gram: Tensor) -> None:
        n = gram.shape[1]
        self.prior = prior[n:].double()
        self.factor = torch.linalg.cholesky(gram + torch.diag(prior[:n]))
        self.half, self.schur = gram[:, :, :0], gram[:, :0, :0]

    def see(self, cross: Tensor, own: Tensor) -> None:
        """BᵀWA (B,n,q) and AᵀWA (B,q,q) of a pose."""
        self.half = torch.linalg.solve_triangular(self.factor, cross, upper=False)
        # what nothing determines, such as the eyes of a model without eyes, stays
        damped = 1e-6 * own.diagonal(dim1=1, dim2=2) + 1e-9
        self.schur = (own - self.half.mT @ self.half + torch.diag_embed(damped)).double()

    def solve(self, pull: Tensor, stiffness: float) -> Tensor:
        """The step (B,n+q) for the right side (B,n+q)."""
        n = self.factor.shape[1]
        alone = torch.linalg.solve_triangular(self.factor, pull[:, :n, None], upper=False)
        right = pull[:, n:, None] - self.half.mT @ alone
        schur = self.schur + torch.diag(stiffness * self.prior)
        moved = torch.linalg.solve(schur, right.double()).float()
        left = alone - self.half @ moved
        components = torch.linalg.solve_triangular(self.factor.mT, left, upper=True)
        return torch.cat([components, moved], 1)[..., 0]


def _placed(
    columns: Columns, n_shape: int, pose: Pose, rotation: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Identity, expression, pose (B,3J) and position (B,3), of heads moved by v -> R v + t."""
    components, turned = pose.components.double(), pose.rotations.double()
    root = columns.joints[0].double() + components @ columns.joints_moved[:, :3].double()
    turned = torch.cat([rotation[:, None] @ turned[:, :1], turned[:, 1:]], 1)
    moved = (rotation @ (root + pose.translation)[..., None])[..., 0] + shift - root
    angles = rotation_to_axis_angle(turned).flatten(1)
    found = components[:, :n_shape], components[:, n_shape:], angles, moved
    shape, expression, angles, moved = (x.float() for x in found)
    return shape, expression, angles, moved
