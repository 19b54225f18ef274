"""A face model of its landmarks alone, for networks that need no other vertex."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.errors import ModelError
from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.types import Array


def landmark_model(model: FlameModel) -> FlameModel:
    """The model reduced to the corners of its landmarks' triangles and one vertex a joint.

    Its landmarks are those of the whole model for any coefficients: shape moves the joints' own
    vertices as it moves the joints. Raises ModelError for a model without the 68 points of iBUG,
    or some of them.
    """
    marks = model.landmarks
    if marks is None or marks.in_order or not len(marks.indices_68):
        raise ModelError(
            f"model {model.name} has no landmarks of the iBUG scheme; name an embedding that has"
        )
    corners = model.faces[marks.triangles]  # (L,3)
    kept, places = np.unique(corners, return_inverse=True)
    n, j = len(kept), len(model.joint_regressor)

    def reduced(of_vertices: Array) -> Array:
        """(V,…) -> (n+J,…)"""
        at_joints = np.tensordot(model.joint_regressor, of_vertices, 1)
        return np.concatenate([of_vertices[kept], at_joints])

    unmoved = np.zeros((j, 3, model.pose_basis_mm.shape[-1]))
    return replace(
        model,
        name=f"{model.name}, landmarks",
        template_mm=reduced(model.template_mm),
        faces=places.reshape(-1, 3).astype(np.int64),
        shape_basis_mm=reduced(model.shape_basis_mm),
        expression_basis_mm=reduced(model.expression_basis_mm),
        pose_basis_mm=np.concatenate([model.pose_basis_mm[kept], unmoved]),
        joint_regressor=np.eye(j, n + j, n),
        weights=np.concatenate([model.weights[kept], np.eye(j)]),
        landmarks=LandmarkEmbedding(marks.indices_68, np.arange(len(corners)), marks.barycentric),
        regions={},
        triangle_part=None,
    )
