"""A template as the search sees it: its face, what surrounds it, and how faces vary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from scipy.spatial import cKDTree

from pipeline.geometry.features import ring_profiles, thin
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import rotation_matrices
from pipeline.registration.coefficients import posed_vertices, rest_coefficients
from pipeline.registration.template import Template
from pipeline.types import Array

FEATURE_CELL_MM = 10.0
"""Of the points whose profiles are compared, of template and scan."""
FACE_CELL_MM, CONTEXT_CELL_MM, CONTEXT_MM = 7.0, 10.0, 50.0
"""The template's points: its face, and around it, sparser, what else holds the pose."""
MODES, SMOOTH_MODES = 60, 15
SMOOTH_MM, BARE_SMOOTH_MM, SMOOTH_REACH_MM = 1.5, 4.0, 35.0
"""Deviation and reach of the smooth deformations besides a model's own, and of a bare template."""
EXPRESSION_RMS_MM, JAW_RAD = 9.0, 0.2
"""What expressions move the face by, and one deviation of the jaw where it is a joint."""
RELIEF_MM = 20.0
JAW = 2
"""The joint of that name where a model has FLAME's."""


@dataclass(frozen=True, eq=False)
class Face:
    """The part of a template that any face scan should show, and how faces vary."""

    points: Array  # (P,3): N of the face, then its context
    normals: Array  # (P,3)
    modes: Array  # (P,3,K) one standard deviation each
    relief: Array  # (N,) how much the face bends there, mean 1
    places: Array  # (M,3) where profiles were taken
    place_normals: Array  # (M,3)
    profiles: Array  # (M,R,5)
    spread: Array  # (R,5) standard deviation of the profiles over the face

    def every(self, wanted: int) -> slice:
        """About `wanted` of the face's own points."""
        return slice(0, len(self.relief), max(1, len(self.relief) // wanted))

    @property
    def centre(self) -> Array:
        """(3,) middle of the face."""
        return np.asarray(self.points[: len(self.relief)].mean(0))


@lru_cache(maxsize=4)
def face_of(template: Template) -> Face:
    """What the search knows of a template, made once."""
    data, region = template.data.cpu().numpy(), template.face_region.cpu().numpy()
    normals = vertex_normals(template.tensors.template, template.faces).cpu().numpy()
    vertices = template.tensors.template.cpu().numpy()
    on_face = cKDTree(vertices[region])
    # profiles at the face's rim need what lies around it
    places, place_normals = thin(vertices[data], normals[data], FEATURE_CELL_MM)
    profiles, _ = ring_profiles(places, place_normals)
    inner = on_face.query(places)[0] < FEATURE_CELL_MM
    sampled, smooth = thin(vertices[data], normals[data], FACE_CELL_MM)
    own = region[np.unique(on_face.query(sampled)[1])]
    around, _ = thin(vertices[data], normals[data], CONTEXT_CELL_MM)
    gap = on_face.query(around)[0]
    around = around[(gap > CONTEXT_CELL_MM) & (gap < CONTEXT_MM)]
    context = np.setdiff1d(data[cKDTree(vertices[data]).query(around)[1]], own)
    at = np.concatenate([own, context])
    points, normals = vertices[at], smooth[cKDTree(sampled).query(vertices[at])[1]]
    return Face(
        points=points,
        normals=normals,
        modes=modes_of(template, at),
        relief=relief(points[: len(own)], normals[: len(own)]),
        places=places[inner],
        place_normals=place_normals[inner],
        profiles=profiles[inner],
        spread=np.maximum(profiles[inner].std(0), 1e-3),
    )


def relief(points: Array, normals: Array) -> Array:
    """(N,) how far the normals around a point differ from its own: what makes a face a face."""
    near = cKDTree(points).query_ball_point(points, RELIEF_MM)
    mean = np.array([normals[i].mean(0) for i in near])
    bend = 1 - (mean * normals).sum(1)
    return np.asarray(bend / bend.mean())


def modes_of(template: Template, at: Array) -> Array:
    """(P,3,K): the principal modes of identity, expression, jaw and smooth deformation.

    The smooth ones are a Gaussian process with a Gaussian kernel (Lüthi et al. 2018): what a model
    does not know, and all that a bare template has.
    """
    tensors, index = template.tensors, torch.as_tensor(at, device=template.device)
    expression = tensors.expression_basis[:, index]
    size = expression.square().sum((0, 2)).mean().sqrt() if len(expression) else 1.0
    parts = [tensors.shape_basis[:, index], expression * EXPRESSION_RMS_MM / size]
    if len(tensors.parents) > JAW:
        rest = rest_coefficients(template, 1)
        turned = rest.rotations.clone()
        turned[:, JAW] = rotation_matrices(rest.translation.new_tensor([JAW_RAD, 0.0, 0.0]))
        opened = posed_vertices(template, replace(rest, rotations=turned))
        parts.append((opened - posed_vertices(template, rest))[:, index])
    points = tensors.template[index].cpu().numpy()
    square = np.square(points[:, None] - points[None]).sum(-1)
    values, vectors = np.linalg.eigh(np.exp(-square / (2 * SMOOTH_REACH_MM**2)))
    deviation = SMOOTH_MM if template.has_basis else BARE_SMOOTH_MM
    smooth = deviation * (vectors * np.sqrt(np.maximum(values, 0)))[:, -SMOOTH_MODES:]
    fields = np.einsum("pk,xd->kxpd", smooth, np.eye(3)).reshape(-1, len(at), 3)
    columns = np.concatenate([*(part.cpu().numpy() for part in parts), fields])
    u, s, _ = np.linalg.svd(columns.reshape(len(columns), -1).T, full_matrices=False)
    return np.asarray((u * s)[:, :MODES].reshape(len(at), 3, -1))
