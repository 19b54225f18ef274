"""The face model as a layer: coefficients to vertices and landmarks, in millimetres."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.flame.lbs import pose_vertices, shaped_vertices, to_tensors
from pipeline.flame.model import FlameModel


class Decoder(nn.Module):
    """A `FlameModel` (Li et al. 2017) whose arrays move with the network that it is a part of.

    Nothing in it is trained, and none of it is saved with the weights.
    """

    faces: Tensor  # (F,3) int64
    landmark_corners: Tensor  # (L,3) int64, vertices
    landmark_weights: Tensor  # (L,3)
    landmark_68: Tensor  # (L,) int64, iBUG's numbers; -1 for others

    def __init__(self, model: FlameModel, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        tensors = to_tensors(model, dtype=dtype)
        self._names = [name for name, value in vars(tensors).items() if isinstance(value, Tensor)]
        for name in self._names:
            self.register_buffer(name, getattr(tensors, name), persistent=False)
        self._tensors = tensors
        self.model = model
        if model.landmarks is not None:
            marks = model.landmarks
            corners = torch.as_tensor(model.faces[marks.triangles])
            self.register_buffer("landmark_corners", corners, persistent=False)
            weights = torch.as_tensor(marks.barycentric).to(dtype)
            self.register_buffer("landmark_weights", weights, persistent=False)
            self.register_buffer("landmark_68", torch.as_tensor(marks.indices_68), persistent=False)

    def forward(
        self,
        shape: Tensor,
        expression: Tensor | None = None,
        pose: Tensor | None = None,
        translation_mm: Tensor | None = None,
    ) -> Tensor:
        """(B,s) identity, (B,e) expression, (B,3j) axis-angle, (B,3) -> (B,V,3) mm; what is not
        given is zero."""
        given = (expression, 0), (pose, 0), (translation_mm, 3)
        rest = [shape.new_zeros(len(shape), n) if x is None else x for x, n in given]
        own = replace(self._tensors, **{name: getattr(self, name) for name in self._names})
        if pose is None and translation_mm is None:  # skinning leaves a head at rest as it is
            return shaped_vertices(own, shape, rest[0])
        return pose_vertices(own, shape, *rest)

    def landmarks(self, vertices: Tensor) -> Tensor:
        """(B,V,3) -> (B,68,3) iBUG points, NaN where the model has none. Raises ModelError for a
        model without landmarks."""
        if self.model.landmarks is None:
            raise ModelError(f"model {self.model.name} has no landmarks; name its embedding")
        own = (vertices[:, self.landmark_corners] * self.landmark_weights[..., None]).sum(2)
        known = self.landmark_68 >= 0
        found = vertices.new_full((len(vertices), 68, 3), torch.nan)
        found[:, self.landmark_68[known]] = own[:, known]
        return found
