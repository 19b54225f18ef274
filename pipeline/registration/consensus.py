"""One label a person: the head at rest that all their scans agree on, without registering again.

Each scan gives a head at rest and the error to expect of each of its vertices. They are fitted to
each other rigidly (generalised Procrustes, Gower 1975, without scale) and averaged, each vertex by
its precision, so that what one scan does not show comes from those that do, and fine detail stays.
Scans that lie too far from the others are left out, starting from the median of all.

What a model takes for an expression is partly the person, the more so the less the face is of the
model's family: forty components of identity leave enough for those of expression to explain. A scan
that was declared neutral therefore keeps what its registration took for an expression; from all
others it is removed, and the error of that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.flame.lbs import pose_vertices
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import umeyama
from pipeline.registration.anchor import anchor_weights, anchored
from pipeline.registration.fusion import Normal, displacements, fuse
from pipeline.registration.gauss_newton.unknowns import EXPRESSION_RMS_MM, expression_precision
from pipeline.registration.marginal import person_space
from pipeline.registration.outcome import padded
from pipeline.registration.template import Template, soft_face
from pipeline.registration.uncertainty import UNKNOWN_MM
from pipeline.types import N_SHAPE, Array, MarginalInformation, Registration

LEAK = 0.3
"""Share of an expression that is left in a head at rest, or taken from it: standard deviation."""
OWN = 0.3
"""Standard deviation of each of a person's numbers that is one scan's own: hair, clothes, beard."""
CALIBRATION = 0.186, 0.091, 1.389
"""Squared mean length of the error over the best scan's variance, over the variance of their
weighted mean, and over the mean square of what identity leaves across the surface: where landmarks
were defined and how a model slides along a face unlike its own is the same for all of a person's
scans. Fitted to people of known truth (`tests/benchmarks/neutrals.py`, other seeds)."""
BARE_CALIBRATION = 1.017, 0.0, 0.007
LIMITS, RELATIVE = (0.8, 2.0), 5.0
"""A scan is not its person's from the first misfit on, if it is so many times the median of their
scans, and always from the second: expected errors are wider for some models than for others."""
ROUNDS = 10
SHAPE_NOISE_MM, OFF_FACE = 1.0, 0.05
"""Of each coordinate, where identity alone explains a head; weight of vertices off the face."""
SLIDE_MM = 0.6
"""Of the residual along the surface that is error: standard deviation an axis."""


class Consensus(NamedTuple):
    """What all of a person's n scans say of them."""

    neutral_mm: Array  # (V,3) float32, anchored
    shape: Array  # (300,) float32 identity coefficients of it, zeros beyond the model's own
    expected_error_mm: Array  # (V,) float32, mean length of the error of each vertex
    weights: Array  # (n,) each scan's share of the face; 0: not this person's, or failed
    misfit: Array  # (n,) squared distance to the others' consensus over what to expect; NaN: failed
    contested: bool
    """No majority of the scans agrees: some that made the label contradict it."""
    posterior: Normal  # of the numbers y of `PersonSpace`


def consensus(
    template: Template, modes: int, scans: Sequence[Registration], neutral: Sequence[bool]
) -> Consensus:
    """The label of a person from the registrations of all their scans.

    `template` is on the CPU, `modes` are those that they were registered with. `neutral` says of
    each whether it was declared to show the face at rest. A scan that contradicts the others is
    left out from three on; of two that contradict each other both are used, and the result is
    `contested`. Raises RegistrationError if no scan was registered, or some with another model.
    """
    check(template, scans, neutral)
    used = [i for i, scan in enumerate(scans) if scan.status != "failed"]
    own, at_rest = [scans[i] for i in used], [neutral[i] for i in used]
    taken = torch.stack([expression_mm(template, scan) for scan in own])
    heads, variance = heads_of(template, own, at_rest, taken), variances(template, own, at_rest)
    mean, kept, misfit = agreed(template, heads, variance)
    settled, unlike_mm = less_sliding(template, mean)
    neutral_mm = anchored(template, settled)
    shape = padded(explained(template, neutral_mm)[0][None], N_SHAPE)[0]
    precision = kept[:, None] / variance
    share = (precision / precision.sum(0))[:, template.face_region].mean(1)
    weights, apart = np.zeros(len(scans)), np.full(len(scans), np.nan)
    weights[used], apart[used] = share.numpy(), misfit.numpy()
    return Consensus(
        neutral_mm.float().numpy(),
        shape.float().numpy(),
        error_of(template, variance, kept, unlike_mm).float().numpy(),
        weights,
        apart,
        bool((misfit[kept] > limit_of(misfit)).any()),
        posterior(template, modes, own, at_rest, taken, kept),
    )


def check(template: Template, scans: Sequence[Registration], neutral: Sequence[bool]) -> None:
    """Raises RegistrationError where `scans` make no consensus."""
    if len(scans) != len(neutral):
        raise RegistrationError(f"{len(neutral)} declarations of {len(scans)} scans")
    others = [x for x in scans if x.model_digest != template.model.digest]
    if others:
        raise RegistrationError(
            f"scan {others[0].scan_id}: registered with model {others[0].model_digest[:12]}, "
            f"expected {template.model.digest[:12]}; register all of a person's scans with one"
        )
    if all(scan.status == "failed" for scan in scans):
        raise RegistrationError(
            f"none of {len(scans)} scans was registered, expected one at least of each person"
        )


def heads_of(
    template: Template, scans: Sequence[Registration], neutral: Sequence[bool], taken: Tensor
) -> Tensor:
    """(n,V,3) the scans' heads at rest, anchored; with what was taken where declared neutral."""
    found = torch.from_numpy(np.stack([scan.neutral_mm for scan in scans])).double()
    return anchored(template, found + torch.tensor(neutral)[:, None, None] * taken)


def expression_mm(template: Template, scan: Registration) -> Tensor:
    """(V,3) mm: what expression and jaw were found to move of the head at rest."""
    tensors = template.tensors
    shape, expression, pose = (
        torch.from_numpy(x[None].astype(np.float64))
        for x in (
            scan.shape[: len(tensors.shape_basis)],
            scan.expression[: len(tensors.expression_basis)],
            scan.pose,
        )
    )
    pose[:, :6] = 0  # the whole head's and the neck's
    pose = pose[:, : 3 * len(tensors.parents)]
    still = torch.zeros_like(pose), pose.new_zeros(1, 3)
    moved = pose_vertices(tensors, shape, expression, pose, still[1])
    return (moved - pose_vertices(tensors, shape, torch.zeros_like(expression), *still))[0]


@lru_cache(maxsize=8)
def expression_left(template: Template) -> Tensor:
    """(V,) mm of a head at rest, root mean square, that is its scan's expression."""
    moved = template.tensors.expression_basis.square().sum((0, 2))
    if not len(template.tensors.expression_basis):
        return torch.full_like(moved, EXPRESSION_RMS_MM)
    return LEAK * (moved / expression_precision(template)).sqrt()


def variances(template: Template, scans: Sequence[Registration], neutral: Sequence[bool]) -> Tensor:
    """(n,V) mm² of the scans' heads at rest."""
    expected = torch.from_numpy(np.stack([x.expected_error_mm for x in scans])).double()
    expressive = 1.0 - torch.tensor(neutral).double()
    return expected.square() + (expressive[:, None] * expression_left(template)).square()


def agreed(template: Template, heads: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n,V,3), (n,V) -> the mean (V,3) of those that agree, which (n,) bool, misfit (n,).

    From the median on each scan is compared with the mean of the others that are kept: those that
    are no further from it than the limit, and a majority in any case.
    """
    n = len(heads)
    kept, misfit = torch.ones(n, dtype=torch.bool), variance.new_zeros(n)
    mean, error = heads.median(0).values, variance.mean(0)
    for turn in range(ROUNDS if n > 1 else 0):
        heads = fitted_to(mean, heads, anchor_weights(template) / variance)
        if turn or n == 2:
            mean, error = others_mean(heads, variance, kept)
        misfit = misfit_of(template, heads, variance, mean, error)
        majority = misfit.kthvalue(n // 2 + 1).values
        before, kept = kept, misfit <= torch.maximum(limit_of(misfit), majority)
        mean = weighted_mean(heads, kept[:, None] / variance)
        if turn and bool((kept == before).all()):
            break
    return mean, kept, misfit


def limit_of(misfit: Tensor) -> Tensor:
    """Of misfits (n,), the largest that a scan of the person may have."""
    return (RELATIVE * misfit.median()).clamp(*LIMITS)


def misfit_of(
    template: Template, heads: Tensor, variance: Tensor, mean: Tensor, error: Tensor
) -> Tensor:
    """(n,) mean squared distance in the face of each head to its mean over what to expect."""
    face, spread = anchor_weights(template), variance + error
    distance = (fitted_to(mean, heads, face / spread) - mean).square().sum(-1)
    return (face * distance / spread).sum(-1) / face.sum()


def others_mean(heads: Tensor, variance: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """(n,V,3) each scan's mean of the others that are kept, and (n,V) mm² its variance."""
    precision = kept[:, None] / variance
    others = precision.sum(0) - precision
    weighted = precision[..., None] * heads
    return (weighted.sum(0) - weighted) / others[..., None], 1 / others


def weighted_mean(heads: Tensor, precision: Tensor) -> Tensor:
    """(n,V,3), (n,V) -> (V,3)."""
    return (precision[..., None] * heads).sum(0) / precision.sum(0)[:, None]


def fitted_to(target: Tensor, heads: Tensor, weights: Tensor) -> Tensor:
    """(n,V,3) moved rigidly onto the target (V,3) or (n,V,3)."""
    rotation, shift = umeyama(heads, target.expand_as(heads), weights)
    return heads @ rotation.mT + shift[:, None]


def error_of(template: Template, variance: Tensor, kept: Tensor, unlike_mm: float) -> Tensor:
    """(V,) mm: what is shared by all scans stays, the rest averages out (`CALIBRATION`)."""
    best, total = variance[kept].amin(0), (1 / variance[kept]).sum(0)
    shared, own, family = CALIBRATION if template.has_basis else BARE_CALIBRATION
    return (shared * best + own / total + family * unlike_mm**2).sqrt().clamp_max(UNKNOWN_MM)


def explained(template: Template, head: Tensor) -> tuple[Tensor, Tensor]:
    """(V,3) a head at rest -> its identity coefficients (S,), and (V,3) what they and a rigid
    motion explain of it."""
    columns, nearest = identity_fit(template)
    rest = template.tensors.template
    found = nearest @ (head - rest).flatten()
    return found[: len(template.tensors.shape_basis)], rest + (columns @ found).view_as(rest)


@lru_cache(maxsize=4)
def identity_fit(template: Template) -> tuple[Tensor, Tensor]:
    """(3V,S+6) identity and small rigid motions, (S+6,3V) their ridge regression, by the prior."""
    tensors = template.tensors
    rest, n, s = tensors.template, len(tensors.template), len(tensors.shape_basis)
    axes = torch.eye(3).to(rest).expand(n, 3, 3)  # of a turn and a shift about and along each axis
    turns = torch.linalg.cross(axes, rest[:, None].expand_as(axes)).mT
    columns = torch.cat([tensors.shape_basis.permute(1, 2, 0), axes, turns], 2).flatten(0, 1)
    weights = torch.where(template.areas > 0, OFF_FACE, 0.0).to(rest)
    weights[template.face_region] = 1.0
    weighted = columns.mT * (weights / SHAPE_NOISE_MM**2).repeat_interleave(3)
    prior = torch.cat([rest.new_ones(s), rest.new_full((6,), 1e-9)])
    return columns, torch.linalg.solve(weighted @ columns + torch.diag(prior), weighted)


def less_sliding(template: Template, head: Tensor) -> tuple[Tensor, float]:
    """(V,3) a head at rest, with less of its residual along the surface; and how unlike the model
    it is, mm.

    Beyond identity scans show a surface, but hardly where along it a vertex belongs. What they show
    across it says how much there is to be found along it: the share σ²/(σ² + SLIDE_MM²) of the
    tangential residual is kept in the face, σ the root mean square of the normal one there
    (empirical Bayes after James, Stein 1961).
    """
    fit = explained(template, head)[1]
    residual, normals = head - fit, vertex_normals(fit, template.faces)
    across = (residual * normals).sum(-1, keepdim=True)
    unlike = across[template.face_region].square().mean()
    share = SLIDE_MM**2 / (unlike + SLIDE_MM**2) * face_mask(template)[:, None]
    return head - share * (residual - across * normals), float(unlike.sqrt())


@lru_cache(maxsize=8)
def face_mask(template: Template) -> Tensor:
    """(V,) 1 in the face, 0 far from it."""
    n = len(template.areas)
    return torch.from_numpy(soft_face(template.model, template.model.faces, n)).to(template.areas)


def posterior(
    template: Template,
    modes: int,
    scans: Sequence[Registration],
    neutral: Sequence[bool],
    taken: Tensor,
    kept: Tensor,
) -> Normal:
    """Of a person's numbers, from the marginal information of the scans that are kept.

    Scans declared neutral are moved by what was taken (n,V,3) for an expression, as their heads.
    """
    parts, within = [], []
    for scan, rest, moved, one in zip(scans, neutral, taken, kept.tolist(), strict=True):
        if scan.marginal is None or not one:
            continue
        shift = numbers_of(template, modes, moved[None])[0] if rest else 0
        parts.append(MarginalInformation(scan.marginal.mean + shift, scan.marginal.triangle))
        within.append(own_covariance(template, modes, rest))
    if not parts:
        eye = np.eye(person_space(template, modes).shape.shape[1])
        return Normal(np.zeros(len(eye)), eye)
    return fuse(parts, within=within)


@lru_cache(maxsize=8)
def own_covariance(template: Template, modes: int, neutral: bool) -> Array:
    """(m,m): what a scan shows besides its person, α² E Eᵀ + β² 1 in a person's numbers.

    E are the model's expressions, nearest by least squares; of a scan declared neutral none.
    """
    eye = OWN**2 * np.eye(person_space(template, modes).shape.shape[1])
    if neutral or not len(template.tensors.expression_basis):
        return eye
    scale = expression_precision(template) ** -0.5
    leaks = LEAK * scale * numbers_of(template, modes, template.tensors.expression_basis)
    return np.asarray(leaks.T @ leaks + eye)


def numbers_of(template: Template, modes: int, moved: Tensor) -> Array:
    """(n,V,3) mm displacements of the head at rest -> (n,m) a person's numbers nearest to them."""
    return (moved[:, template.face_region].flatten(1) @ nearest_numbers(template, modes)).numpy()


@lru_cache(maxsize=4)
def nearest_numbers(template: Template, modes: int) -> Tensor:
    """(3F,m): ridge regression of displacements of the face on a person's numbers."""
    face = template.face_region
    columns = displacements(template, modes)[:, face].permute(1, 0, 2).flatten(0, 1).double()
    gram = columns.mT @ columns + torch.eye(columns.shape[1], dtype=columns.dtype)
    found: Tensor = torch.linalg.solve(gram, columns.mT)
    return found.mT
