"""Where a face is on a scan without landmarks: features, sampled hypotheses, and a judge.

Hypotheses come from three matched features each (RANSAC, Fischler, Bolles 1981, on FPFH); they
are scored by how well the template's whole face lies on the scan, refined by rigid ICP, and the
best must beat every different one. The random numbers are seeded: a result repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.geometry.features import fpfh, smooth_over_radius, thin
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import umeyama
from pipeline.registration.template import Template
from pipeline.types import Array, Scan

CELL_MM = 5.0
NORMAL_RADIUS_MM = 12.0
FEATURE_RADIUS_MM = 35.0
CANDIDATES = 8
"""Scan points with the most similar feature that a template point may be."""
SAMPLES = 60_000
SHORTLIST = 1500
FINALISTS = 16
MAX_STRETCH = 0.12
"""Faces differ in size: three distances may differ this much, but none is ever scaled."""
TRUNCATE_MM = 10.0
MAX_TURN_DEGREES = 50.0
"""From the declared axes, where a source declares them."""
MAX_RESIDUAL = 0.36
MIN_LEAD = 0.06
"""The best hypothesis' truncated residual (0 perfect, 1 hopeless), and its lead over others."""


@dataclass(frozen=True, eq=False)
class Face:
    """Thinned points of a surface with normals, features and a k-d tree; numpy float64."""

    points: Array  # (N,3)
    normals: Array  # (N,3)
    features: Array  # (N,33)
    tree: cKDTree

    @classmethod
    def of(cls, points: Array, normals: Array) -> Face:
        points, normals = thin(points, normals, CELL_MM)
        normals = smooth_over_radius(points, normals, NORMAL_RADIUS_MM)
        return cls(points, normals, fpfh(points, normals, FEATURE_RADIUS_MM), cKDTree(points))


def template_face(template: Template) -> Face:
    """The part of the template that any face scan should show."""
    vertices = template.tensors.template
    normals = vertex_normals(vertices, template.faces)
    # features at the face's rim need what lies around it
    data = template.data.cpu().numpy()
    whole = Face.of(vertices.cpu().numpy()[data], normals.cpu().numpy()[data])
    region = cKDTree(vertices[template.face_region].cpu().numpy())
    keep = region.query(whole.points)[0] < CELL_MM
    points = whole.points[keep]
    return Face(points, whole.normals[keep], whole.features[keep], cKDTree(points))


def search(template: Template, scan: Scan) -> tuple[Tensor, Tensor]:
    """Rotation (3,3) and translation (3,) of the template's face onto the scan.

    Raises RegistrationError where no pose fits well or two different ones fit equally well.
    """
    rng = np.random.default_rng(0)
    face = template_face(template)
    target = Face.of(scan.vertices_mm.astype(np.float64), scan.normals.astype(np.float64))
    rotations, translations = hypotheses(face, target, rng)
    if scan.oriented:
        near = turn_degrees(rotations, np.eye(3)) < MAX_TURN_DEGREES
        rotations, translations = rotations[near], translations[near]
    if not len(rotations):
        raise RegistrationError(f"scan {scan.scan_id}: no part of it resembles a face")
    probe = rng.permutation(len(face.points))[:120]
    coarse = residuals(face.points[probe], face.normals[probe], target, rotations, translations)
    order = np.argsort(coarse, kind="stable")
    best = distinct(rotations, translations, face.points.mean(0), order)
    rotations, translations = refine(face, target, rotations[best], translations[best])
    final = residuals(face.points, face.normals, target, rotations, translations)
    return chosen(scan, face, rotations, translations, final)


def hypotheses(face: Face, target: Face, rng: np.random.Generator) -> tuple[Array, Array]:
    """(H,3,3), (H,3) rigid motions from three feature matches whose distances agree."""
    distance = torch.cdist(torch.from_numpy(face.features), torch.from_numpy(target.features))
    k = min(CANDIDATES, len(target.points))
    candidates = torch.topk(distance, k, largest=False).indices.numpy()
    triple = rng.integers(len(face.points), size=(SAMPLES, 3))
    partner = candidates[triple, rng.integers(k, size=(SAMPLES, 3))]
    a, b = face.points[triple], target.points[partner]
    length_a = np.linalg.norm(a - np.roll(a, 1, axis=1), axis=-1)
    length_b = np.linalg.norm(b - np.roll(b, 1, axis=1), axis=-1)
    agree = (length_a > 25) & (np.abs(length_b / np.maximum(length_a, 1) - 1) < MAX_STRETCH)
    good = np.flatnonzero(agree.all(1))
    rotation, translation = umeyama(torch.from_numpy(a[good]), torch.from_numpy(b[good]))
    # a motion that lays the points on top of each other must turn their normals alike
    turned = np.einsum("hij,hnj->hni", rotation.numpy(), face.normals[triple[good]])
    alike = (turned * target.normals[partner[good]]).sum(-1).min(1)
    keep = np.argsort(-alike, kind="stable")[:SHORTLIST]
    return rotation.numpy()[keep], translation.numpy()[keep]


def residuals(
    points: Array, normals: Array, target: Face, rotations: Array, translations: Array
) -> Array:
    """(H,) mean of the squared distance to the scan over TRUNCATE_MM², at most 1 a point.

    A point whose normal disagrees with the scan's counts as 1.
    """
    moved = np.einsum("hij,nj->hni", rotations, points) + translations[:, None]
    turned = np.einsum("hij,nj->hni", rotations, normals)
    distance, near = target.tree.query(moved.reshape(-1, 3), distance_upper_bound=TRUNCATE_MM)
    found = np.isfinite(distance)
    cosine = (turned.reshape(-1, 3) * target.normals[np.where(found, near, 0)]).sum(-1)
    cost = np.where(found & (cosine > 0.5), np.minimum(distance / TRUNCATE_MM, 1.0) ** 2, 1.0)
    return np.asarray(cost.reshape(len(moved), -1).mean(1))


def turn_degrees(rotations: Array, reference: Array) -> Array:
    """(H,3,3), (3,3) -> (H,) angle between them."""
    trace = np.einsum("hij,ij->h", rotations, reference)
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def distinct(rotations: Array, translations: Array, centre: Array, order: Array) -> Array:
    """The first FINALISTS of `order` that are no near copies (15°, 15 mm) of a better one."""
    kept: list[int] = []
    places = rotations @ centre + translations
    for candidate in order:
        if len(kept) == FINALISTS:
            break
        if kept:
            turn = turn_degrees(rotations[kept], rotations[candidate])
            shift = np.linalg.norm(places[kept] - places[candidate], axis=1)
            if ((turn < 15) & (shift < 15)).any():
                continue
        kept.append(int(candidate))
    return np.array(kept)


def refine(face: Face, target: Face, rotations: Array, translations: Array) -> tuple[Array, Array]:
    """Rigid ICP of all finalists at once, robustly weighted, its reach falling from 30 to 8 mm."""
    for reach in np.geomspace(30.0, 8.0, 12):
        moved = np.einsum("hij,nj->hni", rotations, face.points) + translations[:, None]
        turned = np.einsum("hij,nj->hni", rotations, face.normals)
        distance, near = target.tree.query(moved)
        weight = (reach**2 / (reach**2 + distance**2)) ** 2
        weight *= np.clip((turned * target.normals[near]).sum(-1), 1e-3, None)
        source = np.broadcast_to(face.points, moved.shape)
        r, t = umeyama(*(torch.from_numpy(x) for x in (source.copy(), target.points[near], weight)))
        rotations, translations = r.numpy(), t.numpy()
    return rotations, translations


def chosen(
    scan: Scan, face: Face, rotations: Array, translations: Array, final: Array
) -> tuple[Tensor, Tensor]:
    """The best finalist, if it fits and no different one fits about as well."""
    best = int(np.argmin(final))
    centre = face.points.mean(0)
    shift = np.linalg.norm(
        (rotations - rotations[best]) @ centre + translations - translations[best], axis=1
    )
    other = (turn_degrees(rotations, rotations[best]) > 20) | (shift > 20)
    second = float(final[other].min()) if other.any() else 1.0
    if final[best] > MAX_RESIDUAL:
        raise RegistrationError(
            f"scan {scan.scan_id}: no landmarks, and no pose lays a face on it (residual "
            f"{final[best]:.2f}, expected at most {MAX_RESIDUAL}); give landmarks"
        )
    if second - final[best] < MIN_LEAD:
        raise RegistrationError(
            f"scan {scan.scan_id}: no landmarks, and two poses fit about equally (residuals "
            f"{final[best]:.3f} and {second:.3f}); give landmarks"
        )
    return torch.from_numpy(rotations[best]), torch.from_numpy(translations[best])
