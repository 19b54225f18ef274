"""Mouth and eyes: how far a scan shows them open, and where.

Nearest points cannot tell: between lips that touch the nearest surface of either lip is the other
one. Planes through pairs of landmarks of the upper and the lower lip or lid cut the scan instead
(`geometry/sections.py`). Seen from the front, an opening is a run of heights without surface, or
with one far behind lips, whose edges curl inwards; where it is shut there is a valley in its place.
Either says where both edges belong, as rows of the same system (`equations.System`). Where a scan
shows neither, neutral faces decide: lips shut, lids half open, and little is sure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.geometry.sections import SectionPlanes, depth_profiles
from pipeline.landmarks.schemes import CONTOUR_68
from pipeline.registration.coefficients import Coefficients, posed_vertices, world_rotations
from pipeline.registration.landmarks import LandmarkTargets
from pipeline.registration.matches import ScanSurface
from pipeline.registration.template import Template

PAIRS = {
    "mouth": ((61, 67), (62, 66), (63, 65)),
    "right_eye": ((37, 41), (38, 40)),
    "left_eye": ((43, 47), (44, 46)),
}
"""iBUG landmarks of the upper and the lower edge of each opening."""
HALF_MM, STEP_MM = 24.0, 0.5
"""Of a profile: as far up and down from between its landmarks, and how finely."""
REACH_MM = 25.0
DEEP_MM = 4.5
"""So far behind both lips a surface is no lip any more: teeth, tongue, a hole's far side."""
BEYOND_MM = 10.0
"""Above and below where the edges were found so far, no further are they looked for."""
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
"""An opening of the mouth that is no higher is two lips that touch: they curl away from a viewer."""
LID_SHUT_MM = 1.5
WIDEST_MM = 13.0
"""Between the lids of an open eye; the crease of an upper lid is farther above a shut one."""
EVIDENCE_MM, OPEN_LIPS_MM, PRIOR_MM = 0.7, 2.0, 2.5
"""Standard deviations of an edge's height: found; of lips that are open, whose edge from the front
is another line of the lip than its landmark; by the prior alone."""
TOLD_OPEN_MM = 5.0
"""Landmarks that are given farther apart than this say that it is open."""
SHUT_TOLERANCE_MM, OPEN_TOLERANCE_MM = 0.5, 1.0
"""Edges that lie so near to what was found are left alone: a landmark is not quite the edge."""
UNSEEN_MM = 3.0
"""Expected error of lips or lids that the scan does not show."""
UNSEEN, SHUT, OPEN = 0, 1, 2
STATES = ("unseen", "shut", "open")


class Profiles(NamedTuple):
    """C sections of B scans at T heights, ascending."""

    rows: Tensor  # (T,) mm
    depth: Tensor  # (B,C,T) mm, NaN where there is no surface
    upper: Tensor  # (B,C) mm, the height of the upper landmark so far
    lower: Tensor  # (B,C)

    def between(self, low: Tensor, high: Tensor) -> Tensor:
        """(B,C,T) whether a row lies between two heights (B,C)."""
        return (self.rows > low[..., None]) & (self.rows < high[..., None])


class Edges(NamedTuple):
    """Heights (B,C) of the upper and the lower edge where `found`."""

    upper: Tensor
    lower: Tensor
    found: Tensor


class Valleys(NamedTuple):
    """Heights (B,C) of valleys and how deep they are; depth 0 where there is none."""

    at: Tensor
    depth: Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """The template's landmarks at C sections; upper ones first where a dimension is 2."""

    corners: Tensor  # (2,C,3) vertex indices
    barycentric: Tensor  # (2,C,3)
    opening: Tensor  # (C,) which of PAIRS
    rest_mm: Tensor  # (C,) height between them at rest
    rim_mm: Tensor  # (2,C) height of a landmark over the edge that a viewer sees
    target: Tensor  # (2,C) which of `LandmarkTargets` each is

    @property
    def flat(self) -> tuple[Tensor, Tensor]:
        """Corners and barycentric coordinates (2C,3), as `equations.sites_of` takes them."""
        return self.corners.flatten(0, 1), self.barycentric.flatten(0, 1)

    def positions(self, vertices: Tensor) -> Tensor:
        """(B,V,3) -> (B,2,C,3)."""
        return (vertices[:, self.corners] * self.barycentric[..., None]).sum(-2)


@dataclass(frozen=True, eq=False)
class Openings:
    """Where the edges of mouth and eyes belong on B scans."""

    pairs: Pairs
    up: Tensor  # (B,3) of the head
    middle: Tensor  # (B,C,3) mm, from which heights count
    height_mm: Tensor  # (B,2,C) of the landmarks
    weight: Tensor  # (B,2,C) 1/mm²
    tolerance_mm: Tensor  # (B,1,C)
    state: Tensor  # (B,O) UNSEEN, SHUT or OPEN of each of PAIRS

    @property
    def direction(self) -> Tensor:
        """(B,2C,3)."""
        return self.up[:, None].expand(-1, self.weight[0].numel(), -1)

    def gap(self, vertices: Tensor) -> Tensor:
        """(B,V,3) -> (B,2C) mm that each landmark has to rise."""
        apart = self.pairs.positions(vertices) - self.middle[:, None]
        gap = self.height_mm - (apart * self.up[:, None, None]).sum(-1)
        return _beyond(gap, self.tolerance_mm).flatten(1)


def find_openings(
    template: Template,
    surfaces: list[ScanSurface],
    landmarks: LandmarkTargets,
    coefficients: Coefficients,
) -> Openings | None:
    """What the scans show of mouth and eyes; None for a template without those landmarks."""
    pairs = pairs_of(template)
    if pairs is None:
        return None
    turned = world_rotations(template, coefficients)[:, 0]
    marks = pairs.positions(posed_vertices(template, coefficients))
    seen = profiles([(s.index.vertices, s.index.faces) for s in surfaces], marks, turned)
    edges, state = read(seen, pairs.opening)
    mouth = (pairs.opening == 0).expand_as(edges.upper)
    own = state[:, pairs.opening]
    noise = torch.where(mouth & (own == OPEN), OPEN_LIPS_MM, EVIDENCE_MM)
    height = torch.stack([edges.upper, edges.lower], 1) + pairs.rim_mm
    unseen = (own == UNSEEN)[:, None].expand_as(height)
    height = torch.where(unseen, likeliest(seen, pairs), height)
    told, apart = given_apart(landmarks, pairs)
    against = told & ((own == UNSEEN) | ((own == SHUT) & (apart > TOLD_OPEN_MM)))
    used = (edges.found | (own == UNSEEN)) & ~against
    weight = torch.where(own == UNSEEN, PRIOR_MM, noise) ** -2 * used
    tolerance = torch.where(own == OPEN, OPEN_TOLERANCE_MM, SHUT_TOLERANCE_MM)
    weight = weight[:, None].expand_as(height)
    up, middle = turned[:, :, 1], marks.mean(1)
    return Openings(pairs, up, middle, height, weight, tolerance[:, None], state)


def _beyond(gap: Tensor, tolerance: Tensor) -> Tensor:
    """What of a gap is larger than the tolerance, with its sign."""
    return gap - gap.clamp(-tolerance, tolerance)


def given_apart(landmarks: LandmarkTargets, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Whether a scan came with both landmarks of a section, and how far apart they are, (B,C)."""
    told = (landmarks.confidence[:, pairs.target] > 0).all(1)
    ends = landmarks.points[:, pairs.target]
    return told, (ends[:, 0] - ends[:, 1]).norm(dim=-1)


def likeliest(seen: Profiles, pairs: Pairs) -> Tensor:
    """(B,2,C) heights of shut lips and half-open lids, where the scan shows nothing of them."""
    half = torch.where(pairs.opening == 0, 0.0, pairs.rest_mm / 4)
    # the upper lid does most of the way
    down = torch.where(pairs.opening == 0, 0.0, pairs.rest_mm / 8)
    middle = (seen.upper + seen.lower) / 2 - down
    return torch.stack([middle + half, middle - half], 1) + 0 * pairs.rim_mm


@lru_cache(maxsize=8)
def pairs_of(template: Template) -> Pairs | None:
    """The landmarks of PAIRS on the template, with what is measured on it at rest."""
    embedding = template.model.landmarks
    wanted = [pair for pairs in PAIRS.values() for pair in pairs]
    if embedding is None or not {i for pair in wanted for i in pair} <= set(embedding.indices_68):
        return None
    row = {int(name): i for i, name in enumerate(embedding.indices_68)}
    at = [[row[pair[k]] for pair in wanted] for k in (0, 1)]
    inner = [int(i) for i in embedding.indices_68 if i not in CONTOUR_68]
    place = {name: i for i, name in enumerate(inner)}
    device = template.device
    triangles = torch.as_tensor(embedding.triangles[at], device=device)
    opening = [i for i, pairs in enumerate(PAIRS.values()) for _ in pairs]
    pairs = Pairs(
        template.faces[triangles],
        torch.as_tensor(embedding.barycentric[at], device=device),
        torch.tensor(opening, device=device),
        *(torch.zeros(0, device=device),) * 2,
        torch.tensor([[place[pair[k]] for pair in wanted] for k in (0, 1)], device=device),
    )
    rest = template.tensors.template[None]
    marks = pairs.positions(rest)
    skin = template.faces[(template.areas[template.faces] > 0).all(1)]
    axes = torch.eye(3, dtype=rest.dtype, device=device)[None]
    seen = profiles([(rest[0], skin)], marks, axes)
    edges, _ = read(seen, pairs.opening)
    rims = torch.stack([seen.upper - edges.upper, seen.lower - edges.lower], 1)[0]
    rims = torch.where(edges.found[0], rims, 0.0)
    return replace(pairs, rest_mm=(seen.upper - seen.lower)[0], rim_mm=rims)


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
    """The edges that profiles show, and the state (B,O) of each opening; `opening` (C,)."""
    mouth = opening == 0
    run = gaps(seen, torch.where(mouth, DEEP_MM, torch.inf))
    hollow = concavity(seen)
    lips, lids = lip_lines(seen, hollow, run), lid_lines(seen, hollow, run)
    edges = Edges(*(torch.where(mouth, a, b) for a, b in zip(lips[0], lids[0], strict=True)))
    state = torch.where(mouth, lips[1], lids[1])
    merged = []
    for one in range(len(PAIRS)):
        votes = state[:, opening == one]
        need = votes.shape[1] // 2 + 1
        merged.append(
            torch.where(
                (votes == OPEN).sum(1) >= need, OPEN, torch.where((votes == SHUT).sum(1) >= need, SHUT, UNSEEN)
            )
        )
    merged = torch.stack(merged, 1)
    depth = torch.where(state == SHUT, lids[2], 0.0)
    deep = torch.stack([depth[:, opening == one].mean(1) for one in range(len(PAIRS))], 1) > DEEP_LID_LINE_MM
    both = (merged[:, 1:] == SHUT).all(1)
    lone = (merged == SHUT) & ~deep & ~both[:, None]
    lone[:, 0] = False
    merged = torch.where(lone, UNSEEN, merged)
    return edges._replace(found=edges.found & (state == merged[:, opening])), merged


def lip_lines(seen: Profiles, hollow: Tensor, run: Edges) -> tuple[Edges, Tensor]:
    """Each section of a mouth: its edges, and its state."""
    line = deepest(seen, hollow, seen.lower - 7.0, seen.upper + 7.0)
    open_ = run.found & (run.upper - run.lower > TOUCHING_MM)
    shut = ~open_ & (run.found | (line.depth > LIP_LINE_MM))
    upper = torch.where(run.found, run.upper, line.at)
    lower = torch.where(run.found, run.lower, line.at)
    state = torch.where(open_, OPEN, torch.where(shut, SHUT, UNSEEN))
    return Edges(upper, lower, open_ | shut), state


def lid_lines(seen: Profiles, hollow: Tensor, run: Edges) -> tuple[Edges, Tensor, Tensor]:
    """Each section of an eye: its edges, its state, and the depth of a shut eye's line."""
    above = lowest(seen, hollow, seen.upper - 5.5, seen.upper + 3.5)
    below = deepest(seen, hollow, seen.lower - 3.0, seen.lower + 2.5)
    line = deepest(seen, hollow, seen.lower - 6.0, seen.lower + 1.8)
    apart = above.at - below.at
    ball = (above.depth > LID_LINE_MM) & (below.depth > LID_LINE_MM)
    ball = ball & (apart > 3.0) & (apart < WIDEST_MM)
    alone = (above.depth < 0.4 * line.depth) | (above.at - line.at > WIDEST_MM) | (above.at - line.at < 1.0)
    shut = (line.depth > LID_LINE_MM) & alone & ~ball & ~run.found
    height = run.upper - run.lower
    through = run.found & (height < WIDEST_MM + 2)
    shut = shut | (through & (height < LID_SHUT_MM))
    open_ = (through & (height >= LID_SHUT_MM)) | (ball & ~run.found)
    upper = torch.where(through, run.upper, torch.where(ball, above.at, line.at))
    lower = torch.where(through, run.lower, torch.where(ball, below.at, line.at))
    state = torch.where(open_, OPEN, torch.where(shut, SHUT, UNSEEN))
    return Edges(upper, lower, open_ | shut), state, torch.where(through, 9.0, line.depth)


def lowest(seen: Profiles, hollow: Tensor, low: Tensor, high: Tensor) -> Valleys:
    """The lowest valley between two heights that counts and is half as deep as the deepest."""
    deep = valleys(seen, hollow, low, high)
    enough = deep > (deep.amax(-1, keepdim=True) / 2).clamp_min(LID_LINE_MM)
    row = torch.where(enough.any(-1), enough.int().argmax(-1), deep.argmax(-1))
    return Valleys(seen.rows[row], deep.gather(-1, row[..., None])[..., 0])


def deepest(seen: Profiles, hollow: Tensor, low: Tensor, high: Tensor) -> Valleys:
    """The deepest valley between two heights (B,C)."""
    depth, row = valleys(seen, hollow, low, high).max(-1)
    return Valleys(seen.rows[row], depth)


def valleys(seen: Profiles, hollow: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(B,C,T) depths between two heights (B,C), 0 but where deeper than the rows beside it."""
    peak = torch.nn.functional.max_pool1d(hollow, 5, stride=1, padding=2)
    inside = seen.between(low, high) & (hollow >= peak) & (hollow > 0)
    return torch.where(inside, hollow, 0.0)


def gaps(seen: Profiles, deep_mm: Tensor) -> Edges:
    """The longest run of heights without surface, or farther than `deep_mm` (C,) behind."""
    inside = seen.between(seen.lower - BEYOND_MM, seen.upper + BEYOND_MM)
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
    return Edges(seen.rows[top] + STEP_MM / 2, seen.rows[bottom] - STEP_MM / 2, found)


def concavity(seen: Profiles) -> Tensor:
    """(B,C,T) mm: how far the surface lies behind the middle of what is VALLEY_MM up and down."""
    n = round(VALLEY_MM / STEP_MM)
    z = seen.depth
    inner = (z[..., 2 * n :] + z[..., : -2 * n]) / 2 - z[..., n:-n]
    return torch.nn.functional.pad(inner.nan_to_num(0.0), (n, n))
