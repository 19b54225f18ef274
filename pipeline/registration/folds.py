"""Keeps a deformed template a surface: no inverted triangles, eyeballs in one piece."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.geometry.mesh import face_normals
from pipeline.geometry.rigid import umeyama
from pipeline.registration.template import Template

ROUNDS, STEP_ROUNDS, RING_ROUNDS = 30, 20, 4
"""In all, of those that even out steps, and until the next ring joins in."""
MIN_COSINE = 0.1
"""A triangle whose normal turns further against the reference counts as folded (0 is flipped)."""


def folded_triangles(
    vertices: Tensor, reference: Tensor, faces: Tensor, min_cosine: float = MIN_COSINE
) -> Tensor:
    """(B,V,3), (B,V,3), (F,3) -> (B,F) bool."""
    before = torch.nn.functional.normalize(face_normals(reference, faces), dim=-1)
    return _turned(vertices, before, faces, min_cosine)


def _turned(vertices: Tensor, normals: Tensor, faces: Tensor, min_cosine: float) -> Tensor:
    """(B,F) bool: the triangles whose normals are further from the unit `normals` (B,F,3)."""
    now = face_normals(vertices, faces)
    turned: Tensor = (now * normals).sum(-1) < min_cosine * now.norm(dim=-1)
    return turned


def unfold(template: Template, vertices: Tensor, before: Tensor, reference: Tensor) -> Tensor:
    """Evens out a step where it folds triangles against `reference`, and only there.

    vertices, before, reference (B,V,3): around a folded triangle the vertices' steps from `before`
    become their neighbours' mean, in rings that widen while it stays folded, and at last their
    positions: a fold at the corner of an opening mouth leaves the lips where they are. Triangles
    that no scan shows may fold. Each scan by itself.
    """
    step = vertices - before
    seen = template.faces[(template.areas[template.faces] > 0).any(1)]
    normals = torch.nn.functional.normalize(face_normals(reference, seen), dim=-1)
    for i in range(ROUNDS):
        folded = _turned(before + step, normals, seen, MIN_COSINE)
        if not bool(folded.any()):
            return before + step
        touched = at_corners(template, seen, folded)
        if i >= STEP_ROUNDS:
            flat = template.neighbour_mean(before + step) - before
            step = torch.where(touched > 0, flat, step)
            continue
        for _ in range(i // RING_ROUNDS):
            touched = template.neighbour_mean(touched)
        step = torch.where(touched > 0, template.neighbour_mean(step), step)
    return before + step


def at_corners(template: Template, faces: Tensor, triangles: Tensor) -> Tensor:
    """(F,3), (B,F) bool -> (B,V,1): how many of the triangles meet at each vertex."""
    count = torch.zeros(
        len(triangles), len(template.areas), 1, dtype=torch.float64, device=triangles.device
    )
    for corner in range(3):
        count[..., 0].index_add_(1, faces[:, corner], triangles.double())
    return count


def keep_rigid(template: Template, vertices: Tensor, reference: Tensor) -> Tensor:
    """Replaces each small component (an eyeball) by a rigid motion of itself in `reference`."""
    result = vertices.clone()
    for part in template.loose:
        rotation, translation = umeyama(reference[:, part], vertices[:, part])
        result[:, part] = reference[:, part] @ rotation.mT + translation[:, None]
    return result
