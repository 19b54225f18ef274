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


def aligned(landmarks_px: Tensor, points_px: Tensor) -> Tensor:
    """(…,68,2), (…,N,2) in any pictures -> (…,N,2): the points in their aligned crops, NaN where
    one of ArcFace's five points is: `views.crops.align_112`, batched."""
    source, turn = _turn(landmarks_px)
    target = torch.view_as_complex(torch.as_tensor(ARCFACE_POINTS, device=points_px.device))
    points = torch.view_as_complex(points_px.double().contiguous())
    moved = turn[..., None] * (points - source.mean(-1, keepdim=True)) + target.mean()
    return torch.view_as_real(moved).to(points_px.dtype)


def _turn(landmarks_px: Tensor) -> tuple[Tensor, Tensor]:
    """ArcFace's five points (…,5), and what turns and scales pictures to crops (…,), complex."""
    points = landmarks_px.double()
    eyes = [points[..., list(corners), :].mean(-2) for corners in EYE_CORNERS]
    five = [*eyes, points[..., NOSE_TIP, :], *(points[..., i, :] for i in MOUTH_CORNERS)]
    source = torch.view_as_complex(torch.stack(five, -2))
    target = torch.view_as_complex(torch.as_tensor(ARCFACE_POINTS, device=points.device))
    from_middle = source - source.mean(-1, keepdim=True)
    along = (from_middle.conj() * (target - target.mean())).sum(-1)
    return source, along / from_middle.abs().square().sum(-1)


def log_px_per_mm(landmarks_px: Tensor, focal_px: Tensor, distance_mm: Tensor) -> Tensor:
    """(…,68,2), (…,), (…,) of crops of 224 -> (…,) float32: how many pixels of its aligned crop a
    millimetre takes at the face, as the logarithm of its ratio to USUAL_PX_PER_MM.

    A crop follows the face, and so hides its size: this is what it hides. NaN where the camera is
    not known.
    """
    _, turn = _turn(landmarks_px)
    return (turn.abs() * focal_px / distance_mm).log().float() - math.log(USUAL_PX_PER_MM)
