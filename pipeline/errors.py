"""Errors a user can act on: each states the value, what was expected and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class FacefoldError(Exception):
    """Base of every error facefold raises on purpose."""


class FormatError(FacefoldError):
    """A file cannot be read as what it claims to be."""

    def __init__(self, path: Path | str, fault: str, remedy: str) -> None:
        super().__init__(f"{path}: {fault}; {remedy}")
        self.path, self.fault, self.remedy = str(path), fault, remedy

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.path, self.fault, self.remedy)


class RegistryError(FacefoldError):
    """A registry or build file is wrong; `faults` holds every fault found, not only the first."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[type, tuple[tuple[str, ...]]]:
        return type(self), (self.faults,)


class UnitError(FacefoldError):
    """The size of a scan contradicts its unit, or several units stay plausible."""


class ModelError(FacefoldError):
    """A face model or landmark embedding cannot be used."""


class RegistrationError(FacefoldError):
    """A registration cannot start: wrong arguments, unknown method, degenerate correspondences."""


class StoreError(FacefoldError):
    """A store is missing, damaged, foreign or of another model."""


class MachineError(FacefoldError):
    """A machine lacks what the work needs: a folder, a file, the same facefold."""
