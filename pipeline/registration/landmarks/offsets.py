"""The calibration of a source's landmarks, from scans of it that were registered loosely.

Where landmarks have little say, the surface decides where the model's own come to lie; what the
source's lie beside them in most of its scans is its definition, what varies is noise. A loose
registration slides along the surface, too, and the more so the less the model explains of a face:
that limits how surely an offset is known, whatever the number of scans, and the general spread of
definitions (`DEFINITION_MM`) is the prior that an estimate is drawn to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import rotation_matrices
from pipeline.landmarks.schemes import CONTOUR_68
from pipeline.registration.coefficients import Coefficients, vertex_rotations
from pipeline.registration.landmarks.calibration import (
    NOISE_MM,
    LandmarkCalibration,
    general_calibration,
)
from pipeline.registration.landmarks.targets import landmarks_68, landmarks_in_order
from pipeline.registration.template import Template
from pipeline.types import Array, Registration, Scan

MIN_SCANS = 5
"""Fewest registered scans with landmarks: among fewer, one wrong scan shifts a median, and
definitions in general say as much."""
LOOSE_MM = 6.0
"""Noise an axis of landmarks while a source is not calibrated: enough for them to find the pose
and open a mouth, too little to drag the surface."""
FAR, ROUNDS = 2.5, 10
"""Times the median distance: one in fifty right ones is further off; iterations of the mean."""
PRIOR_SCANS = 4
"""Number of scans that the general noise counts as."""
LEAST_NOISE_MM = 0.4
"""Nobody marks a point of a face better than this."""
ACROSS_MM = 1.0
"""Standard deviation across the surface of what definitions differ by: corners have a depth."""

SLIDE = np.full(68, 0.2)
"""(68,) standard deviation along the surface of what loose registrations of a source have in common
at an iBUG landmark, for each millimetre that the model leaves unexplained of its faces; from ICT
faces and FLAME's deformed head, both registered with the ICT model."""
SLIDE[[39, 42, 48, 54, 30, 33, 31, 32, 34, 35]] = 0.1
SLIDE[17:27] = 0.4
SLIDE[[17, 26]] = 0.9
LEAST_SLIDE_MM = 0.15
"""The same for faces that the model explains."""
WANDER = 0.2
"""Like SLIDE, for what differs from scan to scan."""

ODD = 2.5
"""Multiple of the spread of definitions beyond which an offset is reported to the user."""


def loose_calibration(embedding: LandmarkEmbedding, scheme: str) -> LandmarkCalibration:
    """The calibration for the registrations that `observe` takes: landmarks have little say."""
    general = general_calibration(embedding, scheme)
    loose = np.full_like(general.noise_mm, LOOSE_MM)
    return LandmarkCalibration(scheme, general.offset_mm, general.offset_std_mm, loose, 0)


@dataclass(frozen=True, eq=False)
class Observed:
    """What one loosely registered scan shows of its source's landmarks."""

    gap_mm: Array
    """(L,3) from each of the model's landmarks to the scan's, turned back by the pose of its place;
    NaN where missing."""
    unexplained_mm: float
    """Median length of what the model leaves unexplained of the face."""


def estimate(model: FlameModel, scheme: str, observed: Sequence[Observed]) -> LandmarkCalibration:
    """The calibration of the landmarks of these scans, all of one source and scheme.

    `observed` is from registrations with `loose_calibration`. Each landmark's offset is a robust
    mean over the scans, then the mean of the normal posterior with the general spread of
    definitions as its prior; what is left of its spread, less the loose registrations' own, is the
    noise. A landmark that fewer than MIN_SCANS show keeps what is known in general, as contour
    points do, which have no place. Raises RegistrationError where the model has no landmarks.
    """
    embedding = landmarks_of_model(model)
    general = general_calibration(embedding, scheme)
    if len(observed) < MIN_SCANS:
        return general
    gaps = np.stack([one.gap_mm for one in observed])
    shown = np.isfinite(gaps).all(-1).sum(0) >= MIN_SCANS
    rows = np.flatnonzero(shown & ~np.isin(embedding.indices_68, CONTOUR_68))
    offset, std, noise = (
        array.copy() for array in (general.offset_mm, general.offset_std_mm, general.noise_mm)
    )
    if len(rows):
        frames = rest_frames(model, embedding)[rows]
        unexplained = float(np.median([one.unexplained_mm for one in observed]))
        names = np.maximum(embedding.indices_68[rows], 0)
        found, std[rows], noise[rows] = posterior(
            np.einsum("lkd,nld->nlk", frames, gaps[:, rows]),
            general.offset_std_mm[rows],
            np.hypot(SLIDE[names] * unexplained, LEAST_SLIDE_MM),
            WANDER * unexplained,
        )
        offset[rows] = np.einsum("lkd,lk->ld", frames, found)
    return LandmarkCalibration(scheme, offset, std, noise, len(observed))


def posterior(
    gaps: Array, definition: Array, slide: Array, wander: float
) -> tuple[Array, Array, Array]:
    """Offsets (L,3), their standard deviation along the surface (L,) and the noise (L,) from gaps
    (n,L,3); gaps and offsets along normal, tangent, tangent; rows of NaN are missing.

    definition (L,), slide (L,), wander: standard deviations along the surface of definitions, and
    of what the registrations are off together and each for itself.
    """
    mean, variance, count = robust_mean(gaps)
    prior = np.stack([np.full_like(definition, ACROSS_MM), definition, definition], 1) ** 2
    of_mean = variance / count[:, None]
    of_mean[:, 1:] += slide[:, None] ** 2
    share = prior / (prior + of_mean)
    std = np.sqrt((share * of_mean)[:, 1:].mean(1))
    # people who click on a surface leave it less than they move along it
    seen = np.maximum(variance[:, 0], variance[:, 1:].mean(1) - wander**2)
    noise = (PRIOR_SCANS * NOISE_MM**2 + count * seen) / (PRIOR_SCANS + count)
    return mean * share, std, np.sqrt(np.maximum(noise, LEAST_NOISE_MM**2))


def observe(
    template: Template, scans: Sequence[Scan], registrations: Sequence[Registration]
) -> list[Observed]:
    """What each of these registrations of scans shows; those that failed are left out.

    Raises RegistrationError where the model has no landmarks.
    """
    embedding = landmarks_of_model(template.model)
    pairs = [p for p in zip(scans, registrations, strict=True) if p[1].status != "failed"]
    faces, face = template.model.faces, template.face_region.cpu().numpy()
    nearest = faces[embedding.triangles, embedding.barycentric.argmax(1)]
    observed = []
    for scan, registration in pairs:
        vertices = registration.vertices_mm.astype(np.float64)
        gap = landmarks_of(scan, embedding) - embedding.positions(vertices, faces)
        turned = pose_rotations(template, registration)[nearest]
        shown = face[registration.validity[face]]
        beyond = np.linalg.norm(registration.offset_mm[shown], axis=1)
        back = np.einsum("lji,lj->li", turned, gap)
        observed.append(Observed(back, float(np.median(beyond)) if len(shown) else 0.0))
    return observed


def landmarks_of_model(model: FlameModel) -> LandmarkEmbedding:
    if model.landmarks is None:
        raise RegistrationError(
            f"calibration: the model {model.name} has no landmarks; name an embedding"
        )
    return model.landmarks


def pose_rotations(template: Template, registration: Registration) -> Array:
    """(V,3,3): how the registration's pose turns the surface at each vertex."""
    joints = max(len(template.tensors.parents), 1)
    pose = torch.from_numpy(registration.pose[: 3 * joints].astype(np.float64))
    none = torch.zeros(1, 0, dtype=torch.float64, device=template.device)
    rotations = rotation_matrices(pose.reshape(1, joints, 3).to(template.device))
    turned = vertex_rotations(template, Coefficients(none, none, rotations, none))
    return np.asarray(turned[0].cpu().numpy())


def landmarks_of(scan: Scan, embedding: LandmarkEmbedding) -> Array:
    """(L,3) mm of the scan, in the embedding's order, NaN where missing."""
    if embedding.in_order:
        points, confidence = landmarks_in_order(scan, len(embedding.indices_68))
    else:
        points, confidence = (values[embedding.indices_68] for values in landmarks_68(scan))
    return np.asarray(np.where((confidence > 0)[:, None], points, np.nan))


def rest_frames(model: FlameModel, embedding: LandmarkEmbedding) -> Array:
    """(L,3,3): the surface's normal and two tangents at each landmark at rest, as rows."""
    rest, faces = torch.from_numpy(model.template_mm), torch.from_numpy(model.faces)
    corners = vertex_normals(rest, faces).numpy()[model.faces[embedding.triangles]]
    normals = np.einsum("lkd,lk->ld", corners, embedding.barycentric)
    return np.asarray(np.linalg.svd(normals[:, None])[2])


def robust_mean(values: Array) -> tuple[Array, Array, Array]:
    """(n,L,3), NaN rows missing but not all of a column -> mean (L,3), variance (L,3), number of
    values that agree (L,).

    Geman–McClure weights in the distance to the mean, from a start at the median (iteratively
    reweighted least squares); values further off than FAR times the median distance are wrong.
    """
    there = np.asarray(np.isfinite(values).all(-1))
    filled = np.where(there[..., None], values, 0.0)
    mean = np.nanmedian(values, 0)
    for _ in range(ROUNDS):
        distance = np.linalg.norm(values - mean, axis=-1)
        limit = FAR * np.maximum(np.nanmedian(distance, 0), LEAST_NOISE_MM)
        square = np.nan_to_num(distance) ** 2
        weight = np.where(there, (limit**2 / (limit**2 + square)) ** 2, 0.0)
        mean = (weight[..., None] * filled).sum(0) / weight.sum(0)[:, None]
    agree = there & (square <= limit**2)
    count = agree.sum(0)
    deviation = np.where(agree[..., None], filled - mean, 0.0)
    return mean, (deviation**2).sum(0) / np.maximum(count - 1, 1)[:, None], count


def odd_landmarks(
    calibration: LandmarkCalibration, embedding: LandmarkEmbedding
) -> list[tuple[int, float]]:
    """Landmarks (rows of the embedding) further from the model's than definitions allow, with how
    far (mm): most likely the scheme's order is another."""
    allowed = ODD * general_calibration(embedding, calibration.scheme).offset_std_mm
    length = np.linalg.norm(calibration.offset_mm, axis=1)
    return [(int(i), float(length[i])) for i in np.flatnonzero(length > allowed)]
