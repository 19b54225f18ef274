"""A miniature, and how one is written: every file goes down with the class it must be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.types import Array
from pipeline.views.camera import Camera
from tests.miniatures.files import Write, text
from tests.miniatures.heads import Head

BELONGS, LEFT_OUT, UNKNOWN = text("of a scan\n"), text("left out\n"), text("what is this?\n")
"""Contents of files that nobody opens."""


@dataclass(frozen=True, eq=False)
class ExpectedScan:
    """What must be known of a scan: from its name, and of its surface."""

    subject: str
    session: str
    expression: str
    neutral: bool
    landmarks: str | None
    """Path of its landmark file, relative to the root."""
    head: Head | None
    """Whose truth, in canonical mm; None for a scan that is no surface to register."""
    vertices_file: Array | None
    """(V,3) float64, the template's vertices of `head` in the file's unit and axes."""
    expression_class: str
    frame: int | None
    images: tuple[str, ...] | None
    """None: any."""
    photos: Mapping[str, Camera | None]
    """Path of each photo -> the true camera, in the frame of `head`; None if nothing says it."""
    missing: tuple[str, ...]
    """Files that the scan's views need and that are not there."""


@dataclass(frozen=True)
class Miniature:
    """A folder and everything the pipeline must find in it. Paths are relative, `/`-separated."""

    id: str
    root: Path
    scans: Mapping[str, ExpectedScan]
    companions: frozenset[str]
    excluded: Mapping[str, str]
    """Path -> a word of the reason."""
    quarantined: Mapping[str, str]
    """Path -> a word of the reason, for files that the catalogue must refuse."""
    refused: Mapping[str, str]
    """Scan -> a word of the reason why it cannot be read; a scan all the same."""
    subjects: Mapping[str, Mapping[str, str]]
    """Subject -> what is told of it."""
    whole: str
    """The scan to register: sound, and most typical of the dataset."""


@dataclass
class Writing:
    """A miniature in the making; `build` of a dataset's module fills it."""

    id: str
    root: Path
    unit_mm: float = 1.0
    """Millimetres in one unit of the files."""
    canonical_to_file: Array = field(default_factory=lambda: np.eye(3))  # (3,3) rotation
    scans: dict[str, ExpectedScan] = field(default_factory=dict)
    companions: set[str] = field(default_factory=set)
    excluded: dict[str, str] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    subjects: dict[str, dict[str, str]] = field(default_factory=dict)

    def to_file(self, points_mm: Array) -> Array:
        """(N,3) canonical mm -> the files' axes and unit."""
        return points_mm @ self.canonical_to_file.T / self.unit_mm

    def surface(self, head: Head) -> tuple[Array, Array]:
        """(N,3) vertices and (M,3) triangles of a scan of the head, as its file has them."""
        return self.to_file(head.vertices_mm), head.faces

    def scan(
        self,
        path: str,
        head: Head | None,
        write: Write,
        *,
        subject: str,
        session: str = "",
        expression: str = "",
        neutral: bool = True,
        landmarks: str | None = None,
        vertices_file: Array | None = None,
        expression_class: str = "",
        frame: int | None = None,
        images: tuple[str, ...] | None = None,
        photos: Mapping[str, Camera | None] | None = None,
        missing: tuple[str, ...] = (),
    ) -> None:
        """A scan file that `write` writes; `vertices_file` where it is not `to_file` of the truth.

        Without `expression_class` it is neutral or unknown. Writing the landmark file is another
        call.
        """
        self._put(path, write)
        if head is not None and vertices_file is None:
            vertices_file = self.to_file(head.truth_mm)
        self.scans[path] = ExpectedScan(
            subject,
            session,
            expression,
            neutral,
            landmarks,
            head,
            vertices_file,
            expression_class or ("neutral" if neutral else "unknown"),
            frame,
            images,
            photos or {},
            missing,
        )

    def companion(self, path: str, write: Write = BELONGS) -> None:
        self._put(path, write)
        self.companions.add(path)

    def exclude(self, path: str, reason: str, write: Write = LEFT_OUT) -> None:
        self._put(path, write)
        self.excluded[path] = reason

    def quarantine(self, path: str, reason: str, write: Write = UNKNOWN) -> None:
        self._put(path, write)
        self.quarantined[path] = reason

    def _put(self, path: str, write: Write) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target)

    def done(self) -> Miniature:
        sound = (path for path in self.scans if path not in self.refused and self.scans[path].head)
        return Miniature(
            self.id,
            self.root,
            self.scans,
            frozenset(self.companions),
            self.excluded,
            self.quarantined,
            self.refused,
            self.subjects,
            next(sound),
        )
