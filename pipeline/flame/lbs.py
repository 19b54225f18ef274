"""Linear blend skinning in torch: coefficients -> vertices, batched and differentiable.

The model is SMPL's (Loper et al. 2015, eqs. 2–10) with FLAME's joints and expressions
(Li et al. 2017, eqs. 1–5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import rotation_matrices


@dataclass(frozen=True, eq=False)
class ModelTensors:
    """A `FlameModel` on a device, in millimetres; the component axis comes first in every basis."""

    template: Tensor  # (V,3)
    faces: Tensor  # (F,3) int64
    shape_basis: Tensor  # (S,V,3)
    expression_basis: Tensor  # (E,V,3)
    pose_basis: Tensor  # (P,V,3), P = 9(J-1), or 0 where the model has no correctives
    joint_regressor: Tensor  # (J,V)
    weights: Tensor  # (V,J)
    parents: tuple[int, ...]
    """Parent of each joint, -1 at the root; a parent comes before its children."""

    @property
    def pose_size(self) -> int:
        """Axis-angle values a full pose has: three a joint, or three for a model without joints."""
        return 3 * max(len(self.parents), 1)


class Posed(NamedTuple):
    vertices: Tensor  # (B,V,3) mm
    joints: Tensor  # (B,J,3) mm


def to_tensors(
    model: FlameModel,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ModelTensors:
    """The model's arrays as tensors of `dtype` on `device`."""

    def real(array: object) -> Tensor:
        return torch.as_tensor(array).to(device=device, dtype=dtype).contiguous()

    def basis(array: object) -> Tensor:
        return real(torch.as_tensor(array).permute(2, 0, 1))

    return ModelTensors(
        template=real(model.template_mm),
        faces=torch.as_tensor(model.faces, device=device),
        shape_basis=basis(model.shape_basis_mm),
        expression_basis=basis(model.expression_basis_mm),
        pose_basis=basis(model.pose_basis_mm),
        joint_regressor=real(model.joint_regressor),
        weights=real(model.weights),
        parents=tuple(int(p) for p in model.parents),
    )


def shaped_vertices(tensors: ModelTensors, shape: Tensor, expression: Tensor) -> Tensor:
    """(B,s≤S), (B,e≤E) coefficients -> (B,V,3) mm in the rest pose; missing ones count as zero."""
    return (
        tensors.template
        + _blend(shape, tensors.shape_basis, "shape")
        + _blend(expression, tensors.expression_basis, "expression")
    )


def _blend(coefficients: Tensor, basis: Tensor, name: str) -> Tensor:
    """(B,n) × (N≥n,V,3) -> (B,V,3)."""
    n = coefficients.shape[-1]
    if n > len(basis):
        raise ModelError(f"got {n} {name} coefficients, the model has {len(basis)} components")
    moved = coefficients @ basis[:n].flatten(1)
    return moved.view(*moved.shape[:-1], *basis.shape[1:])


def pose_model(
    tensors: ModelTensors,
    shape: Tensor,
    expression: Tensor,
    pose: Tensor,
    translation_mm: Tensor,
) -> Posed:
    """Vertices and joints of a batch of coefficients, in millimetres.

    shape (B,s≤S); expression (B,e≤E); pose (B,3j≤3J) axis-angle: global, neck, jaw, left eye,
    right eye; translation_mm (B,3). Missing coefficients count as zero. The global rotation turns
    about joint 0, as FLAME's does; a model without joints turns about its origin. Raises
    ModelError when there are more coefficients than the model has.
    """
    if pose.shape[-1] % 3 or pose.shape[-1] > tensors.pose_size:
        raise ModelError(
            f"got {pose.shape[-1]} pose values, expected a multiple of 3 up to {tensors.pose_size}"
        )
    pose = torch.nn.functional.pad(pose, (0, tensors.pose_size - pose.shape[-1]))
    rotations = rotation_matrices(pose.view(*pose.shape[:-1], pose.shape[-1] // 3, 3))
    rest = shaped_vertices(tensors, shape, expression)
    if not tensors.parents:
        turned = rest @ rotations[:, 0].mT + translation_mm[:, None]
        return Posed(turned, turned[:, :0])
    rest_joints = tensors.joint_regressor @ rest
    if len(tensors.pose_basis):
        identity = torch.eye(3, dtype=pose.dtype, device=pose.device)
        features = (rotations[:, 1:] - identity).flatten(1)
        rest = rest + _blend(features, tensors.pose_basis, "pose corrective")
    world, joints = joint_transforms(rotations, rest_joints, tensors.parents)
    # v' = sum_j w_j (R_j (v - rest_j) + joint_j), Loper 2015 eq. 7
    offsets = joints - (world @ rest_joints[..., None])[..., 0]
    blended = (tensors.weights @ world.flatten(2)).view(*rest.shape[:-1], 3, 3)
    vertices = (blended @ rest[..., None])[..., 0] + tensors.weights @ offsets
    return Posed(vertices + translation_mm[:, None], joints + translation_mm[:, None])


def joint_transforms(
    rotations: Tensor, rest_joints: Tensor, parents: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Along the tree: (B,J,3,3) local rotations, (B,J,3) rest joints -> world rotations, joints."""
    world: list[Tensor] = []
    joints: list[Tensor] = []
    for joint, parent in enumerate(parents):
        local, rest = rotations[:, joint], rest_joints[:, joint]
        if parent < 0:
            world.append(local)
            joints.append(rest)
            continue
        bone = (world[parent] @ (rest - rest_joints[:, parent])[..., None])[..., 0]
        world.append(world[parent] @ local)
        joints.append(joints[parent] + bone)
    return torch.stack(world, 1), torch.stack(joints, 1)


def pose_vertices(
    tensors: ModelTensors,
    shape: Tensor,
    expression: Tensor,
    pose: Tensor,
    translation_mm: Tensor,
) -> Tensor:
    """(B,V,3) mm: the vertices of `pose_model`."""
    return pose_model(tensors, shape, expression, pose, translation_mm).vertices
