"""Reads from sections through lips and lids whether they are shut, and where their edges are.

A profile is the foremost surface at each height of a plane through a landmark of the upper and one
of the lower edge (`geometry/sections.py`). An opening is a run of heights without surface, or with
one far behind, whose edges curl inwards. Lips and lids that are shut leave a valley, an eyeball
between open lids one at either end.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.geometry.sections import SectionPlanes, depth_profiles
from pipeline.registration.mouth_and_eyes.lids import STEP_MM, Lids, read_lids

HALF_MM = 24.0
"""A profile's reach up and down from between its landmarks."""
REACH_MM = 25.0
DEEP_MM = 4.5
"""A surface this far behind both lips is neither of them: teeth, tongue, the throat."""
BEYOND_LIPS_MM, BEYOND_LIDS_MM = 10.0, 6.0
"""Distances above and below the edges found so far within which they are looked for."""
CURL_MM = 0.5
"""An opening's edges lie at least so far behind the lips or lids beside them; those of a hole in
the scan do not."""
VALLEY_MM = 3.0
"""Half the width over which a valley's depth is measured."""
LIP_LINE_MM, LID_LINE_MM = 0.35, 0.5
"""Depth from which a valley counts."""
DEEP_LID_LINE_MM = 1.4
"""From here on a lid line counts even where the other eye is not shut."""
TOUCHING_MM = 2.0
"""An opening of the mouth no higher than this is two lips that touch and curl away."""
BEHIND_LID_MM = 2.5
"""Height of the eyeball that an upper lid may hide from a viewer."""
ALIKE_MM = 4.0
"""Open sections of one eye differ by less than this in height."""
WIDEST_MM = 13.0
"""Largest gap of the lids of an open eye; the upper lid's crease is farther above a shut one."""
MOST_SHUT, SURELY_OPEN = 0.5, 2.5
"""Probability from which an eye is shut; standard deviations of the gap from which it is open in
spite of a line alone."""
PART_MM = 4.5
"""A hole this much lower than the likeliest lids is a part of the eye: the eyeball shows beside it.
"""
UNSURE_MM, UNKNOWN_MM = 3.0, 4.4
"""Standard deviations of the gap from which lids are unclear, and from which what shows says
nothing of them: that of `lids.log_prior`."""
UNSEEN, UNCLEAR, SHUT, OPEN, GIVEN = range(5)
STATES = ("unseen", "unclear", "shut", "open", "given")
"""States of an opening: nothing shows, what shows can be read in several ways, shut, open, or
decided by given landmarks."""


class Profiles(NamedTuple):
    """C sections of B scans at T heights, ascending."""

    rows: Tensor  # (T,) mm
    depth: Tensor  # (B,C,T) mm, NaN where there is no surface
    upper: Tensor  # (B,C) mm, the height of the upper landmark so far
    lower: Tensor  # (B,C)

    @property
    def shown(self) -> Tensor:
        """(B,C) whether there is surface at most heights about the landmarks."""
        near = self.between(self.lower - BEYOND_LIPS_MM, self.upper + BEYOND_LIPS_MM)
        return (near & ~self.depth.isnan()).sum(-1) > near.sum(-1) / 2

    def between(self, low: Tensor, high: Tensor) -> Tensor:
        """(B,C,T) whether a row lies between two heights (B,C)."""
        return (self.rows > low[..., None]) & (self.rows < high[..., None])


class Edges(NamedTuple):
    """Heights (B,C) of the upper and the lower edge where `found`."""

    upper: Tensor
    lower: Tensor
    found: Tensor
    visible: Tensor
    """(B,C) whether they are the edges that a viewer sees; the landmarks themselves elsewhere."""


class Valleys(NamedTuple):
    """Heights (B,C) of valleys and how deep they are; depth 0 where there is none."""

    at: Tensor
    depth: Tensor


def profiles(meshes: list[tuple[Tensor, Tensor]], marks: Tensor, axes: Tensor) -> Profiles:
    """Sections through marks (B,2,C,3), seen along the third column of axes (B,3,3), the second
    being up."""
    rows = torch.arange(-HALF_MM, HALF_MM + STEP_MM / 2, STEP_MM, device=axes.device).double()
    middle, up, out = marks.mean(1), axes[:, :, 1], axes[:, :, 2]
    depth = [
        depth_profiles(v, f, SectionPlanes(middle[i], up[i], out[i]), rows, REACH_MM)
        for i, (v, f) in enumerate(meshes)
    ]
    heights = ((marks - middle[:, None]) * up[:, None, None]).sum(-1)
    low, high = heights.amin(1), heights.amax(1)
    return Profiles(rows, torch.stack(depth).double(), high, low)


def read(seen: Profiles, opening: Tensor) -> tuple[Edges, Tensor]:
    """The edges that profiles show, and the state (B,3) of mouth, right and left eye.

    `opening` (C,) says which of them each section is of: 0, 1 or 2. Holes between curled lids and a
    line that lies alone are taken as they are; else the likeliest lids are (`lids.py`).
    """
    mouth = opening == 0
    run = gaps(
        seen,
        torch.where(mouth, DEEP_MM, torch.inf),
        torch.where(mouth, BEYOND_LIPS_MM, BEYOND_LIDS_MM),
    )
    lips, lines = lip_lines(seen, run), lid_lines(seen, run)
    eyes = opening[~mouth]
    lids = read_lids(seen.rows, seen.depth[:, ~mouth], seen.lower[:, ~mouth], eyes)
    votes = torch.where(mouth, lips[1], agreeing(lines[0], lines[1], lines[2], opening))
    plain = eye_states([(votes[:, opening == eye], lines[2][:, opening == eye]) for eye in (1, 2)])
    likely, better = likely_states(lids, plain, (run.upper - run.lower)[:, ~mouth], eyes)
    state = torch.cat([mouth_state(votes[:, mouth])[:, None], better], 1)
    heights = []
    by_lids = torch.zeros_like(votes, dtype=torch.bool)
    by_lids[:, ~mouth] = likely[:, eyes - 1]
    shut = better[:, eyes - 1] == SHUT
    for k, margin in enumerate((lids.upper, lids.lower)):
        height = torch.where(mouth, lips[0][k], lines[0][k])
        own = height.clone()
        own[:, ~mouth] = torch.where(shut, lids.line, margin)
        heights.append(torch.where(by_lids, own, height))
    known = state[:, opening]
    found = torch.where(
        by_lids,
        (known == OPEN) | (known == SHUT) | ((known == UNCLEAR) & seen.shown),
        torch.where(mouth, lips[0].found, lines[0].found) & (votes == known),
    )
    return Edges(heights[0], heights[1], found, ~by_lids), state


def likely_states(
    lids: Lids, plain: Tensor, hole_mm: Tensor, eyes: Tensor
) -> tuple[Tensor, Tensor]:
    """For states (B,2) of both eyes that sections show plainly, if any, and heights of holes (B,C):
    whether probabilities decide instead, and the states then."""
    mean = torch.stack([(eyes == eye).to(lids.shut) / (eyes == eye).sum() for eye in (1, 2)], 1)
    shut, std, gap = (x @ mean for x in (lids.shut, lids.std_mm, lids.upper - lids.lower))
    part = gap - hole_mm @ mean > PART_MM
    doubtful = ((plain != OPEN) | part) & ((plain != SHUT) | (gap > SURELY_OPEN * std))
    known = ((lids.seen.to(mean) @ mean) > 0) & (std < UNKNOWN_MM)
    likely = torch.where(known, UNCLEAR, UNSEEN)
    likely = torch.where((std < UNSURE_MM) & (likely == UNCLEAR), OPEN, likely)
    likely = torch.where((shut > MOST_SHUT) & (likely != UNSEEN), SHUT, likely)
    return doubtful, torch.where(doubtful, likely, plain)


def agreeing(edges: Edges, votes: Tensor, sure: Tensor, opening: Tensor) -> Tensor:
    """The votes (B,C), UNCLEAR where sections of one eye are open by different heights.

    Of those that are sure the highest stays: through others a viewer sees the socket.
    """
    height = edges.upper - edges.lower
    kept = torch.ones_like(sure)
    for eye in (1, 2):
        at = (opening == eye) & (votes == OPEN)
        most = torch.where(at, height, -torch.inf).amax(1, keepdim=True)
        least = torch.where(at, height, torch.inf).amin(1, keepdim=True)
        best = torch.where(at & sure, height, -torch.inf).amax(1, keepdim=True)
        stays = (most - least < ALIKE_MM) | (sure & (height > best - ALIKE_MM))
        kept = kept & (stays | ~at)
    return torch.where(kept, votes, UNCLEAR)


def mouth_state(votes: Tensor) -> Tensor:
    """(B,C) -> (B,): what most sections say."""
    most = votes.shape[1] // 2 + 1
    state = torch.where((votes == UNSEEN).all(1), UNSEEN, UNCLEAR)
    for said in (SHUT, OPEN):
        state = torch.where((votes == said).sum(1) >= most, said, state)
    return state


def eye_states(eyes: list[tuple[Tensor, Tensor]]) -> Tensor:
    """States (B,eyes) from the votes (B,C) of each eye's sections and which are sure (B,C)."""
    votes, sure = (torch.stack(parts, 1) for parts in zip(*eyes, strict=True))
    says_open, says_shut = votes == OPEN, votes == SHUT
    is_open = (says_open.all(2) | (says_open & sure).any(2)) & ~says_shut.any(2)
    is_shut = says_shut.all(2)
    # a line that is not deep may be another one, unless the other eye has its like
    is_shut = is_shut & ((says_shut & sure).any(2) | is_shut.all(1, keepdim=True))
    state = torch.where((votes == UNSEEN).all(2), UNSEEN, UNCLEAR)
    return torch.where(is_open, OPEN, torch.where(is_shut, SHUT, state))


def lip_lines(seen: Profiles, run: Edges) -> tuple[Edges, Tensor]:
    """Each section of a mouth: its edges, and its state."""
    line = deepest(seen, concavity(seen), seen.lower - 7.0, seen.upper + 7.0)
    open_ = run.found & (run.upper - run.lower > TOUCHING_MM)
    shut = ~open_ & (run.found | (line.depth > LIP_LINE_MM))
    upper = torch.where(run.found, run.upper, line.at)
    lower = torch.where(run.found, run.lower, line.at)
    state = torch.where(open_, OPEN, torch.where(shut, SHUT, UNSEEN))
    return Edges(upper, lower, open_ | shut, torch.ones_like(shut)), state


def lid_lines(seen: Profiles, run: Edges) -> tuple[Edges, Tensor, Tensor]:
    """Each section of an eye: its edges, its state, and whether that is sure.

    Open where nothing is seen between the lids; shut where one valley lies alone at the height of
    the lower lid.
    """
    hollow = concavity(bridged(seen, BEHIND_LID_MM))
    line = deepest(seen, hollow, seen.lower - 6.0, seen.lower + 2.8)
    height = run.upper - run.lower
    through = run.found & (height > BEHIND_LID_MM) & (height < WIDEST_MM + 2)
    others = valleys(seen, hollow, line.at + 2.5, line.at + WIDEST_MM).amax(-1)
    shut = (line.depth > LID_LINE_MM) & (others < 0.4 * line.depth) & ~through
    upper = torch.where(through, run.upper, line.at)
    lower = torch.where(through, run.lower, line.at)
    state = torch.where(through, OPEN, torch.where(shut, SHUT, UNCLEAR))
    sure = through | (shut & (line.depth > DEEP_LID_LINE_MM))
    return Edges(upper, lower, through | shut, torch.ones_like(shut)), state, sure


def bridged(seen: Profiles, most_mm: float) -> Profiles:
    """Gaps of at most `most_mm` filled with the deeper of what is above and below."""
    n, z = len(seen.rows), seen.depth
    index = torch.arange(n, device=z.device).expand(z.shape)
    shown = ~z.isnan()
    below = torch.where(shown, index, -1).cummax(-1).values
    above = n - 1 - torch.where(shown.flip(-1), index, -1).cummax(-1).values.flip(-1)
    ends = (z.gather(-1, below.clamp_min(0)), z.gather(-1, above.clamp_max(n - 1)))
    small = (above - below - 1) * STEP_MM <= most_mm
    return seen._replace(depth=torch.where(shown | ~small, z, torch.minimum(*ends)))


def deepest(seen: Profiles, hollow: Tensor, low: Tensor, high: Tensor) -> Valleys:
    """The deepest valley between two heights (B,C)."""
    depth, row = valleys(seen, hollow, low, high).max(-1)
    return Valleys(seen.rows[row], depth)


def valleys(seen: Profiles, hollow: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(B,C,T) depths between two heights (B,C), 0 but where deeper than the rows beside it."""
    peak = torch.nn.functional.max_pool1d(hollow, 5, stride=1, padding=2)
    inside = seen.between(low, high) & (hollow >= peak) & (hollow > 0)
    return torch.where(inside, hollow, 0.0)


def gaps(seen: Profiles, deep_mm: Tensor, beyond_mm: Tensor) -> Edges:
    """The longest run of heights without surface, or with one that lies `deep_mm` (C,) behind,
    down to `beyond_mm` (C,) under the lower landmark and up to as much over the upper one."""
    inside = seen.between(seen.lower - beyond_mm, seen.upper + beyond_mm)
    z = seen.depth
    shown = torch.where(inside & ~z.isnan(), z, -torch.inf)
    below = shown.cummax(-1).values
    above = shown.flip(-1).cummax(-1).values.flip(-1)
    behind = torch.minimum(above, below) - z
    gone = inside & (z.isnan() | (behind > deep_mm[:, None]))
    index = torch.arange(len(seen.rows), device=z.device).expand(gone.shape)
    closed = torch.where(gone, -1, index).cummax(-1).values
    length, top = (index - closed).max(-1)
    bottom = top - length + 1
    found = length > 0
    beside = ((top + 1).clamp_max(len(seen.rows) - 1), above), ((bottom - 1).clamp_min(0), below)
    for edge, ridge in beside:
        curl = ridge.gather(-1, edge[..., None]) - z.gather(-1, edge[..., None])
        found = found & (curl[..., 0] > CURL_MM)
    upper, lower = seen.rows[top] + STEP_MM / 2, seen.rows[bottom] - STEP_MM / 2
    return Edges(upper, lower, found, torch.ones_like(found))


def concavity(seen: Profiles) -> Tensor:
    """(B,C,T) mm: how far the surface lies behind the middle of what is VALLEY_MM up and down."""
    n = round(VALLEY_MM / STEP_MM)
    z = seen.depth
    inner = (z[..., 2 * n :] + z[..., : -2 * n]) / 2 - z[..., n:-n]
    return torch.nn.functional.pad(inner.nan_to_num(0.0), (n, n))
