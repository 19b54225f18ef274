"""Parts of a face that are judged one by one: lips, lids, corners, nose, chin, ears, forehead.

They are found on any template from its landmarks, ears and forehead from its regions where it
names them. Sizes are in units of the distance of the outer eye corners.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.types import Array


class Part(NamedTuple):
    """A part of the face on a template, and the iBUG points that locate it."""

    vertices: Array  # (N,) indices, none of them an eyeball's or hidden
    landmarks: tuple[int, ...]


BALLS: Mapping[str, tuple[tuple[int, ...], float]] = MappingProxyType(
    {
        "lips": (tuple(range(48, 68)), 0.07),
        "right mouth corner": ((48,), 0.13),
        "left mouth corner": ((54,), 0.13),
        "right lids": ((37, 38, 40, 41), 0.07),
        "left lids": ((43, 44, 46, 47), 0.07),
        "right eye corners": ((36, 39), 0.08),
        "left eye corners": ((42, 45), 0.08),
        "nose": (tuple(range(28, 36)), 0.12),
    }
)
"""Name → the iBUG points around which the part lies, and how far from them it reaches."""
CHIN = np.array([0.0, -0.24, -0.03])
"""From the middle of the lower lip (57) to the middle of the chin, and CHIN_RADIUS around it: as
far on FLAME as on the stand-in."""
CHIN_RADIUS = 0.22
EAR_LOW, EAR_HIGH = np.array([0.68, -0.15, -1.5]), np.array([1.05, 0.8, -1.0])
"""Box of an ear, seen from below the nose (33), to the side of its own."""
BROW_TO_HAIR = 0.0, 0.55
"""Heights of the forehead above the brows."""
PAIRS = (
    ("right mouth corner", "left mouth corner"),
    ("right lids", "left lids"),
    ("right eye corners", "left eye corners"),
    ("right ear", "left ear"),
)


def parts_of(model: FlameModel) -> Mapping[str, Part]:
    """The parts of a model with iBUG's inner landmarks; none where any of them is missing.

    `model` has the regions of `complete_regions`. A part without a vertex is left out, such as the
    ears of a template that ends in front of them.
    """
    if model.landmarks is None:
        return {}
    marks = model.landmarks.positions_68(model.template_mm, model.faces)
    if not np.isfinite(marks[17:]).all():
        return {}
    unit = float(np.linalg.norm(marks[45] - marks[36]))
    outer: Array = np.ones(len(model.template_mm), bool)
    for name in ("eyeballs", "hidden", "mouth_interior", "boundary"):
        outer[model.regions.get(name, np.empty(0, np.int64))] = False
    places = np.flatnonzero(outer)
    points = model.template_mm[places]
    found = {}
    for name, (landmarks, reach) in BALLS.items():
        found[name] = Part(places[_near(points, marks[list(landmarks)], reach * unit)], landmarks)
    chin = marks[57] + CHIN * unit
    found["chin"] = Part(places[_near(points, chin[None], CHIN_RADIUS * unit)], ())
    for side, sign in (("right", -1.0), ("left", 1.0)):
        seen = (points - marks[33]) / unit * [sign, 1, 1]
        inside = ((seen > EAR_LOW) & (seen < EAR_HIGH)).all(1)
        found[f"{side} ear"] = Part(_named(model, f"{side}_ear", outer, places[inside]), ())
    above = (points[:, 1] - marks[17:27, 1].mean()) / unit
    high = (above > BROW_TO_HAIR[0]) & (above < BROW_TO_HAIR[1])
    ahead = (points - marks[33])[:, 2] > -0.6 * unit
    found["forehead"] = Part(_named(model, "forehead", outer, places[high & ahead]), ())
    return {name: part for name, part in found.items() if len(part.vertices)}


def _near(points: Array, centres: Array, reach: float) -> Array:
    """(N,3), (C,3) -> (N,) bool: within reach of any of the centres."""
    gaps = np.linalg.norm(points[:, None] - centres[None], axis=2)
    return np.asarray((gaps < reach).any(axis=1))


def _named(model: FlameModel, region: str, outer: Array, otherwise: Array) -> Array:
    """The visible vertices of a region that the model names, else the ones that were found."""
    if region not in model.regions:
        return otherwise
    own = np.asarray(model.regions[region])
    return np.asarray(own[outer[own]])
