"""Where a face is on a scan without landmarks.

Matched features give hypotheses, a voxel grid scores them, the best are fitted with a few modes of
shape, and the winner must fit well and beat every different pose.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import RegistrationError
from pipeline.geometry.features import thin
from pipeline.geometry.rigid import rotation_matrices
from pipeline.refusals import Code
from pipeline.registration.search.face import FEATURE_CELL_MM, Face, face_of
from pipeline.registration.search.fitting import fitted
from pipeline.registration.search.hypotheses import hypotheses
from pipeline.registration.search.poses import Poses
from pipeline.registration.search.scoring import distinct, scores
from pipeline.registration.search.surface import Surface
from pipeline.registration.search.verdict import chosen, judged
from pipeline.registration.solvable import solvable
from pipeline.registration.template import Template
from pipeline.types import Array, Scan
from pipeline.units import OUTER_EYE_MM

SURFACE_CELL_MM = 7.0
SHORTLIST = (200, 14, 6)
"""Hypotheses scored well, fitted rigidly, fitted with shape."""
APART = 12.0
"""Degrees and millimetres that poses on a short list differ by."""
MAX_TURN_DEGREES = 50.0
"""From the declared axes, where a source declares them."""
START_DEGREES = 15.0
"""A known start is tried as it is and turned by this about each axis."""
SIZE_STEP = 0.85
"""A face so much smaller or larger than the template is still found."""


def search(
    template: Template, scan: Scan, outer_eye_mm: tuple[float, float] = OUTER_EYE_MM
) -> tuple[Tensor, Tensor]:
    """Rotation (3,3) and translation (3,) of the template's face onto the scan.

    The rigid motion that lies closest to the fitted face, where the scan has data. Where eye
    corners may be nearer or farther apart than adults', smaller and larger faces are tried too, and
    the middle of the template's face is laid onto that of the one found. Raises RegistrationError
    where no pose fits well or two different ones fit equally well.
    """
    face = face_of(template)
    first: RegistrationError | None = None
    for size in face_sizes(outer_eye_mm):
        resized = scan if size == 1 else replace(scan, vertices_mm=scan.vertices_mm / size)
        try:
            with solvable(scan.scan_id):
                rotation, translation = _best_of_all(face, resized)
        except RegistrationError as fault:
            first = first or fault
            continue
        middle = rotation @ torch.from_numpy(face.centre)
        return rotation, translation + (size - 1) * (middle + translation)
    assert first is not None
    raise first


def face_sizes(outer_eye_mm: tuple[float, float]) -> list[float]:
    """Sizes to try, relative to an adult's: 1 if it is among them, first, then smaller ones."""
    low, high = (mm / usual for mm, usual in zip(outer_eye_mm, OUTER_EYE_MM, strict=True))
    sizes: list[float] = []
    size = high
    while size >= low or not sizes:
        sizes.append(size)
        size *= SIZE_STEP
    return sorted(sizes, key=lambda size: abs(np.log(size)))


def _best_of_all(face: Face, scan: Scan) -> tuple[Tensor, Tensor]:
    """The pose among all hypotheses; raises as `search` does."""
    vertices, normals = scan.vertices_mm.astype(np.float64), scan.normals.astype(np.float64)
    surface = Surface.of(*thin(vertices, normals, SURFACE_CELL_MM))
    poses = hypotheses(face, *thin(vertices, normals, FEATURE_CELL_MM))
    if scan.oriented:
        poses = poses.of(poses.degrees_from(np.eye(3)) < MAX_TURN_DEGREES)
    if not len(poses.rotations):
        raise RegistrationError(
            f"scan {scan.scan_id}: no landmarks, and no part of it resembles a face; give "
            "landmarks",
            Code.NO_FACE,
        )
    for points, count, apart in ((60, SHORTLIST[0], 0.0), (200, SHORTLIST[1], APART)):
        score = scores(face, surface, poses, face.every(points))
        poses = distinct(face, poses, score, count, apart)
    return _refined(scan.scan_id, face, surface, poses)


def settle(
    template: Template, scan: Scan, rotation: Array, translation: Array
) -> tuple[Tensor, Tensor]:
    """`search` from one pose (3,3), (3,) that is known to about 20° and 30 mm.

    Raises RegistrationError where no face fits near it.
    """
    face = face_of(template)
    vertices, normals = scan.vertices_mm.astype(np.float64), scan.normals.astype(np.float64)
    surface = Surface.of(*thin(vertices, normals, SURFACE_CELL_MM))
    turns = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]) * np.radians(START_DEGREES)
    rotations = rotation_matrices(torch.from_numpy(turns)).numpy() @ rotation
    # turned about the face, which stays where the start puts it
    translations = rotation @ face.centre + translation - rotations @ face.centre
    with solvable(scan.scan_id):
        return _refined(scan.scan_id, face, surface, Poses(rotations, translations))


def _refined(scan_id: str, face: Face, surface: Surface, poses: Poses) -> tuple[Tensor, Tensor]:
    """The best of a few poses after rigid and shaped fits; raises as `search` does."""
    poses = fitted(face, surface, poses, shaped=False).poses
    score = scores(face, surface, poses, face.every(10_000))
    fit = fitted(face, surface, distinct(face, poses, score, SHORTLIST[2], APART), shaped=True)
    verdicts, poses = judged(face, surface, fit)
    winner = chosen(scan_id, face, verdicts, poses)
    return torch.from_numpy(poses.rotations[winner]), torch.from_numpy(poses.translations[winner])
