"""Errors keep what they say of a scan on their way between processes, and every code is in use."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pipeline.errors import FacefoldError, FormatError, RegistrationError, UnitError
from pipeline.normalise import in_stage
from pipeline.refusals import Code
from pipeline.types import Refusal

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "error",
    [
        FormatError("a.obj", "cut off", "copy it again", Code.UNREADABLE, {"bytes": 12}),
        UnitError("too small", figures={"outer_eye_mm": 9.1}),
        RegistrationError("no face", Code.NO_FACE),
        FacefoldError("of no scan"),
    ],
)
def test_a_refusal_survives_the_way_to_another_process(error: FacefoldError) -> None:
    with pytest.raises(FacefoldError), in_stage("read"):
        raise error
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert Refusal.of(there) == Refusal.of(error)
    assert Refusal.of(there).stage == "read" and Refusal.of(there).reason == str(error)


def test_the_innermost_stage_counts() -> None:
    with pytest.raises(FormatError) as caught, in_stage("normalise"), in_stage("landmarks"):
        raise FormatError("a", "b", "c")
    assert Refusal.of(caught.value).kind == "landmarks: damaged"


def test_every_code_explains_itself_and_is_in_use() -> None:
    files = [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    for code in Code:
        assert code == code.name.lower() and Code(str(code)) is code
        assert code.meaning and code.remedy
        assert f"Code.{code.name}" in text, code
