"""The parametric face of Deep3D (Deng et al., CVPR Workshops 2019) and 3DDFA-V3 (Wang et al., CVPR
2024): linear bases over the Basel face, a rotation, nine harmonics of light, and a fixed camera.

Points are rows and lengths in units of 100 mm. The head's frame has +x to the picture's right, +y
up and +z towards the camera, which is at (0, 0, 10) and looks down -z. Pictures are 224 pixels
wide, and heights in them grow upwards.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.errors import FacefoldError, ModelError
from pipeline.geometry.mesh import face_normals
from pipeline.training.spherical_harmonics import irradiance
from pipeline.types import Array

FOCAL_PX, CENTRE_PX = 1015.0, 112.0
CAMERA_DISTANCE = 10.0
SIZES = (80, 64, 80, 3, 27, 3)
"""Of 257 coefficients, in the order of `FaceCoefficients`."""


class FaceCoefficients(NamedTuple):
    """What a network predicts of B pictures."""

    identity: Tensor  # (B,80) standard deviations
    expression: Tensor  # (B,64)
    albedo: Tensor  # (B,80)
    angles: Tensor  # (B,3) radians about x, y and z
    gamma: Tensor  # (B,27) light: nine harmonics of red, of green and of blue
    translation: Tensor  # (B,3) in 100 mm


class BasisArrays(NamedTuple):
    """The model's numbers as its file has them; `basel_bases.read_bases` reads a user's."""

    mean: Array  # (V,3)
    identity: Array  # (3V,80), x, y and z of a vertex after each other
    expression: Array  # (3V,64)
    mean_albedo: Array  # (V,3) 0 … 255
    albedo: Array  # (3V,80)
    faces: Array  # (F,3)
    triangles_of_vertex: Array
    """(V,8) triangles round each vertex, filled up with F, which stands for none."""
    landmarks: Array  # (68,) vertices


class SeenFaces(NamedTuple):
    """B heads and how the camera sees them."""

    shape: Tensor  # (B,V,3) unturned
    rotation: Tensor  # (B,3,3), for points as rows
    turned: Tensor  # (B,V,3)
    camera_vertices: Tensor  # (B,V,3), z the distance from the camera's plane
    normals: Tensor  # (B,V,3) unturned, unit
    albedo: Tensor  # (B,V,3) 0 … 1
    colours: Tensor  # (B,V,3) lit, not cut off at 0 or 1
    points_px: Tensor  # (B,V,2), y up
    landmarks_px: Tensor  # (B,68,2), y up


def split(coefficients: Tensor) -> FaceCoefficients:
    """(B,257) -> its parts. Raises FacefoldError for another number."""
    if coefficients.ndim != 2 or coefficients.shape[1] != sum(SIZES):
        raise FacefoldError(
            f"coefficients are {tuple(coefficients.shape)}, expected (B,{sum(SIZES)}): identity, "
            f"expression, albedo, angles, light and translation of {SIZES}"
        )
    return FaceCoefficients(*coefficients.split(SIZES, 1))


def rotations(angles: Tensor) -> Tensor:
    """(B,3) radians about x, y, z -> (B,3,3) (Rz Ry Rx)ᵀ, which turns points that are rows."""
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = [
        *(cz * cy, sz * cy, -sy),
        *(cz * sy * sx - sz * cx, sz * sy * sx + cz * cx, cy * sx),
        *(cz * sy * cx + sz * sx, sz * sy * cx - cz * sx, cy * cx),
    ]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def to_camera(points: Tensor) -> Tensor:
    """(B,V,3) in the head's frame after its motion -> (B,V,3), z the distance from the camera."""
    return torch.cat([points[..., :2], CAMERA_DISTANCE - points[..., 2:]], -1)


def to_picture(camera_points: Tensor) -> Tensor:
    """(B,V,3) -> (B,V,2) pixels of a picture 224 wide, the second upwards."""
    return camera_points[..., :2] / camera_points[..., 2:] * FOCAL_PX + CENTRE_PX


class LinearFace(nn.Module):
    """The model as a layer; nothing in it is trained, and none of it is saved with the weights.

    `recentred`: the mean head's middle is moved to the origin, as Deep3D does when it loads the
    model and 3DDFA-V3 does not. Raises ModelError for arrays that do not fit each other.
    """

    mean: Tensor  # (V,3)
    identity: Tensor  # (80,3V)
    expression: Tensor  # (64,3V)
    mean_albedo: Tensor  # (3V,)
    albedo_basis: Tensor  # (80,3V)
    faces: Tensor  # (F,3) int64
    triangles_of_vertex: Tensor  # (V,8) int64
    landmarks: Tensor  # (68,) int64

    def __init__(
        self, arrays: BasisArrays, *, recentred: bool, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        _check(arrays)
        mean = torch.tensor(arrays.mean, dtype=torch.float64)
        real = {
            "mean": mean - mean.mean(0) if recentred else mean,
            "identity": torch.tensor(arrays.identity).T,
            "expression": torch.tensor(arrays.expression).T,
            "mean_albedo": torch.tensor(arrays.mean_albedo).flatten(),
            "albedo_basis": torch.tensor(arrays.albedo).T,
        }
        for name, value in real.items():
            self.register_buffer(name, value.to(dtype).contiguous(), persistent=False)
        for name in ("faces", "triangles_of_vertex", "landmarks"):
            value = torch.tensor(getattr(arrays, name)).long()
            self.register_buffer(name, value, persistent=False)

    def forward(self, given: FaceCoefficients) -> SeenFaces:
        """The heads of coefficients, lit and seen."""
        shape = self.shape(given.identity, given.expression)
        rotation, normals = rotations(given.angles), self.normals(shape)
        turned = shape @ rotation + given.translation[:, None]
        camera_vertices, albedo = to_camera(turned), self.albedo(given.albedo)
        points = to_picture(camera_vertices)
        return SeenFaces(
            shape=shape,
            rotation=rotation,
            turned=turned,
            camera_vertices=camera_vertices,
            normals=normals,
            albedo=albedo,
            colours=albedo * irradiance(normals @ rotation, given.gamma),
            points_px=points,
            landmarks_px=points[:, self.landmarks],
        )

    def shape(self, identity: Tensor, expression: Tensor) -> Tensor:
        """(B,80), (B,64) -> (B,V,3) unturned heads."""
        moved = identity @ self.identity + expression @ self.expression
        return self.mean + moved.view(len(moved), -1, 3)

    def albedo(self, coefficients: Tensor) -> Tensor:
        """(B,80) -> (B,V,3) 0 … 1, not cut off."""
        found = self.mean_albedo + coefficients @ self.albedo_basis
        return found.view(len(found), -1, 3) / 255

    def normals(self, shape: Tensor) -> Tensor:
        """(B,V,3) -> (B,V,3) unit: the sum of the unit normals of each vertex's triangles, however
        large they are, of at most eight triangles."""
        unit = nn.functional.normalize(face_normals(shape, self.faces), dim=-1)
        unit = nn.functional.pad(unit, (0, 0, 0, 1))  # the one that stands for none
        return nn.functional.normalize(unit[:, self.triangles_of_vertex].sum(2), dim=-1)


def _check(arrays: BasisArrays) -> None:
    count, n_faces = arrays.mean.size // 3, len(arrays.faces)
    expected = {
        "mean": (count, 3),
        "identity": (3 * count, SIZES[0]),
        "expression": (3 * count, SIZES[1]),
        "mean_albedo": (count, 3),
        "albedo": (3 * count, SIZES[2]),
        "faces": (n_faces, 3),
        "triangles_of_vertex": (count, 8),
        "landmarks": (68,),
    }
    for name, shape in expected.items():
        found = getattr(arrays, name).shape
        if found != shape:
            raise ModelError(
                f"linear face: {name} has shape {found}, expected {shape} for {count} vertices and "
                f"{n_faces} triangles; take all arrays of one model's file"
            )
    limits = {"faces": count, "triangles_of_vertex": n_faces + 1, "landmarks": count}
    for name, limit in limits.items():
        given = getattr(arrays, name)
        if given.size and not 0 <= given.min() <= given.max() < limit:
            raise ModelError(
                f"linear face: {name} is {given.min()} … {given.max()}, expected 0 … {limit - 1}; "
                "count from 0"
            )
