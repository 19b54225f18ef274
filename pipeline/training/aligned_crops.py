"""Where ArcFace's crops of 112 pixels show landmarks, and at which scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline.views.crops import ARCFACE_POINTS, EYE_CORNERS, MOUTH_CORNERS, NOSE_TIP

EYES_MM = 63.0
"""Between an adult's eyes."""
USUAL_PX_PER_MM = float(ARCFACE_POINTS[1, 0] - ARCFACE_POINTS[0, 0]) / EYES_MM
"""Of a crop that shows an adult from the front."""


def aligned(landmarks_px: Tensor) -> tuple[Tensor, Tensor]:
    """(…,68,2) in any picture -> (…,68,2) in its aligned crop, and (…,) pixels of the crop for one
    of the picture; NaN where one of ArcFace's five points is: `views.crops.align_112`, batched."""
    points = landmarks_px.double()
    eyes = [points[..., list(corners), :].mean(-2) for corners in EYE_CORNERS]
    five = [*eyes, points[..., NOSE_TIP, :], *(points[..., i, :] for i in MOUTH_CORNERS)]
    source = torch.view_as_complex(torch.stack(five, -2).contiguous())
    target = torch.view_as_complex(torch.as_tensor(ARCFACE_POINTS, device=points.device))
    middle = source.mean(-1, keepdim=True)
    from_middle, to_middle = source - middle, target - target.mean()
    turn = (from_middle.conj() * to_middle).sum(-1) / from_middle.abs().square().sum(-1)
    every = torch.view_as_complex(points.contiguous())
    moved = turn[..., None] * (every - middle) + target.mean()
    return torch.view_as_real(moved).to(landmarks_px.dtype), turn.abs().to(landmarks_px.dtype)


def log_px_per_mm(landmarks_px: Tensor, camera_matrix_px: Tensor, distance_mm: Tensor) -> Tensor:
    """(…,68,2), (…,3,3) of crops of 224, (…,) -> (…,) float32: how many pixels of its aligned crop
    a millimetre takes at the face, as the logarithm of its ratio to USUAL_PX_PER_MM.

    All of a face's size that a crop, which follows the face, does not show. Focal length over
    distance is known only where camera and distance are; NaN elsewhere.
    """
    _, scale = aligned(landmarks_px)
    px_per_mm = scale * camera_matrix_px[..., 0, 0] / distance_mm
    return px_per_mm.log().float() - math.log(USUAL_PX_PER_MM)
