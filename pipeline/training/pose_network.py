"""The network of `pose_guidance`: what it makes of single pictures."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.training.backbones.maps import Maps
from pipeline.training.cameras import rays_through
from pipeline.training.closed_form_pose import pose_from_landmarks
from pipeline.training.landmark_head import CROP_MM, LOCAL, N_LANDMARKS, LandmarkHead, regressor
from pipeline.training.whitening import Whitening

NOISE_MM = 3.0
"""About how exactly landmarks are predicted."""
COEFFICIENT, JAW_RAD, SCALE, SHIFT = 1.0, 0.1, 0.1, 0.1
"""What outputs of 1 mean; SCALE of the logarithm of size, SHIFT in widths of the picture."""


class Seen(NamedTuple):
    """What the network makes of B pictures, in the frames of their cameras."""

    landmarks_px: Tensor  # (B,68,2)
    log_heat: Tensor  # (B,68,h,w) where they are
    landmarks_mm: Tensor  # (B,68,3)
    weights: Tensor  # (B,68) what each says of the pose; their sum is 1
    shape: Tensor  # (B,s)
    precision: Tensor  # (B,s) > 0: how much the picture says of each, where the model says 1
    expression: Tensor  # (B,e)
    jaw: Tensor  # (B,3) axis-angle
    pose: tuple[Tensor, Tensor] | None
    """Regressed: (B,3,3) of the head, and (B,3) mm, the mean of its landmarks."""


class PoseNetwork(nn.Module):
    """A backbone with heads for landmarks and coefficients, and for the pose if it is regressed.

    The camera is known. With the size of a pixel at the face, in millimetres, pixels and depths
    give the landmarks' places: the distance is that size times the focal length. The size is a
    guess from how the face looks, for a crop hides it.
    """

    typical_mm: Tensor  # (68,3)

    def __init__(
        self, backbone: str, n_shape: int, n_expression: int, regressed: bool, faces_mm: Tensor
    ) -> None:
        """`faces_mm` (N,68,3): landmarks of faces that look at the camera, in the camera's axes,
        the first of them typical; NaN for those that the model has not."""
        super().__init__()
        faces = (faces_mm - faces_mm.nanmean(1, keepdim=True)).nan_to_num()
        self.register_buffer("typical_mm", faces[0], persistent=False)
        self.whitened = Whitening(self._facing(faces).flatten(1), NOISE_MM)
        self.maps = Maps(backbone)
        self.landmarks = LandmarkHead(self.maps.widths, faces[0])
        n = self.maps.widths[-1] + (LOCAL + 3) * N_LANDMARKS
        self.sizes = [n_shape, n_shape, n_expression, 3, 1]
        self.coefficients = regressor(n, sum(self.sizes))
        self.of_landmarks = nn.Linear(3 * N_LANDMARKS, sum(self.sizes), bias=False)
        nn.init.zeros_(self.of_landmarks.weight)
        self.pose = regressor(self.landmarks.whole, 8) if regressed else None

    def forward(self, pictures: Tensor, camera_matrix_px: Tensor) -> Seen:
        """(B,3,S,S) 0 … 1, (B,3,3)."""
        size = pictures.shape[-1]
        maps = self.maps((pictures - 0.5) / 0.25)
        marks = self.landmarks(maps, size)
        middle = marks.pixels.mean(1, keepdim=True)
        across_mm = CROP_MM / size * (marks.pixels - middle)
        facing = self._facing(torch.cat([across_mm, marks.depth_mm[..., None]], -1).detach())
        facing = self.whitened(facing.flatten(1))
        everywhere = maps[-1].mean((2, 3))
        features = torch.cat([everywhere, marks.local, facing], 1)
        found = self.coefficients(features) + self.of_landmarks(facing)
        shape, precision, expression, jaw, scale = found.split(self.sizes, 1)
        mm_per_px = CROP_MM / size * torch.exp(SCALE * scale)
        distance_mm = mm_per_px * camera_matrix_px[:, 0, :1]
        depths = (distance_mm + marks.depth_mm)[..., None]
        pose = None
        if self.pose is not None:
            six, shift = self.pose(marks.whole).split((6, 2), 1)
            at = (size - 1) / 2 + size * SHIFT * shift[:, None]
            along = rays_through(at, camera_matrix_px)[:, 0]
            pose = rotation_of(six), distance_mm * along
        return Seen(
            marks.pixels,
            marks.log_heat,
            rays_through(marks.pixels, camera_matrix_px) * depths,
            marks.weights,
            COEFFICIENT * shape,
            functional.softplus(precision),
            COEFFICIENT * expression,
            JAW_RAD * jaw,
            pose,
        )

    def _facing(self, landmarks_mm: Tensor) -> Tensor:
        """(B,68,3) -> (B,68,3): turned as the typical face, and less it."""
        typical = self.typical_mm.expand_as(landmarks_mm)
        rotation, shift = pose_from_landmarks(landmarks_mm, typical)
        return landmarks_mm @ rotation.mT + shift[:, None] - typical


def fused(shape: Tensor, precision: Tensor) -> Tensor:
    """(P,K,s), (P,K,s) -> (P,s): what K pictures say together of a person's coefficients.

    A picture's own estimate m p / (1 + p) is what Gaussian evidence m of precision p makes of the
    model's prior, a standard normal. Evidence adds up; the prior counts once.
    """
    return (shape * (1 + precision)).sum(1) / (1 + precision.sum(1))


def rotation_of(six: Tensor) -> Tensor:
    """(B,6) -> (B,3,3): two columns made orthonormal (Zhou et al., CVPR 2019). 0 is a face that
    looks at the camera."""
    first, second = six.unflatten(1, (2, 3)).unbind(1)
    x = functional.normalize(first + first.new_tensor([1.0, 0.0, 0.0]), dim=1)
    off = second + second.new_tensor([0.0, -1.0, 0.0])
    y = functional.normalize(off - (off * x).sum(1, keepdim=True) * x, dim=1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)
