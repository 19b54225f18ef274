"""What a registration can be told; `pipeline.registry.options` takes every field from YAML."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import RegistrationError
from pipeline.registration.landmarks.calibration import NOISE_MM
from pipeline.units import OUTER_EYE_MM


@dataclass(frozen=True)
class RegistrationOptions:
    """Lengths in millimetres. The defaults suit faces and heads of any scanner.

    Unless a source is named, a default was chosen on ICT-FaceKit faces that
    `tests/benchmarks/registration.py` does not use.
    """

    method: str = "fold"
    """A name of METHODS: "fold" (model, residual, fine deformation) or "rigid"."""
    model_iterations: int = 10
    """Of the model alone; five of them are point-to-point."""
    residual_iterations: int = 4
    """Of the model and the smooth residual together."""
    fine_iterations: int = 4
    modes: int = 220
    """Components of the residual, which carries what the model cannot explain."""
    model_noise_mm: float = 5.0
    """Of a match while the model is alone, as a standard deviation: all that it cannot explain."""
    residual_noise_mm: tuple[float, float] = (3.0, 1.2)
    """Of a match beside the residual, at first and at last."""
    fine_wavelength_mm: tuple[float, float] = (40.0, 5.0)
    """Waves shorter than this are suppressed in the fine deformation, at first and at last."""
    robust_mm: tuple[float, float] = (12.0, 4.0)
    """Distance at which a match loses three quarters of its weight (Geman–McClure), at the start
    and in the fine deformation; the residual goes down to half of the second."""
    min_normal_cosine: float = 0.5
    """Matches of surfaces that face further apart than 60° are dropped."""
    landmark_noise_mm: float = NOISE_MM
    """Standard deviation an axis of the landmarks of a source that is not calibrated."""
    tolerance_mm: float = 0.2
    """Converged where the last step moves supported vertices less than this on average."""
    valid_distance_mm: float = 2.0
    """A vertex is valid where the scan's surface is at most this far away."""
    max_median_mm: float = 3.0
    """Failed where half of the face is further from the scan than this."""
    outer_eye_mm: tuple[float, float] = OUTER_EYE_MM
    """Distance of the outer eye corners that faces may have: where it is wider than adults', the
    search for a pose tries smaller or larger faces as well. No face is ever scaled by it."""

    def __post_init__(self) -> None:
        least = {"model_iterations": 0, "residual_iterations": 1, "fine_iterations": 0, "modes": 0}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise RegistrationError(
                    f"registration option {name}: {getattr(self, name)}, expected ≥ {limit}"
                )
        for name in ("residual_noise_mm", "fine_wavelength_mm", "robust_mm", "outer_eye_mm"):
            pair = tuple(float(x) for x in getattr(self, name))
            if len(pair) != 2 or min(pair) <= 0:
                raise RegistrationError(
                    f"registration option {name}: {getattr(self, name)}, expected two lengths > 0"
                )
            object.__setattr__(self, name, pair)

    @property
    def handover_mm(self) -> float:
        """The robust distance at which the model's own fit ends and the residual's begins."""
        first, last = self.robust_mm
        return max(last, first / 2)
