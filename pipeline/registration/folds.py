"""Keeps a deformed template a surface: no inverted triangles, eyeballs in one piece."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.geometry.mesh import face_normals
from pipeline.geometry.rigid import umeyama
from pipeline.registration.template import Template

ROUNDS = 30
MIN_COSINE = 0.1
"""A triangle whose normal turns further against the reference counts as folded (0 is flipped)."""


def folded_triangles(vertices: Tensor, reference: Tensor, faces: Tensor) -> Tensor:
    """(B,V,3), (B,V,3), (F,3) -> (B,F) bool."""
    now = torch.nn.functional.normalize(face_normals(vertices, faces), dim=-1)
    before = torch.nn.functional.normalize(face_normals(reference, faces), dim=-1)
    return (now * before).sum(-1) < MIN_COSINE


def unfold(template: Template, vertices: Tensor, reference: Tensor) -> Tensor:
    """Smooths the displacement from `reference` around folded triangles until none is left.

    (B,V,3) both. Each round averages it over the neighbours there, and the place grows by a ring:
    a displacement that varies slowly folds nothing.
    """
    displacement = vertices - reference
    for _ in range(ROUNDS):
        folded = folded_triangles(reference + displacement, reference, template.faces)
        if not bool(folded.any()):
            break
        touched = torch.zeros_like(displacement[..., :1])
        for corner in range(3):
            touched[..., 0].index_add_(1, template.faces[:, corner], folded.double())
        around = touched + template.neighbour_mean(touched)
        mean = template.neighbour_mean(displacement)
        displacement = torch.where(around > 0, mean, displacement)
    return reference + displacement


def keep_rigid(template: Template, vertices: Tensor, reference: Tensor) -> Tensor:
    """Replaces each small component (an eyeball) by a rigid motion of itself in `reference`."""
    result = vertices.clone()
    for part in template.loose:
        rotation, translation = umeyama(reference[:, part], vertices[:, part])
        result[:, part] = reference[:, part] @ rotation.mT + translation[:, None]
    return result
