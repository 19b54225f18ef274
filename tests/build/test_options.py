"""What files state of registration is what registration takes."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import get_args

import pytest
from pydantic import ValidationError

from pipeline.registration import METHODS, RegistrationOptions
from pipeline.registry.options import StatedOptions


def test_the_options_of_files_are_those_of_registration() -> None:
    stated = {name: field.default for name, field in StatedOptions.model_fields.items()}
    assert list(stated) == [field.name for field in fields(RegistrationOptions)]
    assert stated == asdict(RegistrationOptions())
    assert {*get_args(StatedOptions.model_fields["method"].annotation)} == {*METHODS}


def test_only_what_is_stated_goes_on() -> None:
    stated = StatedOptions.model_validate({"modes": 220, "robust_mm": [10, 5]})
    assert stated.model_dump() == {"modes": 220, "robust_mm": (10.0, 5.0)}
    assert RegistrationOptions(**stated.model_dump()).robust_mm == (10.0, 5.0)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"modes": -1}, {"residual_iterations": 0}, {"fine_iterations": -1}, {"modes": 1.5}),
        *({"model_iterations": -1}, {"robust_mm": [12, 0]}, {"outer_eye_mm": [80]}),
    ],
)
def test_what_registration_refuses_is_refused_in_files(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StatedOptions.model_validate(wrong)
