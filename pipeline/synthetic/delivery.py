"""Where a synthetic source goes on disk, and what is known of it beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.synthetic.hair import HeadFrame
from pipeline.synthetic.paint import Complexion, Painter, Surface, complexion
from pipeline.synthetic.people import Person, Pose, make_person, pose_person
from pipeline.synthetic.scanner import Capture, Rings, vertex_rings
from pipeline.synthetic.truth import Truth, save_truth
from pipeline.types import Array


class Defect(NamedTuple):
    """Where a broken file has to be stopped, and a word that the reason has to hold."""

    stage: str
    word: str


@dataclass(frozen=True)
class SyntheticSource:
    """What the demo wrote for one source. Paths are relative to `root`, `/`-separated."""

    id: str
    root: Path
    scans: tuple[str, ...]
    """Every scan file, whatever its state."""
    broken: Mapping[str, Defect] = field(default_factory=dict)
    """Files that have to be quarantined."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Files that the registry leaves out, and a word of the rule's reason."""


@dataclass(frozen=True, eq=False)
class Cast:
    """The people whom the sources scan, and what is worked out once for their model."""

    model: FlameModel
    seed: int
    rings: Rings
    frame: HeadFrame
    painter: Painter

    @classmethod
    def of(cls, model: FlameModel, seed: int) -> Cast:
        rings = vertex_rings(model.faces, len(model.template_mm))
        frame = HeadFrame.of(model)
        return cls(model, seed, rings, frame, Painter.of(model, frame))

    def person(self, number: int) -> Person:
        return make_person(self.model, self.seed, number)

    def complexion(self, number: int) -> Complexion:
        return complexion(self.seed, number)

    def skin_of(self, posed_mm: Array) -> Surface:
        """The true surface of a head (V,3) to be photographed."""
        on_ball = self.painter.on_ball
        return Surface(posed_mm, self.model.faces, self.model.template_mm, on_ball)

    def surface_of(self, capture: Capture) -> Surface:
        """A scan with the place of each vertex on the template."""
        on_ball = np.all(self.painter.on_ball[capture.triangle][capture.faces], axis=1)
        return Surface(capture.vertices_mm, capture.faces, capture.template_mm, on_ball)

    def pose(
        self, number: int, rng: np.random.Generator, expression: str = "neutral", share: float = 1.0
    ) -> Pose:
        return pose_person(self.model, self.person(number), expression, share, rng)


@dataclass(frozen=True, eq=False)
class Delivery:
    """The folder of one source, its unit and its axes."""

    out: Path
    source: str
    seed: int
    number: int
    """Tells the sources' random streams apart."""
    unit_mm: float = 1.0
    canonical_to_file: Array = field(default_factory=lambda: np.eye(3))  # (3,3) rotation

    @property
    def root(self) -> Path:
        return self.out / "sources" / self.source

    def rng(self, scan: int) -> np.random.Generator:
        """The random stream of one scan, whatever else is generated."""
        return np.random.default_rng([self.seed, 2, self.number, scan])

    def to_file(self, points_mm: Array) -> Array:
        """(…,3) canonical millimetres -> the source's axes and unit."""
        return points_mm @ self.canonical_to_file.T / self.unit_mm

    def save_truth(self, stem: str, pose: Pose, supported: Array) -> None:
        truth = Truth(
            identity=pose.person.name,
            vertices_file=self.to_file(pose.vertices_mm),
            vertices_mm=pose.vertices_mm,
            supported=supported,
            shape=pose.person.shape,
            expression=pose.expression,
            pose=pose.pose,
        )
        save_truth(self.out, self.source, stem, truth)


def nearest(vertices: Array, points: Array) -> Array:
    """(N,3), (L,3) -> (L,) index of the vertex nearest to each point."""
    return np.asarray(((points[:, None] - vertices) ** 2).sum(axis=2).argmin(axis=1))
