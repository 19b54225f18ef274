"""What a model is told, for a batch of scans, and where that puts its vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.flame.lbs import pose_model
from pipeline.geometry.rigid import rotation_to_axis_angle
from pipeline.registration.template import Template


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Identity, expression, pose and position for B scans; float64."""

    shape: Tensor  # (B,S)
    expression: Tensor  # (B,E)
    rotations: Tensor  # (B,max(J,1),3,3) of each joint against its parent
    translation: Tensor  # (B,3) mm

    @property
    def pose(self) -> Tensor:
        """(B,3J) axis-angle."""
        return rotation_to_axis_angle(self.rotations).flatten(1)


def rest_coefficients(template: Template, count: int) -> Coefficients:
    """The unposed mean shape, `count` times."""
    tensors = template.tensors
    empty = tensors.template.new_zeros
    joints = max(len(tensors.parents), 1)
    return Coefficients(
        shape=empty(count, len(tensors.shape_basis)),
        expression=empty(count, len(tensors.expression_basis)),
        rotations=torch.eye(3, dtype=torch.float64, device=template.device).expand(
            count, joints, 3, 3
        ),
        translation=empty(count, 3),
    )


def posed_vertices(template: Template, c: Coefficients) -> Tensor:
    """(B,V,3) mm."""
    return pose_model(template.tensors, c.shape, c.expression, c.pose, c.translation).vertices


def vertex_rotations(template: Template, c: Coefficients) -> Tensor:
    """(B,V,3,3): how the pose turns the surface at each vertex (the blended joint rotations)."""
    world = world_rotations(template, c)
    if not template.tensors.parents:
        return world.expand(-1, len(template.areas), 3, 3)
    return torch.einsum("vj,bjkl->bvkl", template.tensors.weights, world)


def world_rotations(template: Template, c: Coefficients) -> Tensor:
    """(B,max(J,1),3,3) of each joint against the scan's frame."""
    world = [c.rotations[:, 0]]
    for joint, parent in enumerate(template.tensors.parents[1:], start=1):
        world.append(world[parent] @ c.rotations[:, joint])
    return torch.stack(world, 1)


def place(
    template: Template, c: Coefficients, rotation: Tensor, translation: Tensor
) -> Coefficients:
    """Coefficients whose vertices are the unplaced ones moved by v -> R v + t (B,3,3), (B,3)."""
    moved = replace(
        c, rotations=torch.cat([rotation[:, None] @ c.rotations[:, :1], c.rotations[:, 1:]], 1)
    )
    # the global rotation turns about joint 0: the translation makes up for it
    before = posed_vertices(template, c) @ rotation.mT + translation[:, None]
    offset = (before - posed_vertices(template, moved)).mean(1)
    return replace(moved, translation=moved.translation + offset)


def concatenate(parts: Sequence[Coefficients]) -> Coefficients:
    """Several batches in one, in their order."""
    return Coefficients(
        *(
            torch.cat([getattr(part, name) for part in parts])
            for name in ("shape", "expression", "rotations", "translation")
        )
    )
