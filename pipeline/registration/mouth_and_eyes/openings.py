"""Mouth and eyes: how far a scan shows them open, and where.

Nearest points do not decide it: between lips that touch, the nearest surface of either lip is the
other one, and on a coarse scan lips that are apart explain a shut mouth as well. Sections through
pairs of landmarks of both lips or lids are read instead (`profiles.py`). What they show
says where the edges belong, as rows of the same system as all else (`equations.System`). Where they
show nothing, the likeliest face decides: lips shut, lids half open, and little is sure. Lids that
can be read in several ways stay at their median height, as little sure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pipeline.landmarks.schemes import CONTOUR_68
from pipeline.registration.coefficients import Coefficients, posed_vertices, world_rotations
from pipeline.registration.gauss_newton.sites import Rows
from pipeline.registration.landmarks.targets import LandmarkTargets
from pipeline.registration.matches import ScanSurface
from pipeline.registration.mouth_and_eyes.profiles import (
    GIVEN,
    OPEN,
    SHUT,
    STATES,
    UNCLEAR,
    UNSEEN,
    Profiles,
    profiles,
    read,
)
from pipeline.registration.template import Template

PAIRS = {
    "mouth": ((61, 67), (62, 66), (63, 65)),
    "right_eye": ((37, 41), (38, 40)),
    "left_eye": ((43, 47), (44, 46)),
}
"""iBUG landmarks of the upper and the lower edge of each opening."""
EVIDENCE_MM = 0.7
"""Standard deviation of an edge's height, also where it is a guess: the surface around, which fits
lids of any height, would open them instead."""
GIVEN_OPEN_MM = 5.0
"""Given landmarks that are farther apart than this mean that the opening is open."""
SHUT_MM, LIDS_MM, LIPS_INNER_MM, LIPS_OUTER_MM = 0.5, 1.0, 0.3, 2.5
"""A landmark so near to an edge is left alone: it is not quite the edge. On lips that are open it
lies on their inner side, which a viewer does not see: away from the opening, not into it."""
UNSEEN_MM = 3.0
"""Expected error of lips or lids that the scan does not show, or shows so that it can be read in
two ways: any of the ten millimetres that lids open is about as likely, 10/√12."""
AROUND_MM = 8.0
"""Distance from the edges to which it applies."""


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
        """Corners and barycentric coordinates (2C,3), as `sites_of` takes them."""
        return self.corners.flatten(0, 1), self.barycentric.flatten(0, 1)

    def positions(self, vertices: Tensor) -> Tensor:
        """(B,V,3) -> (B,2,C,3)."""
        return (vertices[:, self.corners] * self.barycentric[..., None]).sum(-2)


@dataclass(frozen=True, eq=False)
class Openings:
    """Heights at which the edges of mouth and eyes belong on B scans."""

    pairs: Pairs
    up: Tensor  # (B,3) of the head
    middle: Tensor  # (B,C,3) mm, from which heights count
    height_mm: Tensor  # (B,2,C) of the landmarks
    weight: Tensor  # (B,2,C) 1/mm²
    tolerance_mm: Tensor  # (2,B,2,C) below and above
    state: Tensor  # (B,O) of each of PAIRS, a number of STATES

    def pull(self, vertices: Tensor) -> Rows:
        """Eq. 6 of `model_fit.py`: a row for each edge of a section, 2C of them."""
        direction = self.up[:, None].expand(-1, self.weight[0].numel(), -1)
        return Rows(direction, self.weight.flatten(1), self.gap(vertices))

    def gap(self, vertices: Tensor) -> Tensor:
        """(B,V,3) -> (B,2C) mm that each landmark has to rise."""
        apart = self.pairs.positions(vertices) - self.middle[:, None]
        gap = self.height_mm - (apart * self.up[:, None, None]).sum(-1)
        return (gap - gap.clamp(-self.tolerance_mm[0], self.tolerance_mm[1])).flatten(1)


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
    given, apart = given_apart(landmarks, pairs)
    state = heeded(state, given, apart, pairs.opening)
    own = state[:, pairs.opening]
    guess = ((own == UNSEEN) | (own == UNCLEAR)) & ~edges.found
    rim_mm = torch.where(edges.visible[:, None], rims(pairs, own), 0.0)
    read_mm = torch.stack([edges.upper, edges.lower], 1) + rim_mm
    height = torch.where(guess[:, None], likeliest(seen, pairs), read_mm)
    # what is beyond the scan follows its surroundings
    used = torch.where(guess, seen.shown, edges.found) & (own != GIVEN)
    weight = (used * EVIDENCE_MM**-2)[:, None].expand_as(height).to(height)
    up, middle = turned[:, :, 1], marks.mean(1)
    return Openings(pairs, up, middle, height, weight, tolerances(own, pairs.opening), state)


def rims(pairs: Pairs, state: Tensor) -> Tensor:
    """(B,C) -> (B,2,C) mm from an edge to its landmark: past the line of shut ones none crosses."""
    no_crossing = torch.stack([pairs.rim_mm[0].clamp_min(0), pairs.rim_mm[1].clamp_max(0)])
    return torch.where((state == SHUT)[:, None], no_crossing, pairs.rim_mm)


def heeded(state: Tensor, given: Tensor, apart: Tensor, opening: Tensor) -> Tensor:
    """The states (B,O), GIVEN where landmarks of all sections say more, or another thing."""
    heard = []
    for one, own in enumerate(state.unbind(1)):
        at = opening == one
        better = given[:, at].all(1) & ((own != SHUT) | (apart[:, at].mean(1) > GIVEN_OPEN_MM))
        heard.append(torch.where(better, GIVEN, own))
    return torch.stack(heard, 1)


def tolerances(state: Tensor, opening: Tensor) -> Tensor:
    """(B,C) -> (2,B,2,C) mm that a landmark may have to fall or to rise and be left alone."""
    lips, is_open = opening == 0, state == OPEN
    # shut lips and lids touch; lids that do not show are half open
    shut = torch.where(lips, SHUT_MM, 0.0)
    inner = torch.where(is_open, torch.where(lips, LIPS_INNER_MM, LIDS_MM), shut)
    outer = torch.where(is_open, torch.where(lips, LIPS_OUTER_MM, LIDS_MM), shut)
    # the upper one rises away from the opening, the lower one into it
    return torch.stack([torch.stack([outer, inner], 1), torch.stack([inner, outer], 1)])


def given_apart(landmarks: LandmarkTargets, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Whether a scan came with both landmarks of a section, and how far apart they are, (B,C)."""
    given = (landmarks.confidence[:, pairs.target] > 0).all(1)
    ends = landmarks.points[:, pairs.target]
    return given, (ends[:, 0] - ends[:, 1]).norm(dim=-1)


def likeliest(seen: Profiles, pairs: Pairs) -> Tensor:
    """(B,2,C) heights of shut lips and half-open lids, where the scan shows nothing of them."""
    half = torch.where(pairs.opening == 0, 0.0, pairs.rest_mm / 4)
    # the upper lid does most of the way
    down = torch.where(pairs.opening == 0, 0.0, pairs.rest_mm / 8)
    middle = (seen.upper + seen.lower) / 2 - down
    return torch.stack([middle + half, middle - half], 1)


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
    rim = torch.stack([seen.upper - edges.upper, seen.lower - edges.lower], 1)[0]
    rim = torch.where((edges.found & edges.visible)[0], rim, 0.0)
    return replace(pairs, rest_mm=(seen.upper - seen.lower)[0], rim_mm=rim)


def with_unseen(template: Template, openings: Openings | None, expected_mm: Tensor) -> Tensor:
    """(B,V) expected errors, larger around an opening that a scan does not show."""
    if openings is None:
        return expected_mm
    guess = (openings.state == UNSEEN) | (openings.state == UNCLEAR)
    more = UNSEEN_MM * guess.to(expected_mm)
    return (expected_mm.square() + (more @ near_openings(template)).square()).sqrt()


@lru_cache(maxsize=8)
def near_openings(template: Template) -> Tensor:
    """(O,V) 1 at the edges of each opening, 0 far from them."""
    pairs = pairs_of(template)
    assert pairs is not None  # who asks has openings
    rest = template.tensors.template
    marks = pairs.positions(rest[None])[0]
    far = [
        torch.cdist(rest, marks[:, pairs.opening == one].flatten(0, 1)).amin(1)
        for one in range(len(PAIRS))
    ]
    return torch.exp(-((torch.stack(far) / AROUND_MM) ** 2) / 2)


def facts(openings: Openings | None, vertices: Tensor) -> list[dict[str, Any]]:
    """For each of B results (B,V,3) what was read of each opening and its mean height in mm, by
    name; nothing where the template has none."""
    if openings is None:
        return [{} for _ in vertices]
    marks = openings.pairs.positions(vertices)
    apart = (marks[:, 0] - marks[:, 1]).norm(dim=-1)
    names = list(PAIRS)
    own = [apart[:, openings.pairs.opening == one].mean(1).tolist() for one in range(len(names))]
    found = []
    for row, states in enumerate(openings.state.tolist()):
        read_as = {name: STATES[state] for name, state in zip(names, states, strict=True)}
        found.append(read_as | {f"{name}_gap_mm": own[i][row] for i, name in enumerate(names)})
    return found
