"""People of two families for `who_is_who.py`: strangers, relatives, and what a year does to a face.

A family makes displacements of its mean head, in which relatives' are correlated; soft tissue that
comes and goes between sessions is a further smooth field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from cases import Case, Head, Recipe, scanned
from ict_cases import IctModel, both
from second_family import face_of
from second_head import N_HEAD, MeanHead
from second_identity import displaced

from pipeline.types import Array

SENSORS: Mapping[str, tuple[float, int, tuple[int, ...]]] = {
    ".1 mm, 100k": (0.1, 100_000, tuple(range(17, 68))),
    ".3 mm, 40k": (0.3, 40_000, (36, 39, 42, 45, 30, 33, 48, 54, 51, 57)),
    ".6 mm, 15k": (0.6, 15_000, (36, 39, 42, 45, 30, 48, 54)),
    "1 mm, 5k": (1.0, 5_000, tuple(range(36, 68))),
}
"""Noise, triangles and the landmarks that are annotated."""
CLASSES = ("neutral", "expression", "half face", "60 mm crop")
ICT_EXPRESSIONS: tuple[Mapping[str, float], ...] = (
    both(mouthSmile=1.0, cheekSquint=1.0),
    {"jawOpen": 0.9},
    {"mouthPucker": 1.0},
    both(cheekPuff=1.0),
    {**both(browOuterUp=1.0, mouthStretch=1.0, eyeWide=1.0), "jawOpen": 0.9},
    both(noseSneer=1.0, browDown=1.0, mouthUpperUp=1.0, cheekSquint=1.0),
    {"mouthSmile_L": 1.0, "eyeBlink_R": 1.0, "jawLeft": 1.0, "jawOpen": 0.5},
    both(browOuterUp=0.8, mouthFrown=0.8, eyeSquint=0.6),
)
SECOND_EXPRESSIONS: tuple[Mapping[str, float], ...] = (
    {"smile": 1.0},
    {"open jaw": 0.9},
    {"pout": 1.0},
    {"cheeks puffed": 1.0},
    {"brows up": 1.0, "open jaw": 0.8, "smile": 0.4},
    {"brows together": 1.0, "pout": 0.5},
    {"smile": 0.4, "mouth to the left": 0.8, "shut lids": 0.5},
    {"brows up": 0.8, "smile": -0.5},
)


class Family(Protocol):
    """A kind of faces; places are those of its mean head."""

    name: str
    expressions: tuple[Mapping[str, float], ...]

    @property
    def rest(self) -> Array:
        """(N,3) mm the mean head's vertices."""

    @property
    def nose(self) -> Array:
        """(3,) mm the tip of its nose."""

    def displacement(self, rng: np.random.Generator) -> Array:
        """(N,3) mm a stranger's, off the mean head."""

    def strangers(self, rngs: Sequence[np.random.Generator]) -> Iterator[Array]:
        """(5023,3) mm of each stranger's displacement where FLAME's vertices are."""

    def on_flame(self, vertices: Array) -> Array:
        """(N,3) -> (5023,3), NaN where a vertex is on no skin."""

    def head(
        self, vertices: Array, expression: Mapping[str, float], rng: np.random.Generator
    ) -> Head:
        """A person at rest with an expression, to be scanned."""


@dataclass(frozen=True, eq=False)
class IctFamily:
    """ICT-FaceKit's 100 identity modes."""

    ict: IctModel
    name: str = "ICT"
    expressions: tuple[Mapping[str, float], ...] = ICT_EXPRESSIONS

    @property
    def rest(self) -> Array:
        return self.ict.neutral

    @property
    def nose(self) -> Array:
        return self.ict.neutral[self.ict.landmarks68[30]]

    def displacement(self, rng: np.random.Generator) -> Array:
        return np.tensordot(rng.normal(size=len(self.ict.identity)), self.ict.identity, 1)

    def strangers(self, rngs: Sequence[np.random.Generator]) -> Iterator[Array]:
        rest = self.ict.on_flame(self.rest)
        modes = np.stack([self.ict.on_flame(self.rest + m) - rest for m in self.ict.identity])
        for rng in rngs:
            yield np.tensordot(rng.normal(size=len(modes)), modes, 1)

    def on_flame(self, vertices: Array) -> Array:
        return self.ict.on_flame(vertices)

    def head(
        self, vertices: Array, expression: Mapping[str, float], rng: np.random.Generator
    ) -> Head:
        moved = self.ict.vertices(np.zeros(len(self.ict.identity)), expression) - self.ict.neutral
        return self.ict.head(vertices + moved, rng)


@dataclass(frozen=True, eq=False)
class SecondFamily:
    """FLAME's mean head under fields that no basis explains."""

    mean: MeanHead
    name: str = "second family"
    expressions: tuple[Mapping[str, float], ...] = SECOND_EXPRESSIONS

    @property
    def rest(self) -> Array:
        return self.mean.vertices

    @cached_property
    def nose(self) -> Array:
        return self.mean.marks[30]

    def displacement(self, rng: np.random.Generator) -> Array:
        return displaced(self.rest, rng) - self.rest

    def strangers(self, rngs: Sequence[np.random.Generator]) -> Iterator[Array]:
        rest = self.rest[:N_HEAD]
        for rng in rngs:
            yield self.on_flame(displaced(rest, rng)) - self.on_flame(rest)

    def on_flame(self, vertices: Array) -> Array:
        points = np.full((len(self.mean.skin), 3), np.nan)
        points[:N_HEAD] = vertices[:N_HEAD]
        points[~self.mean.skin] = np.nan
        return points

    def head(
        self, vertices: Array, expression: Mapping[str, float], rng: np.random.Generator
    ) -> Head:
        return face_of(self.mean, vertices, expression, rng)


def family_of(name: str, shared_data: Path) -> Family:
    """ "ict" or "second"."""
    if name == "ict":
        return IctFamily(IctModel.load(shared_data))
    return SecondFamily(MeanHead.load(shared_data))


TISSUE = (
    # place from the tip of the nose (mirrored), reach, mm by weight, mm by age, mm down by age
    ((40.0, -5.0, -25.0), 16.0, 1.2, -0.5, 0.5),
    ((45.0, -40.0, -35.0), 15.0, 1.2, 0.6, 0.8),
    ((0.0, -78.0, -35.0), 16.0, 1.6, 0.4, 0.6),
    ((0.0, -112.0, -60.0), 25.0, 1.8, 0.2, 0.4),
    ((25.0, -20.0, -15.0), 9.0, 0.4, -0.5, 0.3),
    ((55.0, 30.0, -45.0), 14.0, 0.4, -0.4, 0.0),
    ((33.0, 22.0, -25.0), 9.0, 0.2, -0.3, 0.3),
)
"""Cheeks, jowls, below the chin, neck, beside the mouth, temples, lids."""


def tissue_fields(family: Family) -> Array:
    """(2L,N,3) mm: what weight and what age do to each place, at one standard deviation."""
    place = family.rest - family.nose
    out = place - [0.0, 0.0, -95.0]
    out[:, 1] *= 0.3
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    down = np.array([0.0, -1.0, 0.0])
    fields = []
    for centre, reach, by_weight, by_age, sag in TISSUE:
        off = place.copy()
        if centre[0]:
            off[:, 0] = np.abs(off[:, 0])
        lump = np.exp(-0.5 * ((off - centre) ** 2).sum(1) / reach**2)[:, None]
        fields += [by_weight * lump * out, lump * (by_age * out + sag * down)]
    return np.stack(fields)


def tissue_weights(rng: np.random.Generator) -> Array:
    """(2L,) of a session: weight and age act everywhere, more in some places than in others."""
    common = rng.normal(size=2)
    own = rng.normal(size=(len(TISSUE), 2))
    return (0.85 * common + 0.5 * own).ravel()


@dataclass(frozen=True)
class Shot:
    """One scan: of whom, in which session, how."""

    person: int
    session: int
    kind: str
    sensor: str

    def case(self, family: Family, fields: Array) -> Case:
        """The scan; a person's seed makes them, with the session's the soft tissue."""
        at_rest = family.rest + family.displacement(np.random.default_rng(self.person))
        session = np.random.default_rng([self.person, self.session])
        at_rest = at_rest + np.tensordot(tissue_weights(session), fields, 1)
        own = [self.person, self.session, CLASSES.index(self.kind), [*SENSORS].index(self.sensor)]
        rng = np.random.default_rng(own)
        chosen = family.expressions[rng.integers(len(family.expressions))]
        strength = rng.uniform(0.7, 1.0)
        expression = {name: strength * weight for name, weight in chosen.items()}
        given = expression if self.kind == "expression" else {}
        head = family.head(at_rest, given, rng)
        noise, triangles, marks = SENSORS[self.sensor]
        crop = {"half face": ("left half", "right half")[rng.integers(2)], "60 mm crop": "60 mm"}
        recipe = Recipe(
            self.kind, 0, crop=crop.get(self.kind, ""), noise_mm=noise, triangles=triangles
        )
        head.marks_mm[np.setdiff1d(np.arange(68), marks)] = np.nan
        return scanned("who:" + "/".join(map(str, own)), head, recipe, rng)
