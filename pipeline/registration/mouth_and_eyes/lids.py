"""Reads from sections through an eye how far its lids are apart, as probabilities.

No single mark identifies the lids: the upper lid's crease looks like its margin over an eyeball, a
line may be a shut eye or the end of a lower lid. All pairs of heights at which the two margins may
lie are compared instead, by a log-linear model (conditional random field of two nodes; Lafferty et
al. 2001) of what a section shows at both, between them and around. Its weights were fitted to scans
of synthetic faces of two families with known lids, meshed finely and coarsely, sharp and smoothed,
given how common each gap was among them (`tests/benchmarks/lid_weights.py`); here they are joined
with how common gaps are of people.
The sections of a face share one height of the gap, near enough.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WEIGHTS = {
    "step at upper": 1.48,
    "fall at lower": 2.86,
    "hollow at upper": -0.31,
    "rim at upper": 0.34,
    "rim at lower": 0.63,
    "hole between": 4.56,
    "shut: step": 1.47,
    "shut: hollow": -0.28,
    "shut: ahead": 0.87,
    "shut": 1.42,
    "hole above": -3.77,
    "hole below": -2.57,
    "hollow between": 0.32,
    "hollow below": -0.47,
    "crease": 0.86,
    "bulge": 0.11,
    "off": -0.49,
    "off squared": -1.15,
}
"""What each of `features` counts, in their order."""
REST_MM, REST_STD_MM = 10.0, 2.5
REST, CLOSED = 0.5, 0.15
"""Shares of eyes at rest, which are so far open, and of shut ones; others have any gap."""
STEP_MM = 0.5
"""Between the rows of a profile."""
LOWEST, HIGHEST, WIDEST = -14, 14, 30
"""Rows about the lower landmark at which the lower margin may lie; of the widest gap."""
SHUT_ROWS = 4
"""Lids fewer rows apart than this are shut."""
SHARED = 0.5
"""Weight of what other sections say: all see the same face and err together."""
SAME_EYE_MM, OTHER_EYE_MM = 1.0, 2.0
"""Standard deviations of the difference of gaps of two sections of an eye, of two eyes."""
WINK = 0.05
"""Weight of any other difference."""
MOST_MM = 3.0
"""Steps and hollows count up to this."""
LINE_MM = 0.5
"""A section without a hollow or a step of this depth shows no lids."""


class Lids(NamedTuple):
    """What C sections of eyes on B scans show; heights in mm."""

    upper: Tensor  # (B,C) height of the landmark of the upper margin, by the median gap
    lower: Tensor  # (B,C) expected height
    line: Tensor  # (B,C) where they meet if they are shut
    std_mm: Tensor  # (B,C) of the gap
    shut: Tensor  # (B,C) probability
    seen: Tensor  # (B,C) whether anything shows


def read_lids(rows: Tensor, depth: Tensor, lower: Tensor, eye: Tensor) -> Lids:
    """rows (T,), depth (B,C,T), heights of lower landmarks so far (B,C), which eye each is (C,)."""
    flat = depth.flatten(0, 1)
    first = ((lower.flatten() - rows[0]) / STEP_MM).round().long()
    weights = torch.tensor(list(WEIGHTS.values()), dtype=depth.dtype, device=depth.device)
    every, seen = features(flat, first)
    nothing, _ = features(torch.zeros_like(flat[:1]), first[:1])
    common = log_prior(depth)
    alone = (every @ weights + common).flatten(1).softmax(1)
    alone = alone.view(*depth.shape[:2], *every.shape[1:3])
    prior = (nothing @ weights + common).flatten().softmax(0).view(every.shape[1:3]).sum(0)
    gap = alone.sum(2)
    shared = shared_gaps(gap, gap / prior, eye)
    both = alone * (shared / gap.clamp_min(1e-12))[:, :, None]
    start = rows[first.clamp(0, len(rows) - 1)].view(*depth.shape[:2], 1, 1)
    low = start + STEP_MM * _lower(depth)
    apart = STEP_MM * _gaps(depth)
    closed = both * (_gaps(depth) < SHUT_ROWS)
    line = (closed * (low + apart / 2)).sum((2, 3)) / closed.sum((2, 3)).clamp_min(1e-12)
    at = (both * low).sum((2, 3))
    mean = (shared * apart).sum(2)
    std = ((shared * apart**2).sum(2) - mean**2).clamp_min(0).sqrt()
    # of readings that contradict each other the likelier one counts, not one between them
    upper = at + STEP_MM * median(shared)
    return Lids(upper, at, line, std, closed.sum((2, 3)), seen.view(depth.shape[:2]))


def log_prior(like: Tensor) -> Tensor:
    """(G,) how common gaps are, whatever a section shows."""
    rest = torch.exp(-(((STEP_MM * _gaps(like).to(like) - REST_MM) / REST_STD_MM) ** 2) / 2)
    shut = (_gaps(like) < SHUT_ROWS).to(like)
    other = (1 - REST - CLOSED) / len(rest)
    return (REST * rest / rest.sum() + CLOSED * shut / SHUT_ROWS + other).log()


def median(probability: Tensor) -> Tensor:
    """(...,G) -> (...,), between rows."""
    below = probability.cumsum(-1)
    row = (below < 0.5).sum(-1, keepdim=True).clamp_max(probability.shape[-1] - 1)
    own = probability.gather(-1, row).clamp_min(1e-12)
    return (row + 0.5 - (below.gather(-1, row) - 0.5) / own)[..., 0]


def shared_gaps(own: Tensor, says: Tensor, eye: Tensor) -> Tensor:
    """(B,C,G) probabilities of the gap by each section alone, and over those of a section that
    shows nothing -> by all sections together."""
    apart = STEP_MM * _gaps(own).to(own)
    unlike = (apart[:, None] - apart).square() / 2
    heard = [
        (SHARED * (says @ _normal(torch.exp(-unlike / std**2) + WINK).T).log())
        for std in (SAME_EYE_MM, OTHER_EYE_MM)
    ]
    same = eye[:, None] == eye
    others = torch.stack(
        [(same & ~torch.eye(len(eye), dtype=torch.bool, device=eye.device)), ~same]
    )
    same_eye, other_eye = (w.to(own) @ h for w, h in zip(others, heard, strict=True))
    joint: Tensor = own.clamp_min(1e-12).log() + (same_eye + other_eye)
    return joint.softmax(-1)


def features(depth: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """(N,T) profiles, (N,) row of the lower landmark -> (N,L,G,K) for each height of the lower
    margin and each gap, and (N,) whether anything shows."""
    z, hole = filled(depth)
    slope = (_shift(z, 14) - _shift(z, -14)) / 28
    step = (_shift(z, 1) - _shift(z, -1) - 2 * slope).clamp(-1, MOST_MM)
    fall = (-step).clamp(-1, MOST_MM)
    raw = (_shift(z, 5) + _shift(z, -5)) / 2 - z
    hollow = raw.clamp(-1, MOST_MM)
    rim = (z - (_shift(z, 3) + _shift(z, -3)) / 2).clamp(-1, MOST_MM)
    gap, low = _gaps(z), first[:, None, None] + _lower(z)
    up = low + gap
    low = low.expand_as(up)
    holes, count = _sums(hole), (gap + 1).to(z)

    steps, falls, hollows = _peak(step, 2), _peak(fall, 2), _peak(hollow, 1)
    inside = (_at(holes, up + 1) - _at(holes, low)) / count
    above, below = _at(holes, up + 9) - _at(holes, up + 1), _at(holes, low) - _at(holes, low - 8)
    under = torch.stack([_at(hollows, low - k) for k in range(4, 11)]).amax(0).clamp_min(0)
    over = torch.stack([_at(hollows, up + k) for k in range(4, 13)]).amax(0).clamp_min(0)
    middle, quarter = (low + up) // 2, gap // 4
    bulge = _at(z, middle) - (_at(z, middle - quarter) + _at(z, middle + quarter)) / 2
    off = ((low - first[:, None, None]) * STEP_MM / 3).to(z)
    rims = [_at(rim, up + 1), _at(rim, low - 1)]
    opened = [_at(steps, up), _at(falls, low), _at(hollows, up), *rims, inside]
    ahead = _at(z, low + 3) - _at(z, low - 3) - 6 * _at(slope, low)
    shut = [
        _at(steps, low),
        _at(hollows, low),
        ahead.clamp(-MOST_MM, MOST_MM),
        torch.ones_like(off),
    ]
    is_open, is_wide = (gap > 2).to(z), (gap > 9).to(z)
    ball = (4 * bulge).clamp(-MOST_MM, MOST_MM) * is_open
    always = [above / 8, below / 8, _inner(hollow, low), under, over * is_wide, ball, off, off**2]
    every = [x * is_open for x in opened] + [x * (1 - is_open) for x in shut] + always
    window = first[:, None] + torch.arange(-14, 35, device=z.device)
    shown = torch.stack([raw, step, hole]).amax(0).gather(1, window.clamp(0, z.shape[1] - 1))
    return torch.stack(every, -1), shown.amax(1) > LINE_MM


def filled(depth: Tensor) -> tuple[Tensor, Tensor]:
    """Profiles (N,T) with holes closed by straight lines, and 1 where there was one."""
    n = depth.shape[-1]
    index = torch.arange(n, device=depth.device).expand(depth.shape)
    shown = ~depth.isnan()
    below = torch.where(shown, index, -1).cummax(-1).values
    above = n - 1 - torch.where(shown.flip(-1), index, -1).cummax(-1).values.flip(-1)
    below, above = torch.where(below < 0, above, below), torch.where(above >= n, below, above)
    below, above = below.clamp(0, n - 1), above.clamp(0, n - 1)
    share = ((index - below) / (above - below).clamp_min(1)).to(depth)
    z = depth.nan_to_num(0.0)
    return z.gather(-1, below) * (1 - share) + z.gather(-1, above) * share, (~shown).to(depth)


def _lower(like: Tensor) -> Tensor:
    return torch.arange(LOWEST, HIGHEST + 1, device=like.device)[:, None]


def _gaps(like: Tensor) -> Tensor:
    return torch.arange(WIDEST + 1, device=like.device)


def _normal(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum(1, keepdim=True)


def _shift(x: Tensor, rows: int) -> Tensor:
    n = x.shape[-1]
    return x[..., (torch.arange(n, device=x.device) + rows).clamp(0, n - 1)]


def _at(x: Tensor, row: Tensor) -> Tensor:
    """(N,T), (N,L,G) -> (N,L,G)."""
    return x.gather(-1, row.clamp(0, x.shape[-1] - 1).flatten(1)).view(row.shape)


def _sums(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x[..., :1]), x.cumsum(-1)], -1)


def _peak(x: Tensor, rows: int) -> Tensor:
    return torch.nn.functional.max_pool1d(x[:, None], 2 * rows + 1, 1, rows)[:, 0]


def _inner(x: Tensor, low: Tensor) -> Tensor:
    """(N,T), (N,L,G) -> (N,L,G): the largest between both margins, 2 mm from either."""
    k = torch.arange(WIDEST + 1, device=x.device)
    between = torch.stack([_at(x, low[..., 0] + int(i)) for i in k], -1)
    inside = (k >= 4) & (k <= k[:, None] - 4)
    return torch.where(inside, between[:, :, None], 0.0).amax(-1).clamp_min(0)
