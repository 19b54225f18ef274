"""What a method of registration is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from pipeline.registration.coefficients import Coefficients
from pipeline.registration.landmarks.targets import LandmarkTargets
from pipeline.registration.matches import ScanSurface
from pipeline.registration.options import RegistrationOptions
from pipeline.registration.template import Template
from pipeline.types import MarginalInformation


class Task(NamedTuple):
    """What a method is given: one template, and B scans with the template placed on each."""

    template: Template
    surfaces: list[ScanSurface]
    landmarks: LandmarkTargets
    start: Coefficients
    people: Tensor  # (B,) scans of one number are of one person and share its identity
    options: RegistrationOptions


class Fitted(NamedTuple):
    """What a method returns for the B scans."""

    coefficients: Coefficients
    explained: Tensor  # (B,V,3) mm, what the model alone explains
    vertices: Tensor  # (B,V,3) mm
    change_mm: Tensor  # (B,V) length of the last step
    expected_error_mm: Tensor  # (B,V)
    iterations: int
    marginals: list[MarginalInformation] | None = None
    facts: list[dict[str, Any]] | None = None
    """What the method read from each scan, by name."""


Method = Callable[[Task], Fitted]
