"""Keeps a deformed template a surface: no inverted triangles, eyeballs in one piece."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.geometry.mesh import face_normals
from pipeline.geometry.rigid import umeyama
from pipeline.registration.template import Template

ROUNDS = 25
MIN_COSINE = 0.1
"""A triangle whose normal turns further against the reference counts as folded (0 is flipped)."""


def folded_triangles(
    vertices: Tensor, reference: Tensor, faces: Tensor, min_cosine: float = MIN_COSINE
) -> Tensor:
    """(B,V,3), (B,V,3), (F,3) -> (B,F) bool."""
    now = torch.nn.functional.normalize(face_normals(vertices, faces), dim=-1)
    before = torch.nn.functional.normalize(face_normals(reference, faces), dim=-1)
    return (now * before).sum(-1) < min_cosine


def unfold(template: Template, vertices: Tensor, before: Tensor, reference: Tensor) -> Tensor:
    """Takes a step back where it folds triangles against `reference`, and only there.

    vertices, before, reference (B,V,3): a vertex keeps a share of its step from `before`, halved
    each round at folded triangles and evened out towards their neighbours. Each scan by itself.
    """
    step, share = vertices - before, torch.ones_like(vertices[..., :1])
    for _ in range(ROUNDS):
        folded = folded_triangles(before + share * step, reference, template.faces)
        if not bool(folded.any()):
            break
        touched = torch.zeros_like(share)
        for corner in range(3):
            touched[..., 0].index_add_(1, template.faces[:, corner], folded.double())
        halved = torch.where(touched > 0, share / 2, share)
        evened = torch.minimum(halved, template.neighbour_mean(halved))
        share = torch.where(folded.any(1)[:, None, None], evened, share)
    return before + share * step


def keep_rigid(template: Template, vertices: Tensor, reference: Tensor) -> Tensor:
    """Replaces each small component (an eyeball) by a rigid motion of itself in `reference`."""
    result = vertices.clone()
    for part in template.loose:
        rotation, translation = umeyama(reference[:, part], vertices[:, part])
        result[:, part] = reference[:, part] @ rotation.mT + translation[:, None]
    return result
