"""Options of registration as files state them; `RegistrationOptions` is what they replace.

That one is a plain dataclass, for registration needs no pydantic; a test compares the two.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, StrictInt, model_serializer

from pipeline.registry.sections import Number, Section
from pipeline.units import OUTER_EYE_MM

Count = Annotated[StrictInt, Field(ge=0)]
Length = Annotated[Number, Field(gt=0)]
FirstAndLast = tuple[Length, Length]


class StatedOptions(Section):
    """Some options of registration, those that were stated. Lengths in millimetres."""

    method: Literal["fold", "rigid"] = Field(
        default="fold", description="`fold` (model, residual, fine deformation) or `rigid`."
    )
    model_iterations: Count = Field(
        default=10, description="Of the model alone; five of them are point-to-point."
    )
    residual_iterations: Annotated[StrictInt, Field(ge=1)] = Field(
        default=4, description="Of the model and the smooth residual together."
    )
    fine_iterations: Count = Field(default=4, description="Of the fine deformation.")
    modes: Count = Field(
        default=220,
        description="Components of the residual, which carries what the model cannot explain.",
    )
    model_noise_mm: Number = Field(
        default=5.0,
        description="Of a match while the model is alone, as a standard deviation: all that it "
        "cannot explain.",
    )
    residual_noise_mm: FirstAndLast = Field(
        default=(3.0, 1.2),
        description="Of a match beside the residual, at first and at last.",
    )
    fine_wavelength_mm: FirstAndLast = Field(
        default=(40.0, 5.0),
        description="Waves shorter than this are suppressed in the fine deformation, at first and "
        "at last.",
    )
    robust_mm: FirstAndLast = Field(
        default=(12.0, 4.0),
        description="Distance at which a match loses three quarters of its weight "
        "(Geman–McClure), at the start and in the fine deformation; the residual goes down to half "
        "of the second.",
    )
    min_normal_cosine: Number = Field(
        default=0.5, description="Matches of surfaces that face further apart than 60° are dropped."
    )
    landmark_noise_mm: Number = Field(
        default=1.0,
        description="Standard deviation an axis of the landmarks of a source that is not "
        "calibrated.",
    )
    tolerance_mm: Number = Field(
        default=0.2,
        description="Converged where the last step moves supported vertices less than this on "
        "average.",
    )
    valid_distance_mm: Number = Field(
        default=2.0,
        description="A vertex is valid where the scan's surface is at most this far away.",
    )
    max_median_mm: Number = Field(
        default=3.0,
        description="Failed where half of the face is further from the scan than this.",
    )
    outer_eye_mm: FirstAndLast = Field(
        default=OUTER_EYE_MM,
        description="Distance of the outer eye corners that faces may have: where it is wider than "
        "adults', the search for a pose tries smaller or larger faces as well. No face is ever "
        "scaled by it. In a registry, `limits.outer_eye_mm` says it.",
    )

    @model_serializer(mode="wrap")
    def stated(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without defaults, which another file may replace."""
        return {name: v for name, v in dumped(self).items() if name in self.model_fields_set}
