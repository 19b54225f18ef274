"""The steps of a scan's own transform, with values from tables and the paths of its own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.catalogue.companions import Companions
from pipeline.errors import FormatError
from pipeline.refusals import Code
from pipeline.registry.naming import fill, filled
from pipeline.registry.tables import looked_up
from pipeline.registry.transforms import Step, Transform, step_matrix
from pipeline.types import TransformStep


def steps_of(
    transform: Transform | None,
    root: Path,
    path: str,
    groups: Mapping[str, str],
    beside: Companions,
) -> tuple[tuple[TransformStep, ...], tuple[str, ...]]:
    """The steps of the scan at `path`, and the files, relative to `root`, that are its alone.

    Tables are read; a file of the scan's own is read with the scan. FormatError where a file or a
    table's entry is missing, or an entry is not what its step needs.
    """
    if transform is None:
        return (), ()
    found = [_step(step, root, path, groups, beside) for step in transform.steps]
    return tuple(step for step, _ in found), tuple(file for _, file in found if file)


def _step(
    step: Step, root: Path, path: str, groups: Mapping[str, str], beside: Companions
) -> tuple[TransformStep, str]:
    wanted = fill(step.file, path, groups)
    file = beside.at(wanted)
    if file is None:
        fault = f"its transform needs {wanted}, which is not there"
        raise FormatError(root / path, fault, "add it, or exclude the scan", Code.COMPANION)
    if step.key is None:
        return TransformStep(step.do, path=root / file), file
    at = filled(step.key, path, groups)
    values = looked_up(root / file, at, step.first, f"values to {step.do}")
    if isinstance(values, dict) and file.lower().endswith(".csv"):
        values = list(values.values())[1:]  # the row's numbers, after its name
    step_matrix(step.do, values, root / file, at)
    return TransformStep(step.do, _flat(values)), ""


def _flat(values: object) -> tuple[float, ...]:
    """Numbers in rows, row after row; `step_matrix` has found them sound."""
    if isinstance(values, list):
        return tuple(number for row in values for number in _flat(row))
    return (float(values),)  # type: ignore[arg-type]
