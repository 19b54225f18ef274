"""Errors a user can act on: each states the value, what was expected and the remedy.

Those that refuse one scan carry a `Code` (`refusals.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.refusals import Code, RefusedAt


class FacefoldError(Exception):
    """Base of every error facefold raises on purpose.

    `code` says what kind of refusal it is where it concerns one scan; `figures` are the measured
    values behind it, by name; `stage` is set by `pipeline.normalise.in_stage`.
    """

    code: Code = Code.INTERNAL
    stage: RefusedAt | None = None

    def __init__(
        self, message: str, code: Code | None = None, figures: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.figures = dict(figures or {})


class FormatError(FacefoldError):
    """A file cannot be read as what it claims to be."""

    code = Code.DAMAGED

    def __init__(
        self,
        path: Path | str,
        fault: str,
        remedy: str,
        code: Code | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{path}: {fault}; {remedy}", code, figures)
        self.path, self.fault, self.remedy = str(path), fault, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.fault, self.remedy), self.__dict__


class RegistryError(FacefoldError):
    """A registry or build file is wrong; `faults` holds every fault found, not only the first."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[type, tuple[tuple[str, ...]]]:
        return type(self), (self.faults,)


class UnitError(FacefoldError):
    """The size of a scan contradicts its unit, or several units stay plausible."""

    code = Code.SIZE


class ModelError(FacefoldError):
    """A face model or landmark embedding cannot be used."""


class RegistrationError(FacefoldError):
    """A registration cannot start: wrong arguments, unknown method, degenerate correspondences."""

    code = Code.TOO_FEW_POINTS


class StoreError(FacefoldError):
    """A store is missing, damaged, foreign or of another model."""


class MachineError(FacefoldError):
    """A machine lacks what the work needs: a folder, a file, the same facefold."""


def database_error(path: Path | str, what: str, error: Exception, remedy: str) -> FacefoldError:
    """The error for a SQLite database that cannot be used. `remedy` is for one that is damaged; a
    disk that is full, read-only or failing has its own."""
    if getattr(error, "sqlite_errorname", "").startswith(DISK_FAULTS_OF_SQLITE):
        remedy = "the disk is full, read-only or failing: make room there, then run it again"
    return FacefoldError(f"{path}: no usable {what} ({error}); {remedy}")


DISK_FAULTS_OF_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")
