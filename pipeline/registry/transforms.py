"""A scan's own similarity: what its makers moved, turned or scaled, undone or done as they define.

The steps of `transform` are applied to raw coordinates in their order; the result is in `unit` and
`axes`. Points are columns: `rotate` is R·v, so that rows times R, as in v @ R, is `rotate_back`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from pipeline.errors import FormatError
from pipeline.formats.content import floats, read_text
from pipeline.refusals import Code
from pipeline.registry.sections import FirstItem, PathTemplate, Section, Text
from pipeline.registry.tables import SUFFIXES, npy_array, number_table
from pipeline.types import Array, TransformStep

ROTATION_TOLERANCE = 1e-3
"""Largest entry of RᵀR − 1 that rounding to four decimals or to float32 leaves; beyond it a matrix
scales, shears or mirrors."""


def _number(values: Array) -> Array:
    matrix = np.eye(4)
    if values.size != 1 or not 0 < values.item() < np.inf:
        raise ValueError("one positive number")
    matrix[:3, :3] *= values.item()
    return matrix


def _vector(values: Array) -> Array:
    matrix = np.eye(4)
    if values.size != 3:
        raise ValueError("three numbers")
    matrix[:3, 3] = values.ravel()
    return matrix


def _rotation(values: Array) -> Array:
    matrix = np.eye(4)
    if values.size != 9:
        raise ValueError("a rotation of 3×3 numbers")
    matrix[:3, :3] = _nearest_rotation(values.reshape(3, 3))
    return matrix


def _rigid(values: Array) -> Array:
    matrix = np.eye(4)
    if values.size not in (12, 16):
        raise ValueError("a rotation and a translation of 3×4 numbers")
    rows = values.reshape(-1, 4)
    if not (rows[3:] == matrix[3:][: len(rows) - 3]).all():
        raise ValueError("0 0 0 1 as the last row")
    matrix[:3, :3] = _nearest_rotation(rows[:3, :3])
    matrix[:3, 3] = rows[:3, 3]
    return matrix


def _nearest_rotation(matrix: Array) -> Array:
    """(3,3): what rounding has left of a rotation, made one; ValueError if it never was."""
    if not np.abs(matrix.T @ matrix - np.eye(3)).max() < ROTATION_TOLERANCE:
        raise ValueError("a rotation: its columns are not of length 1 at right angles")
    if np.linalg.det(matrix) < 0:
        raise ValueError("a rotation: its determinant is -1, a mirror image")
    u, _, vt = np.linalg.svd(matrix)
    return np.asarray(u @ vt)


OPERATIONS: Mapping[str, tuple[Callable[[Array], Array], bool]] = MappingProxyType(
    {
        "multiply": (_number, False),
        "divide": (_number, True),
        "add": (_vector, False),
        "subtract": (_vector, True),
        "rotate": (_rotation, False),
        "rotate_back": (_rotation, True),
        "rigid": (_rigid, False),
        "rigid_back": (_rigid, True),
    }
)
"""Name of a step -> the (4,4) matrix of its values, and whether its inverse is meant."""
MOST_NUMBERS = 16
SCALING = ("multiply", "divide")


class Step(Section):
    """One operation and where its numbers stand: a file of the scan's own, or a table's `key`."""

    multiply: PathTemplate | None = Field(default=None, description="v' = s·v.")
    divide: PathTemplate | None = Field(default=None, description="v' = v / s.")
    add: PathTemplate | None = Field(default=None, description="v' = v + t.")
    subtract: PathTemplate | None = Field(default=None, description="v' = v − t.")
    rotate: PathTemplate | None = Field(
        default=None, description="v' = R·v of columns; of rows it is v @ R.T."
    )
    rotate_back: PathTemplate | None = Field(
        default=None, description="v' = Rᵀ·v of columns; of rows it is v @ R."
    )
    rigid: PathTemplate | None = Field(
        default=None, description="v' = R·v + t of a 3×4 or 4×4 matrix [R t]."
    )
    rigid_back: PathTemplate | None = Field(default=None, description="v' = Rᵀ·(v − t) of [R t].")
    key: PathTemplate | None = Field(
        default=None,
        description="Where the numbers stand in a table of many scans, as scale.key. Without it "
        "the file is the scan's own, .npy, .json or .txt.",
    )
    first: FirstItem = Field(default=0, description="Number of the first item of a list.")

    @model_validator(mode="after")
    def _one_operation(self) -> Step:
        given = [name for name in OPERATIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"one of {', '.join(OPERATIONS)}, and a file")
        return self

    @property
    def do(self) -> str:
        """The operation."""
        return next(name for name in OPERATIONS if getattr(self, name) is not None)

    @property
    def file(self) -> str:
        """The template of the path."""
        return str(getattr(self, self.do))


class Transform(Section):
    """A similarity of each scan's own, from raw coordinates to `unit` and `axes`."""

    defined_by: Text = Field(
        description="Where the makers define these steps; a scale without that is no true size."
    )
    steps: tuple[Step, ...] = Field(min_length=1, description="Applied in this order.")

    @property
    def scales(self) -> bool:
        """Whether a step changes the size."""
        return any(step.do in SCALING for step in self.steps)


def step_matrix(do: str, values: Any, owner: Path, at: str = "") -> Array:
    """(4,4) matrix of a step; FormatError for values that are not what the step needs."""
    make, inverse = OPERATIONS[do]
    where = f" at {at}" if at else ""
    try:
        numbers = np.asarray(values if _size(values) <= MOST_NUMBERS else [], np.float64)
    except (ValueError, TypeError, OverflowError):
        numbers = np.full(1, np.nan)
    try:
        if not np.isfinite(numbers).all():
            raise ValueError("finite numbers")
        matrix = make(numbers)
    except ValueError as error:
        shown = str(values)
        shown = shown if len(shown) <= 60 else shown[:59] + "…"
        fault = f"{do}: got {shown}{where}, expected {error}"
        remedy = "correct the file, or exclude the scan with a reason"
        raise FormatError(owner, fault, remedy, Code.COMPANION) from error
    return np.linalg.inv(matrix) if inverse else matrix


def matrix_of(steps: Iterable[TransformStep], owner: Path) -> Array:
    """(4,4) float64: raw coordinates to `unit` and `axes`; files of the scan's own are read.

    FormatError for a file that cannot be read or does not hold what its step needs.
    """
    matrix = np.eye(4)
    for step in steps:
        values = step.values if step.path is None else _own_values(step.path)
        matrix = step_matrix(step.do, values, step.path or owner) @ matrix
    return matrix


def _size(values: Any) -> int:
    """How many numbers there are; one for what is no array."""
    try:
        return int(np.size(values))
    except ValueError:  # rows of unequal length
        return 1


def _own_values(path: Path) -> Any:
    if path.suffix.lower() == ".txt":
        return floats(path, read_text(path).split(), "numbers")
    if path.suffix.lower() == ".csv":
        known = ", ".join(suffix for suffix in SUFFIXES if suffix != ".csv")
        fault = f"no file of one scan's numbers, expected {known}"
        raise FormatError(path, fault, "convert it, or name its row by `key`", Code.COMPANION)
    return npy_array(path) if path.suffix.lower() == ".npy" else number_table(path)
