"""What a benchmark is, and what crosses between it, what runs it and what shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.types import Array
from pipeline.units import UnitName

Variant = Literal["as_published", "strict"]
AS_PUBLISHED: Variant = "as_published"
"""As the authors' code does, its quirks included."""
STRICT: Variant = "strict"
"""Without reflections and hidden scale, started where the protocol meant to; a missing prediction
counts against."""
VARIANTS = (AS_PUBLISHED, STRICT)


@dataclass(frozen=True)
class Given:
    """What a user says of a benchmark and of predictions."""

    root: Path
    """The benchmark, as it is delivered."""
    predictions: Path
    model: FlameModel
    """Gives predictions in its topology their landmarks, and its template is the mean head."""
    unit: UnitName = "auto"
    """Of the predictions; `auto` decides once for all of them, by their size."""
    landmarks: str | None = None
    """Pattern of the predictions' landmark files, such as "{stem}.npy"; what lies beside a mesh
    under its stem is found without."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """What the benchmark lets one choose (`Benchmark.choices`), each with a value."""


@dataclass(frozen=True)
class Case:
    """One prediction that a benchmark asks for."""

    id: str
    """Unique in the benchmark, such as "FaMoS_180424_03335_TA/selfie/IMG_0045"."""
    person: str
    """Whose truth it is compared with."""
    group: str = ""
    """Challenge, view or bin: what tables show beside the whole."""
    truth: tuple[Path, ...] = ()
    """Files of the truth, in an order of the benchmark's own."""
    prediction: Path | None = None
    """None: missing."""
    landmarks: Path | None = None
    """Of the prediction; None for one in the model's topology."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What else scoring needs, such as a factor to millimetres."""


class Cases(NamedTuple):
    """What a benchmark asks for, and what is wrong with what was delivered as a whole."""

    cases: tuple[Case, ...]
    findings: tuple[Finding, ...] = ()
    """Such as predictions of another image set."""
    extra: tuple[Path, ...] = ()
    """Files among the predictions that nobody asked for."""


class Finding(NamedTuple):
    """Something that users get wrong, found before a number is printed."""

    kind: str
    """One of `faults.KINDS`, such as "mirrored"."""
    said: str
    """A sentence: the value, what was expected, the remedy."""
    case: str = ""
    """The case's id; "" for the predictions as a whole."""
    figures: Mapping[str, float] = {}


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted mesh, or points where the benchmark scores points."""

    vertices: Array
    """(V,3) float64 in the file's unit; (68,2) px for points of an image."""
    faces: Array
    """(F,3) int64, F = 0 for points."""
    landmarks_68: Array
    """(68,3) iBUG points in the file's unit, NaN where it has none."""
    unit_mm: float = 1.0
    """Millimetres in one unit of the file."""
    in_model_topology: bool = False
    findings: tuple[Finding, ...] = ()
    """What reading it showed."""
    landmarks_85: Array | None = None
    """(85,3) REALY's keypoints, NaN where it has none; of its predictions only."""


@dataclass(frozen=True, eq=False)
class Score:
    """One prediction scored in one way."""

    mode: str
    """What is compared: "metric", "aligned", or a recipe's name."""
    variant: Variant
    distances: Array
    """(N,) float32 mm (or the benchmark's unit), one a vertex of the truth that counts."""
    part: str = ""
    """Region of the face; "" for all that counts."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What this benchmark says of one prediction, such as rmse_mm, and of its alignment: scale,
    determinant."""
    vertices_mm: Array | None = None
    """(N,3) where the distances are, for heat maps."""
    faces: Array | None = None
    """(M,3) between them."""
    upright: Array | None = None
    """(3,3) turns `vertices_mm` so that the face looks along +z, the top of the head along +y
    (`crops.upright`); None: they are so already."""


@dataclass(frozen=True, eq=False)
class Scored:
    """What became of a case: scores of the prediction and of the mean head beside it."""

    case: Case
    findings: tuple[Finding, ...] = ()
    scores: tuple[Score, ...] = ()
    """None for a prediction that is missing or cannot be read (a finding says why)."""
    mean_head: tuple[Score, ...] = ()


class Row(NamedTuple):
    """A line of a benchmark's table."""

    mode: str
    variant: Variant
    group: str
    """"" for all."""
    part: str
    """"" for all."""
    n: int
    """Predictions that it is of."""
    figures: Mapping[str, float]
    """Column -> value, such as {"median_mm": 1.1}: the same columns in all rows of a benchmark."""


class Choice(NamedTuple):
    """Something a benchmark lets its user choose."""

    meaning: str
    values: tuple[str, ...]
    """The first is taken if nothing is said; empty: any text."""
    otherwise: str = ""
    """Where any text may be said: what is taken if none is."""


@dataclass(frozen=True)
class Benchmark:
    """A protocol of the field. Its functions live in a file of this package."""

    title: str
    citation: str
    cases: Callable[[Given], Cases]
    """Lists what is asked for without reading a mesh. Raises FacefoldError where the root is not
    laid out as the benchmark is delivered."""
    read: Callable[[Case, Given], Prediction]
    """The prediction of a case. Raises FacefoldError if it cannot be read."""
    score: Callable[[Case, Prediction, Given], list[Score]]
    """Every mode, part and both variants."""
    rows: Callable[[Sequence[tuple[Case, Sequence[Score]]]], list[Row]]
    """The table of scored cases."""
    mean_head: Callable[[Case, Given], Prediction]
    """What somebody would predict who saw no image."""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    curve_limit: float = 8.0
    """Where the cumulative error curve ends, in `unit`."""
    unit: str = "mm"
    """Of distances."""
    neutral: bool = True
    """Whether predictions are asked for at rest; else an expression is no fault."""


def no_points() -> Array:
    """(68,3) of NaN: no landmark is known."""
    return np.full((68, 3), np.nan)
