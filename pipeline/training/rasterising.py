"""Which triangle each pixel shows, by a depth buffer in torch, on whatever device.

What rays find (`pipeline.views.raycasting`), for batches of small pictures: several times as fast.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.training.cameras import to_pixels

SLACK = 1e-5
"""Of a triangle's area, by which a pixel's middle may lie outside: no cracks between triangles."""


@torch.no_grad()
def rasterised(
    seen_mm: Tensor, faces: Tensor, camera_matrix_px: Tensor, height: int, width: int
) -> Tensor:
    """(B,V,3) mm in the camera's frame, (F,3), (B,3,3) -> (B,height,width) int64: the nearest
    triangle at each pixel's middle, -1 for none. A triangle that reaches behind the camera is
    not shown."""
    first, second, third = faces.T.contiguous()
    pixels = to_pixels(seen_mm, camera_matrix_px)
    given = pixels[..., 0], pixels[..., 1], seen_mm[..., 2].reciprocal()
    x, y, near = ([v[:, i] for i in (first, second, third)] for v in map(Tensor.contiguous, given))
    left, right = _least(x).ceil().clamp_min(0), _most(x).clamp_max(width - 1)
    top, bottom = _least(y).ceil().clamp_min(0), _most(y).clamp_max(height - 1)
    covers = (left <= right) & (top <= bottom) & (_least(near) > 0)
    flat = covers.flatten().nonzero()[:, 0]
    picture = flat.div(len(faces), rounding_mode="floor")
    triangle = flat - picture * len(faces)
    left, right, top, bottom, *corners = (
        v.take(flat) for v in (left, right, top, bottom, *x, *y, *near)
    )
    planes = _planes([v - left for v in corners[:3]], [v - top for v in corners[3:6]], corners[6:])
    # every pixel of every triangle's box, one after the other
    across = (right - left).floor() + 1
    of_box = (across * ((bottom - top).floor() + 1)).long()
    box = torch.repeat_interleave(of_box)
    start = (of_box.cumsum(0) - of_box).index_select(0, box)
    place = (torch.arange(len(box), device=box.device) - start).to(across)
    wide = across.index_select(0, box)
    down = ((place + 0.5) / wide).floor()
    beside = place - down * wide
    weights = [_at(plane, box, beside, down) for plane in planes[:3]]
    hit = (_least(weights) >= -SLACK).nonzero()[:, 0]
    box, beside, down = (v.index_select(0, hit) for v in (box, beside, down))
    nearness = _at(planes[3], box, beside, down)
    row, column = (down + top[box]).long(), (beside + left[box]).long()
    at = (picture[box] * height + row) * width + column
    # positive floats grow as their bits do
    key = nearness.float().view(torch.int32).long() << 32 | triangle[box]
    nearest = key.new_full((len(seen_mm) * height * width,), -1)
    nearest.scatter_reduce_(0, at, key, "amax")
    return torch.where(nearest >= 0, nearest & 0xFFFFFFFF, nearest).view(-1, height, width)


def _at(plane: Tensor, box: Tensor, beside: Tensor, down: Tensor) -> Tensor:
    constant, right, downwards = (one.index_select(0, box) for one in plane)
    found: Tensor = constant.addcmul_(right, beside).addcmul_(downwards, down)
    return found


def _least(corners: list[Tensor]) -> Tensor:
    return torch.minimum(torch.minimum(corners[0], corners[1]), corners[2])


def _most(corners: list[Tensor]) -> Tensor:
    return torch.maximum(torch.maximum(corners[0], corners[1]), corners[2])


def _planes(
    x: list[Tensor], y: list[Tensor], near: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Corners three times (N,) from a box's first pixel, and their nearness -> four times (3,N):
    constant, slope to the right, slope downwards of the corners' weights and of the nearness."""
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    a, b, c = (
        torch.stack([x[i] * y[j] - x[j] * y[i], y[i] - y[j], x[j] - x[i]]) / area
        for i, j in ((1, 2), (2, 0), (0, 1))
    )
    return a, b, c, a * near[0] + b * near[1] + c * near[2]
