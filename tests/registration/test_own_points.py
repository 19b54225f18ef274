"""A bare template with a few vertices of the user's own, and scans with as many points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.registration import register
from pipeline.types import Array
from tests.registration.model_scans import make_scan

POINTS_68 = (36, 45, 30, 48, 54)
"""Outer corners of the eyes, tip of the nose, corners of the mouth."""


def some(embedding: LandmarkEmbedding) -> tuple[Array, Array]:
    """Triangles and corners of the five."""
    rows = [int(np.flatnonzero(embedding.indices_68 == point)[0]) for point in POINTS_68]
    return embedding.triangles[rows], embedding.barycentric[rows]


def test_five_points_in_order_lead_a_bare_template_to_a_face(
    model: FlameModel, bare: FlameModel
) -> None:
    assert bare.landmarks is not None
    truth = make_scan(model, 21)
    own = replace(bare, landmarks=LandmarkEmbedding(np.full(5, -1), *some(bare.landmarks)))
    marks = truth.scan.landmarks_mm
    assert marks is not None
    scan = replace(
        truth.scan,
        landmarks_mm=marks[list(POINTS_68)],
        landmark_scheme="own",
        landmark_confidence=np.ones(5),
    )
    result = register([scan], own)[0]
    assert result.status == "converged"
    error = np.linalg.norm(result.vertices_mm - truth.vertices_mm, axis=1)
    assert error[bare.regions["face"]].mean() < 1.0
