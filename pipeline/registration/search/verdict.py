"""Whether the best fit is a face, and whether another pose is as good."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.errors import RegistrationError
from pipeline.geometry.rigid import umeyama
from pipeline.refusals import Code
from pipeline.registration.search.face import Face
from pipeline.registration.search.fitting import Fit
from pipeline.registration.search.poses import Poses
from pipeline.registration.search.surface import ASIDE_MM, Surface, offsets, past_edge

TOLERANCE_MM = 4.0
"""Off by this much, a point of the fitted face confirms nothing."""
MIN_AGREEMENT, MIN_SHARE, MIN_LEAD = 0.6, 0.45, 0.05
"""A face must be confirmed where it bends and the scan has data, show enough of that, and beat
other poses. Of 200 faces and parts of faces the least had .67, .63, .20; of balls, planes, boxes,
torsos, backs of heads and scalps none with such a share exceeded .47 in agreement."""
RIVAL_DEGREES, RIVAL_MM = 15.0, 15.0
"""A pose so far from the best is another one."""


@dataclass(frozen=True)
class Verdict:
    """What one fit is worth, each in [0, 1] but the score in [-1, 1]."""

    score: float
    """Confirmed minus contradicted share of the face."""
    agreement: float
    """Share of the face that is confirmed where the scan has data, weighted by relief."""
    share: float
    """Share of the face's relief where the scan has data."""


def judged(face: Face, surface: Surface, fit: Fit) -> tuple[list[Verdict], Poses]:
    """The worth of each fit, and the rigid motion closest to it where the scan has data."""
    n = len(face.relief)
    points, normals = fit.poses.moved(fit.shapes[:, :n]), fit.poses.turned(face.normals[:n])
    near = surface.tree.query(points)[1]
    height, aside = offsets(surface, near, points)
    seen = ~past_edge(height, aside)
    cosine = (normals * surface.normals[near]).sum(-1)
    confirmed = np.clip(1 - (height / TOLERANCE_MM) ** 2, 0, 1) * seen
    confirmed *= np.clip((cosine - 0.5) / 0.3, 0, 1)
    score = np.where(seen, 2 * confirmed - 1, 0.0).mean(1)
    share = (seen * face.relief).mean(1)
    agreement = (confirmed * face.relief).mean(1) / np.maximum(share, 1e-9)
    verdicts = [Verdict(*map(float, v)) for v in zip(score, agreement, share, strict=True)]
    source = np.broadcast_to(face.points[:n], points.shape).copy()
    weight = confirmed * (aside < ASIDE_MM) + 1e-6
    rotation, translation = umeyama(*map(torch.from_numpy, (source, points, weight)))
    return verdicts, Poses(rotation.numpy(), translation.numpy())


def chosen(scan_id: str, face: Face, verdicts: list[Verdict], poses: Poses) -> int:
    """The best fit, if it is a face and no different pose fits about as well.

    Raises RegistrationError: no face, or two poses.
    """
    score = np.array([v.score for v in verdicts])
    best = int(score.argmax())
    found = verdicts[best]
    if found.agreement < MIN_AGREEMENT or found.share < MIN_SHARE:
        raise RegistrationError(
            f"scan {scan_id}: no landmarks, and no pose lays a face on it: the best agrees in "
            f"{found.agreement:.2f} of the {found.share:.2f} of the face that it could show, "
            f"expected at least {MIN_AGREEMENT} of {MIN_SHARE}; give landmarks",
            Code.NO_FACE,
            {"agreement": found.agreement, "share": found.share},
        )
    places = poses.places(face.centre)
    shift = np.linalg.norm(places - places[best], axis=1)
    turn = poses.degrees_from(poses.rotations[best])
    other = (turn > RIVAL_DEGREES) | (shift > RIVAL_MM)
    if other.any() and found.score - score[other].max() < MIN_LEAD:
        raise RegistrationError(
            f"scan {scan_id}: no landmarks, and two poses fit about equally (scores "
            f"{found.score:.2f} and {score[other].max():.2f}); give landmarks",
            Code.POSE_OPEN,
            {"score": found.score, "other_score": float(score[other].max())},
        )
    return best
