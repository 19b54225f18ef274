"""Tables that come with a source: factors, matrices, and what is known of subjects and scans."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import floats, read_text
from pipeline.refusals import Code
from pipeline.registry.naming import filled
from pipeline.registry.sections import Scale, SubjectTable
from pipeline.types import Array

SUFFIXES = (".json", ".npy", ".csv", ".txt")


def scale_factor(
    scale: Scale | None, table: Path | None, groups: Mapping[str, str], relative: str = ""
) -> float:
    """What a scan's raw coordinates are multiplied by; 1 without a rule.

    `table` is the file that `scale.file` stands for, None where the source lacks it; `groups` are
    those of the scan's path, `relative`. FormatError where no table or no positive number is there.
    """
    if scale is None or scale.file is None or scale.key is None:
        return 1.0 if scale is None or scale.factor is None else scale.factor
    at = filled(scale.key, relative, groups)
    if table is None:
        fault, remedy = "is not there", "add it: it holds the scans' factors"
        raise FormatError(Path(scale.file), fault, remedy, Code.COMPANION)
    found = looked_up(table, at, scale.first, "factor")
    factor = _number(found)
    if not 0 < factor < np.inf:
        fault = f"holds {found!r} at {at}"
        raise FormatError(table, fault, "give a positive factor", Code.COMPANION)
    return factor


def looked_up(table: Path, at: str, first: int, what: str) -> Any:
    """What stands in a table at a path of names and numbers; FormatError if nothing does."""
    found = number_table(table)
    for step in at.split("/"):
        try:
            found = found[_position(step, first) if isinstance(found, list) else step]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            fault = f"holds nothing at {at}, where the scan's {what} should stand"
            remedy = "add it, or exclude the scan"
            raise FormatError(table, fault, remedy, Code.COMPANION) from error
    return found


def _position(step: str, first: int) -> int:
    position = int(step) - first
    if position < 0:
        raise IndexError(step)
    return position


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def number_table(path: Path) -> Any:
    """Nested lists and mappings, whatever the file's format. FormatError: it cannot be read."""
    try:
        return _number_table(path, path.stat().st_mtime_ns)
    except OSError as error:
        fault = f"cannot be opened: {error.strerror}"
        raise FormatError(path, fault, "check the file", Code.COMPANION) from error


def npy_array(path: Path) -> Array:
    """The array, not yet read from the disk. FormatError where it is none of numbers."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise FormatError(path, f"cannot be read: {error}", "copy it again") from error
    except OSError as error:
        fault = f"cannot be opened: {error.strerror or error}"
        raise FormatError(path, fault, "check the file", Code.COMPANION) from error


@lru_cache(maxsize=4)
def _number_table(path: Path, changed: int) -> Any:
    """Read anew once the file `changed`."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return json.loads(read_text(path))
        if suffix == ".npy":
            return npy_array(path).tolist()
    except (ValueError, RecursionError, EOFError) as error:
        raise FormatError(path, f"cannot be read: {error}", "copy it again") from error
    if suffix == ".csv":
        columns, *rows = _comma_rows(path) or [[]]
        return {row[0]: dict(zip(columns, row, strict=False)) for row in rows}
    if suffix == ".txt":
        return floats(path, read_text(path).split(), "factors").tolist()
    known = ", ".join(SUFFIXES)
    raise FormatError(path, f"no reader for this table, expected {known}", "convert it")


def subject_rows(table: SubjectTable, path: Path) -> dict[str, dict[str, str]]:
    """Subject, or stem of a scan -> the table's fields under the registry's names.

    A text, which names neither, gives its fields for "". FormatError where it is unreadable.
    """
    if table.format == "text":
        text = read_text(path)
        pairs = (re.split(r"[:=]", line, maxsplit=1) for line in text.splitlines())
        row = {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
        return {"": _fields(table, row)}
    if table.format == "csv":
        rows = _comma_rows(path)
    else:
        rows = [words for line in read_text(path).splitlines() if (words := line.split())]
    columns = list(table.columns) or rows.pop(0) if rows else []
    found = [dict(zip(columns, row, strict=False)) for row in rows]
    return {row.get(table.subject or table.scan or "", ""): _fields(table, row) for row in found}


def _comma_rows(path: Path) -> list[list[str]]:
    """The words of each row that has any."""
    try:
        rows = [[word.strip() for word in row] for row in csv.reader(read_text(path).splitlines())]
    except csv.Error as error:
        raise FormatError(path, f"cannot be read: {error}", "copy it again") from error
    return [row for row in rows if any(row)]


def _fields(table: SubjectTable, row: Mapping[str, str]) -> dict[str, str]:
    return {name: row.get(column, "") for name, column in table.fields.items()}
