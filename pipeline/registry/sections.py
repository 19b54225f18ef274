"""The sections of a source file as strict models: nothing unknown, nothing coerced.

The descriptions are the reference: the JSON Schema that editors show is made from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    model_validator,
)
from pydantic import Strict as StrictType

from pipeline.formats import READERS
from pipeline.landmarks import LANDMARK_READERS
from pipeline.landmarks.schemes import SCHEMES
from pipeline.registry.naming import glob_regex, name_regex, path_template
from pipeline.registry.patterns import is_pattern, value_regex
from pipeline.types import Array
from pipeline.units import EXTENT_MM, OUTER_EYE_MM, UnitName


def one_of(value: str, known: Collection[str]) -> str:
    """ "one of a, b, c", with the nearest of them where `value` looks like a slip."""
    close = get_close_matches(value, known, n=1)
    return f"one of {', '.join(sorted(known))}" + (f"; did you mean {close[0]}?" if close else "")


def known(names: Collection[str]) -> AfterValidator:
    """Keeps a name that is one of `names`."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(one_of(value, names))
        return value

    return AfterValidator(check)


def accepted_by(compile_: Callable[[str], object]) -> AfterValidator:
    """Keeps the text, once `compile_` takes it without a ValueError."""

    def check(value: str) -> str:
        compile_(value)
        return value

    return AfterValidator(check)


WORDS = {"axes": "unknown", "landmarks": "none", "neutral": "all"}
"""Fields that must be stated, and the word that states there is nothing to say (None)."""


def or_word(word: str) -> BeforeValidator:
    """None where the value is this word; nothing at all is refused."""

    def check(value: Any) -> Any:
        if value is None:
            raise ValueError(f"a value, or the word `{word}`")
        return None if value == word else value

    return BeforeValidator(check)


def _filled_in(value: str) -> str:
    if value == "FILL":
        raise ValueError("a value in place of this placeholder")
    return value


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] < value[1]:
        raise ValueError("two positive numbers, the smaller first")
    return value


Text = Annotated[str, Field(min_length=1), AfterValidator(_filled_in)]
Glob = Annotated[str, accepted_by(glob_regex)]
UNIT_NAMES = get_args(UnitName)
PathTemplate = Annotated[str, Field(min_length=1), accepted_by(path_template)]
Number = Annotated[float, StrictType()]
Interval = Annotated[tuple[Number, Number], AfterValidator(_ascending)]
LandmarkFormat = Annotated[
    str, known(LANDMARK_READERS), Field(json_schema_extra={"enum": sorted(LANDMARK_READERS)})
]
Scheme = Annotated[str, known(SCHEMES), Field(json_schema_extra={"enum": sorted(SCHEMES)})]
Format = Annotated[str, known(READERS), Field(json_schema_extra={"enum": sorted(READERS)})]
Unit = Annotated[str, known(UNIT_NAMES), Field(json_schema_extra={"enum": [*UNIT_NAMES]})]
Neutral = tuple[Text, ...]
SameAs = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*:.+$")]
FirstItem = Literal[0, 1]
Degrees = Annotated[Number, Field(gt=0, le=180)]
Direction = Literal["+x", "-x", "+y", "-y", "+z", "-z"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Licence(Section):
    name: Text = Field(description="Name of the licence or of the agreement.")
    url: Text = Field(description="Where the terms are written.")
    redistribution: StrictBool = Field(description="May data made from the scans be passed on?")
    commercial: StrictBool = Field(description="May the scans be used commercially?")


class Exclusion(Section):
    pattern: Glob = Field(description="Glob on the path relative to the root.")
    reason: Text = Field(description="Why; shown with every file that the pattern leaves out.")


class Scans(Section):
    include: tuple[Glob, ...] = Field(
        min_length=1,
        description="Globs on paths relative to the root; `**` spans folders, case is ignored.",
    )
    name: Annotated[str, accepted_by(name_regex)] = Field(
        description="Regular expression on the whole relative path, `/`-separated, with the group "
        "(?P<subject>…) and, where names tell them, session, expression, frame, the number within "
        "a sequence, and others."
    )
    exclude: tuple[Exclusion, ...] = Field(default=(), description="Files left out on purpose.")
    companions: tuple[Glob, ...] = Field(
        default=(),
        description="Globs of files that belong to scans: materials, textures, metadata.",
    )
    examples: dict[str, dict[str, str]] = Field(
        default={},
        description="Relative path -> the groups it must give; documents and tests `name`.",
    )


class Axes(Section):
    """Which way the file's axes point. Canonical: +y up, +z out of the face, +x to its left."""

    up: Direction = Field(description="The file's axis from the chin to the forehead.")
    forward: Direction = Field(description="The file's axis out of the face.")
    left: Direction | None = Field(
        default=None,
        description="The file's axis to the subject's left; follows from the other two.",
    )
    rotation_deg: tuple[
        Annotated[dict[Literal["x", "y", "z"], Number], Field(min_length=1, max_length=1)], ...
    ] = Field(
        default=(),
        description="Rotations about the file's fixed axes that make a tilted file upright, "
        "applied in this order before `up` and `forward` are read: [{x: -45}, {y: -45}].",
    )

    @model_validator(mode="after")
    def _right_handed(self) -> Axes:
        up, forward = _unit_vector(self.up), _unit_vector(self.forward)
        if up @ forward:
            raise ValueError("`up` and `forward` on different axes")
        left = np.cross(up, forward)
        if self.left is not None and (_unit_vector(self.left) != left).any():
            follows = next(d for d in _DIRECTIONS if (_unit_vector(d) == left).all())
            raise ValueError(
                f"`left` to be {follows}, which follows from up {self.up} and forward "
                f"{self.forward}: a mirrored or skewed frame is refused"
            )
        return self

    def rotation(self) -> Array:
        """(3,3) float64, file to canonical axes; a proper rotation."""
        from scipy.spatial.transform import Rotation

        up, forward = _unit_vector(self.up), _unit_vector(self.forward)
        matrix = np.stack([np.cross(up, forward), up, forward])
        tilt = np.eye(3)
        for step in self.rotation_deg:
            for axis, degrees in step.items():
                tilt = Rotation.from_euler(axis, degrees, degrees=True).as_matrix() @ tilt
        return matrix @ tilt


_DIRECTIONS: tuple[Direction, ...] = ("+x", "-x", "+y", "-y", "+z", "-z")


def _unit_vector(direction: str) -> Array:
    return np.asarray((1.0 if direction[0] == "+" else -1.0) * np.eye(3)["xyz".index(direction[1])])


class Landmarks(Section):
    file: PathTemplate = Field(
        description="A scan's landmark file relative to the root, with {dir}, {stem} and the "
        "groups of scans.name in braces: `{dir}/{stem}.bnd`."
    )
    format: LandmarkFormat = Field(description="Its reader.")
    scheme: Scheme = Field(description="What each landmark is.")
    required: StrictBool = Field(
        default=False, description="Is a scan without its landmark file quarantined, or goes it on?"
    )


class Scale(Section):
    """What raw coordinates are multiplied by, before the unit: a number, or a table's value."""

    factor: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="One factor for all scans: 0.25."
    )
    file: PathTemplate | None = Field(
        default=None,
        description="Or a table of factors, relative to the root: .json, .npy, .csv (the first "
        "column names the row), or .txt with one number a row.",
    )
    key: PathTemplate | None = Field(
        default=None,
        description="Where a scan's factor stands in the table: names and numbers of lists, "
        "`/`-separated, with the groups of scans.name in braces: `{subject}/{take}/0`.",
    )
    first: FirstItem = Field(default=0, description="Number of the first item of a list.")

    @model_validator(mode="after")
    def _one_rule(self) -> Scale:
        if (self.factor is None) == (self.file is None) or (self.file is None) != (
            self.key is None
        ):
            raise ValueError("either `factor`, or `file` and `key`")
        return self


class SubjectTable(Section):
    """What files say of people or scans: a table of all, or a text beside each scan."""

    file: PathTemplate = Field(
        description="As landmarks.file; `*` and `?` may stand in the name of a text."
    )
    else_file: tuple[PathTemplate, ...] = Field(
        default=(), description="Looked for in this order where `file` is not there."
    )
    format: Literal["csv", "columns", "text"] = Field(
        description="`csv`: a row a subject, commas between; `columns`: the same, blanks between; "
        "`text`: `key: value` rows, one file a subject or scan."
    )
    columns: tuple[Text, ...] = Field(
        default=(), description="Names of a table's columns, where its first row does not say them."
    )
    subject: Text | None = Field(default=None, description="A table's column that names subjects.")
    scan: Text | None = Field(
        default=None, description="Or the one that names scans, by the stems of their files."
    )
    fields: dict[str, Text] = Field(
        min_length=1,
        description="What is kept under which name: {sex: gender} keeps `gender` as sex. The field "
        "`expression` is a scan's, where scans.name has no such group.",
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> SubjectTable:
        if (self.format == "text") == bool(self.subject or self.scan) or (
            self.subject and self.scan
        ):
            raise ValueError("`subject` for a table of all subjects or `scan`, and for no text")
        named = {self.subject or self.scan, *self.fields.values()}
        if self.columns and (self.format == "text" or not named <= {*self.columns}):
            raise ValueError("`columns` of a table, with all that `subject` and `fields` name")
        if self.format == "columns" and not self.columns:
            raise ValueError("names in `columns`")
        return self


class Subjects(Section):
    case: Literal["keep", "upper", "lower"] = Field(
        default="keep", description="Case of the groups, where file names mix it."
    )
    same_as: dict[str, SameAs] = Field(
        default={},
        description="Subject -> `source:subject`, the same person in another source. A key with "
        "`(`, `[` or `\\` is a regular expression on the whole subject, and the first that fits "
        "counts: {'F(\\d+)': 'other:F0\\1'}. \"*\" stands for all others: "
        '{"*": "other:{subject}"}.',
    )
    pseudonyms: StrictBool = Field(
        default=False,
        description="Are subjects called by people's own names? Then ids hold a hash of each name.",
    )
    repeated: StrictBool = Field(
        default=False,
        description="Are there people with several names in the source? Else no two of its "
        "subjects are ever merged with one person of another.",
    )
    table: SubjectTable | None = Field(default=None, description="What files tell of them.")
    metadata: dict[str, dict[str, str]] = Field(
        default={},
        description="Group of scans.name, or field of the table -> what its values mean: "
        "{sex: {F: female}}.",
    )

    @model_validator(mode="after")
    def _of_expressions(self) -> Subjects:
        for key in filter(is_pattern, self.same_as):
            try:
                value_regex(key)
            except ValueError as error:
                raise ValueError(f"{error} as the key {key} of same_as") from error
        return self


class Benchmark(Section):
    """A benchmark that tests on people of the source, all of them or some."""

    name: Text = Field(description="The benchmark.")
    subjects: Annotated[str, accepted_by(value_regex)] | None = Field(
        default=None,
        description="Regular expression on the whole subject of those it tests on; all without it.",
    )

    def tests_on(self, subject: str) -> bool:
        return self.subjects is None or bool(value_regex(self.subjects).fullmatch(subject))

    def __str__(self) -> str:
        return self.name if self.subjects is None else f"{self.name} ({self.subjects})"


def _by_name(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if value is None or isinstance(value, (Mapping, Benchmark)):
        return value
    raise ValueError("a name, or {name: …, subjects: …}")


TestedBy = Annotated[Benchmark | None, BeforeValidator(_by_name)]


class Limits(Section):
    max_rejected_share: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.2, description="A build fails when a larger share of the scans is quarantined."
    )
    outer_eye_mm: Interval = Field(
        default=OUTER_EYE_MM, description="Plausible distance of the outer eye corners."
    )
    extent_mm: Interval = Field(
        default=EXTENT_MM, description="Plausible largest extent of a scan without landmarks."
    )
    turn_deg: Degrees = Field(
        default=50.0,
        description="A face turned further from upright contradicts `axes`. Wrong axes turn it by "
        "90° or more.",
    )
    turned_deg: dict[str, Degrees] = Field(
        default={},
        description="The same for expressions that turn the head: {YR*: 100}. Globs on the group "
        "expression; the first that fits counts.",
    )

    def of(self, expression: str) -> Limits:
        """These limits for scans of an expression."""
        fits = (d for glob, d in self.turned_deg.items() if fnmatchcase(expression, glob))
        return self.model_copy(update={"turn_deg": next(fits, self.turn_deg)})
