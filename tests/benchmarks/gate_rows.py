"""Rows of the gates' benchmark: what was measured of each sound or spoiled face, kept on disk."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, islice
from pathlib import Path

import numpy as np
from gate_cases import FAMILIES, Face, Tried, cached, ict_model, model_of, part_gaps, registered
from gate_slides import SLIDES, slid
from gate_spoils import NO_FACE, OF_FILES
from poses import no_face

from pipeline.build.code_keys import ROOT, stage_code
from pipeline.quality.declared import wrong_axes
from pipeline.quality.measures import Measures, measure
from pipeline.refusals import Code
from pipeline.registration import register
from pipeline.registry import Limits
from pipeline.types import Array

SOUND, OBJECT = "sound", "another thing"
OBJECTS = ("ball", "plane", "box", "torso", "back of a head", "scalp")
KINDS: Mapping[str, frozenset[Code]] = {
    **{name: kind.codes for name, kind in OF_FILES.items()},
    OBJECT: NO_FACE,
    **{name: frozenset({Code.SLID, Code.LANDMARK_ERROR}) for name in SLIDES},
}
"""Spoiled kind → the codes that name it rightly."""
MEASURED = (
    "flame/parts.py",
    *(f"quality/{name}.py" for name in ("local", "measures", "relief", "surface")),
)
"""Files that the measures of a registration depend on."""


@dataclass(frozen=True, eq=False)
class Row:
    """What became of one face of a kind."""

    family: str
    kind: str
    seed: int
    marks: bool
    gaps: Mapping[str, Array] = field(default_factory=dict)
    """See `part_gaps`; empty without a truth."""
    refused: Code | None = None
    """Before its quality was judged, or for what was declared of it."""
    measures: Measures | None = None


class Store:
    """Rows and registrations of the code as it is, computed once."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder
        here = Path(__file__).parent
        self.registering = f"{stage_code('register')} {stage_code('read')}" + digest(
            [here / "gate_cases.py"]
        )
        self.spoiling = self.registering + digest([here / "gate_spoils.py"])
        self.measuring = self.spoiling + digest(
            [*(ROOT / name for name in MEASURED), here / "gate_slides.py"]
        )

    def sound(self, family: str, seed: int) -> Tried:
        model = model_of(self.data, family)
        return cached(
            self.folder,
            f"{self.registering} {family} {seed}",
            lambda: registered(face_of(family, self.data, seed), model),
        )

    def sound_row(self, family: str, seed: int) -> Row:
        def make() -> Row:
            return row_of(SOUND, seed, self.sound(family, seed), self.data)

        return cached(self.folder, f"{self.measuring} {family} {seed} row", make)

    def slid_row(self, family: str, kind: str, seed: int) -> Row | None:
        """A sound result moved at a place that the scan shows; None where there is none or the
        result was not sound."""

        def make() -> Row | None:
            tried, model = self.sound(family, seed), model_of(self.data, family)
            if tried.registration is None or tried.registration.status == "failed":
                return None
            rng = np.random.default_rng([seed, len(kind)])
            slides = [s for s in SLIDES[kind] if s.part in part_gaps(tried, model)]
            if not slides:
                return None
            slide = slides[rng.integers(len(slides))]
            moved = slid(tried, model, slide, rng, explained=bool(rng.integers(2)))
            return row_of(kind, seed, Tried(tried.face, tried.scan, moved), self.data)

        return cached(self.folder, f"{self.measuring} {family} {seed} {kind}", make)

    def file_row(self, family: str, kind: str, seed: int) -> Row | None:
        """A face whose file was spoiled; None where the face of that seed does not serve."""

        def spoiled() -> Tried | None:
            given, face = OF_FILES[kind], face_of(family, self.data, seed)
            if given.marks not in (None, face.marks is not None):
                return None
            if given.expression and not face.open_mouth:
                return None
            changed = given.spoil(face, np.random.default_rng(seed))
            return registered(changed, model_of(self.data, family))

        def make() -> Row | None:
            tried = cached(self.folder, f"{self.spoiling} {family} {seed} {kind} tried", spoiled)
            return None if tried is None else row_of(kind, seed, tried, self.data)

        return cached(self.folder, f"{self.measuring} {family} {seed} {kind}", make)

    def object_row(self, family: str, seed: int) -> Row:
        def make() -> Row:
            kind = OBJECTS[seed % len(OBJECTS)]
            scan = no_face(ict_model(self.data), kind, np.random.default_rng(seed))
            face = face_of(family, self.data, seed)
            unmarked = Face(kind, family, face.vertices, face.faces, None, face.truth_mm,
                            face.supported, face.places)  # fmt: skip
            result = register([scan], model_of(self.data, family))[0]
            return row_of(OBJECT, seed, Tried(unmarked, scan, result), self.data)

        return cached(self.folder, f"{self.measuring} {family} {seed} {OBJECT}", make)

    def spoiled(self, families: list[str], kind: str, first: int, wanted: int) -> list[Row]:
        """So many rows of a kind, families in turn, from a first seed on."""
        return list(islice(self._spoiled(families, kind, first), wanted))

    def _spoiled(self, families: list[str], kind: str, first: int) -> Iterator[Row]:
        for i in count():
            family, seed = families[i % len(families)], first + i // len(families)
            if kind == OBJECT:
                row: Row | None = self.object_row(family, seed)
            elif kind in SLIDES:
                row = self.slid_row(family, kind, seed)
            else:
                row = self.file_row(family, kind, seed)
            if row is not None:
                yield row


@lru_cache(maxsize=400)
def face_of(family: str, data: Path, seed: int) -> Face:
    return FAMILIES[family](data, seed)


def digest(files: list[Path]) -> str:
    """Digest of what the files say, whatever their layout."""
    sha = hashlib.sha256()
    for file in files:
        sha.update(ast.dump(ast.parse(file.read_bytes())).encode())
    return sha.hexdigest()


def row_of(kind: str, seed: int, tried: Tried, data: Path) -> Row:
    face, result = tried.face, tried.registration
    marks = face.marks is not None
    if result is None or tried.scan is None:
        assert tried.refusal is not None
        return Row(face.family, kind, seed, marks, refused=tried.refusal.code)
    if result.status == "failed":
        return Row(face.family, kind, seed, marks, refused=result.code or Code.DIVERGED)
    model = model_of(data, face.family)
    gaps = part_gaps(tried, model) if kind == SOUND or kind in SLIDES else {}
    declared = wrong_axes(result, model, face.axes, Limits())
    found = measure(tried.scan, result, model, face.neutral)
    return Row(face.family, kind, seed, marks, gaps, declared and declared.code, found)
