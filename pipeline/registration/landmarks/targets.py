"""Landmarks of scan and template matched by their iBUG index, or in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.flame.model import LandmarkEmbedding
from pipeline.geometry.rigid import check_spread, umeyama
from pipeline.landmarks.schemes import CONTOUR_68, to_68
from pipeline.registration.gauss_newton.sites import Rows
from pipeline.registration.landmarks.calibration import (
    NOISE_MM,
    LandmarkCalibration,
    general_calibration,
)
from pipeline.registration.matches import ScanSurface
from pipeline.registration.template import Template
from pipeline.types import Array, Scan

GAUSSIAN = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""
NO_LANDMARKS = LandmarkEmbedding(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)))


@dataclass(frozen=True, eq=False)
class LandmarkTargets:
    """The template's L landmarks that are no contour points, and where B scans have them."""

    corners: Tensor  # (L,3) vertex indices
    barycentric: Tensor  # (L,3)
    points: Tensor  # (B,L,3) mm, 0 where missing
    confidence: Tensor  # (B,L) in [0, 1], 0 where missing
    offset: Tensor  # (B,L,3) mm in the rest frame: the source's landmark less the model's
    spread: Tensor  # (B,L) mm, what is not known of the offset, along the surface
    noise: Tensor  # (B,L) mm, standard deviation an axis

    def of(self, rows: list[int]) -> LandmarkTargets:
        """The same for some of the scans."""
        parts = ("points", "confidence", "offset", "spread", "noise")
        return replace(self, **{name: getattr(self, name)[rows] for name in parts})

    def with_noise_of(self, surfaces: Sequence[ScanSurface]) -> LandmarkTargets:
        """The same with the noise that shows: how far scans' landmarks lie off their surfaces."""
        shown = []
        for points, confidence, surface in zip(self.points, self.confidence, surfaces, strict=True):
            given = points[confidence > 0]
            if not len(given):
                shown.append(given.new_zeros(()))
                continue
            at = surface.index.nearest_vertex(given)
            off = ((given - surface.index.vertices[at]) * surface.normals[at]).sum(-1)
            shown.append(GAUSSIAN * off.abs().median())
        return replace(self, noise=torch.maximum(self.noise, torch.stack(shown)[:, None]))

    def positions(self, vertices: Tensor) -> Tensor:
        """(B,V,3) -> (B,L,3) landmarks of the template."""
        return (vertices[:, self.corners] * self.barycentric[..., None]).sum(-2)

    def frames(self, vertices: Tensor) -> Tensor:
        """(B,V,3) -> (B,L,3,3): the surface's normal and two tangents at each landmark, as rows."""
        a, b, c = vertices[:, self.corners].unbind(2)
        along = torch.nn.functional.normalize(b - a, dim=-1)
        normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        return torch.stack([normal, along, torch.linalg.cross(normal, along)], 2)

    def pull(self, vertices: Tensor, rotations: Tensor, more_mm: float, robust_mm: float) -> Rows:
        """Eq. 5 of `model_fit.py`: three rows a landmark towards the scan, in 1/mm² and mm.

        rotations (B,L,3,3) turn the rest frame at each landmark. The covariance of a landmark is
        its noise, and along the surface what is not known of its definition besides (its unknown
        offset integrated out); `more_mm` adds what the unknowns cannot follow. At `robust_mm`, more
        where the definition is loose, a landmark has lost three quarters of its weight.
        """
        gap = self.points - self.positions(vertices)
        gap = gap - (rotations @ self.offset[..., None])[..., 0]
        across = self.noise.square() + more_mm**2
        along = across + self.spread.square()
        variance = torch.stack([across, along, along], -1)
        frames = self.frames(vertices)
        limit = robust_mm**2 + 4 * self.spread.square()
        robust = (limit / (limit + gap.square().sum(-1))) ** 2
        weight = (self.confidence * robust)[..., None] / variance
        gap = (frames @ gap[..., None])[..., 0]
        directions = frames.transpose(1, 2).flatten(1, 2)
        return Rows(directions, weight.mT.flatten(1), gap.mT.flatten(1))

    def mean_error(self, vertices: Tensor) -> list[float | None]:
        """Mean distance of each scan's landmarks to the template's, mm."""
        distance = (self.points - self.positions(vertices)).norm(dim=-1)
        has = self.confidence > 0
        return [
            float(d[h].mean()) if bool(h.any()) else None
            for d, h in zip(distance, has, strict=True)
        ]


def landmark_targets(
    template: Template,
    scans: Sequence[Scan],
    calibrations: Sequence[LandmarkCalibration | None] | None = None,
    noise_mm: float = NOISE_MM,
) -> LandmarkTargets:
    """Pairs the model's landmarks with each scan's; contour points have no place of their own.

    A source without a calibration has noise of `noise_mm`. Raises RegistrationError for a
    calibration of another number of landmarks than the model's.
    """
    embedding = template.model.landmarks or NO_LANDMARKS
    keep = np.flatnonzero(~np.isin(embedding.indices_68, CONTOUR_68))
    points = np.zeros((len(scans), len(keep), 3))
    confidence = np.zeros(points.shape[:2])
    known = []
    for row, scan in enumerate(scans):
        found, confidence[row] = landmarks_of(scan, embedding, keep)
        points[row] = np.nan_to_num(found)
        given = calibrations[row] if calibrations is not None else None
        known.append(given or general_calibration(embedding, scan.landmark_scheme or "", noise_mm))
        check_calibration(scan, known[-1], embedding)

    def real(array: Array) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=template.device)

    def of_each(name: str) -> Tensor:
        rows = [getattr(calibration, name)[keep] for calibration in known]
        return real(np.stack(rows) if rows else np.zeros((0, len(keep))))

    return LandmarkTargets(
        corners=template.faces[torch.as_tensor(embedding.triangles[keep], device=template.device)],
        barycentric=real(embedding.barycentric[keep]),
        points=real(points),
        confidence=real(confidence),
        offset=of_each("offset_mm"),
        spread=of_each("offset_std_mm"),
        noise=of_each("noise_mm"),
    )


def check_calibration(
    scan: Scan, calibration: LandmarkCalibration, embedding: LandmarkEmbedding
) -> None:
    """Raises RegistrationError where it is of another number of landmarks than the model's."""
    if len(calibration.noise_mm) != len(embedding.indices_68):
        raise RegistrationError(
            f"scan {scan.scan_id}: a calibration of {len(calibration.noise_mm)} landmarks, the "
            f"model has {len(embedding.indices_68)}: it was made with another embedding"
        )


def landmarks_of(scan: Scan, embedding: LandmarkEmbedding, keep: Array) -> tuple[Array, Array]:
    """The scan's (L,3) mm and their confidence (L,), at the rows of the model's that are kept."""
    if embedding.in_order:
        return landmarks_in_order(scan, len(keep))
    points, confidence = landmarks_68(scan)
    names = embedding.indices_68[keep]
    return points[names], confidence[names]


def landmarks_in_order(scan: Scan, count: int) -> tuple[Array, Array]:
    """The scan's landmarks (L,3) mm and their confidence (L,), none where they are not `count`."""
    if scan.landmarks_mm is None or len(scan.landmarks_mm) != count:
        return np.full((count, 3), np.nan), np.zeros(count)
    missing = ~np.isfinite(scan.landmarks_mm).all(axis=1)
    given = np.ones(count) if scan.landmark_confidence is None else scan.landmark_confidence
    return scan.landmarks_mm, np.where(missing, 0.0, np.nan_to_num(given))


def landmarks_68(scan: Scan) -> tuple[Array, Array]:
    """The scan's landmarks (68,3) mm and their confidence (68,) in [0, 1], 0 where missing."""
    if scan.landmarks_mm is None or scan.landmark_scheme is None:
        return np.full((68, 3), np.nan), np.zeros(68)
    points = to_68(scan.landmark_scheme, scan.landmarks_mm)
    given = scan.landmark_confidence
    values = np.ones(len(scan.landmarks_mm)) if given is None else np.asarray(given, np.float64)
    confidence = to_68(scan.landmark_scheme, np.repeat(values[:, None], 3, axis=1))[:, 0]
    missing = ~np.isfinite(points).all(axis=1) | np.isnan(confidence)
    return np.where(missing[:, None], np.nan, points), np.where(missing, 0.0, confidence)


def rigid_from_landmarks(
    vertices: Tensor, landmarks: LandmarkTargets, row: int, scan_id: str
) -> tuple[Tensor, Tensor]:
    """(3,3), (3,): moves the template (V,3) onto the landmarks of scan `row`.

    Two rounds: the second trusts landmarks less that the first left far away. Raises
    RegistrationError where fewer than three landmarks match or all lie on a line.
    """
    has = landmarks.confidence[row] > 0
    source = (landmarks.positions(vertices[None])[0] + landmarks.offset[row])[has]
    target, weight = landmarks.points[row, has], landmarks.confidence[row, has]
    check_spread(target, f"scan {scan_id}: landmarks")
    rotation, translation = umeyama(source, target, weight)
    gap = (source @ rotation.mT + translation - target).square().sum(-1)
    scale = gap.median().clamp_min(25.0)
    return umeyama(source, target, weight * (scale / (scale + gap)) ** 2)
