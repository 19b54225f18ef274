"""Landmarks of a scan that came without any: those of the template registered to it.

On 11 ICT heads in any pose they lie .70 mm from the same places of the true surface, and by
quarters of falling confidence .50, .54, .73 and 1.03 mm (`tests/benchmarks/detected.py`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.landmarks.schemes import CONTOUR_68
from pipeline.types import Array, Registration, Scan

CERTAIN_MM = 2.0
"""A landmark with this error to expect has confidence one half: as far apart as two people's ideas
of a landmark are."""


def detected_landmarks(registration: Registration, model: FlameModel) -> tuple[Array, Array]:
    """(68,3) float32 iBUG points on the registered template, mm, and confidence (68,) in [0, 1].

    Confidence is 1 / (1 + (e / CERTAIN_MM)²) for an expected error e of the place the landmark has
    on the template. Missing, NaN and 0, are landmarks where the scan has no data, points of the
    face contour, which have no place of their own, and all where the model embeds none.
    """
    points, confidence = np.full((68, 3), np.nan, np.float32), np.zeros(68, np.float32)
    if model.landmarks is None:
        return points, confidence
    embedding = model.landmarks
    corners = model.faces[embedding.triangles]

    def at_landmarks(values: Array) -> Array:
        return np.asarray((values[corners] * embedding.barycentric).sum(axis=1))

    error = at_landmarks(registration.expected_error_mm.astype(np.float64))
    seen = at_landmarks(registration.validity.astype(np.float64)) >= 0.5
    seen &= ~np.isin(embedding.indices_68, CONTOUR_68) & (embedding.indices_68 >= 0)
    found = embedding.indices_68[seen]
    points[found] = embedding.positions(registration.vertices_mm, model.faces)[seen]
    confidence[found] = (1 / (1 + np.square(error / CERTAIN_MM)))[seen]
    return points, confidence


def with_detected_landmarks(scan: Scan, registration: Registration, model: FlameModel) -> Scan:
    """The scan with `detected_landmarks` where it has none of its own."""
    if scan.landmarks_mm is not None:
        return scan
    points, confidence = detected_landmarks(registration, model)
    if not confidence.any():
        return scan
    return replace(
        scan,
        landmarks_mm=points,
        landmark_scheme="ibug68",
        landmark_confidence=confidence,
        landmark_source="detected",
    )
