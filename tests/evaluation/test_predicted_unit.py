"""The unit of all predictions: found once, kept, and refused if it stays open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError, UnitError
from pipeline.evaluation.benchmark import Case, Given, Prediction
from pipeline.evaluation.scoring.cases import opened_digests
from pipeline.evaluation.scoring.unit import MOST, Decided, decided_unit
from pipeline.flame.stand_in import stand_in
from tests.evaluation.scenes import embedded
from tests.evaluation.spheres import SPHERES

MODEL = stand_in()
HEAD_MM = MODEL.template_mm[::4]
MARKS_MM = embedded(MODEL, MODEL.template_mm)


class Reader:
    """Reads a head from a file that holds how many of its unit are a millimetre."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, case: Case, given: Given) -> Prediction:
        assert case.prediction is not None and given.unit != "auto"
        self.read.append(case.id)
        try:
            factor = float(case.prediction.read_text())
        except ValueError as error:
            raise FacefoldError("no number") from error
        return Prediction(factor * HEAD_MM, np.empty((0, 3), int), factor * MARKS_MM)


def decided(folder: Path, factors: list[object], reader: Reader | None = None) -> Decided:
    (folder / "predictions").mkdir(exist_ok=True)
    cases = []
    for i, factor in enumerate(factors):
        path = folder / "predictions" / f"{i:03}.txt"
        path.write_text(str(factor))
        cases.append(Case(str(i), str(i), prediction=path))
    cases.append(Case("gone", "gone"))
    given = Given(folder, folder / "predictions", MODEL)
    benchmark = replace(SPHERES, read=reader or Reader())
    digests = opened_digests(cases, given, folder / "digests.sqlite")
    return decided_unit(benchmark, cases, given, digests, folder)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("cm", 0.1), ("m", 1e-3)])
def test_the_size_tells_the_unit(tmp_path: Path, unit: str, factor: float) -> None:
    found = decided(tmp_path, [factor] * 3)
    assert found.unit == unit
    assert "outer eye corners" in found.evidence and "(median of 3 predictions)" in found.evidence


def test_one_of_another_size_and_one_that_cannot_be_read_decide_nothing(tmp_path: Path) -> None:
    found = decided(tmp_path, [1e-3, 1.0, 1e-3, "no number"])
    assert found.unit == "m" and "(median of 3 predictions)" in found.evidence


def test_no_unit_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnitError, match="declare it by --unit"):
        decided(tmp_path, [0.02] * 3)


def test_some_of_many_are_read_and_none_a_second_time(tmp_path: Path) -> None:
    reader = Reader()
    first = decided(tmp_path, [1e-3] * (3 * MOST), reader)
    assert len(reader.read) == MOST and "(median of 64 predictions)" in first.evidence
    assert decided(tmp_path, [1e-3] * (3 * MOST), reader) == first and len(reader.read) == MOST
    assert decided(tmp_path, [0.1] * (3 * MOST), reader).unit == "cm"


def test_what_is_declared_or_has_no_length_is_not_measured(tmp_path: Path) -> None:
    given = Given(tmp_path, tmp_path, MODEL, "cm")
    assert decided_unit(SPHERES, [], given, {}, tmp_path) == Decided("cm", "declared")
    no_length = replace(SPHERES, unit="%")
    found = decided_unit(no_length, [], replace(given, unit="auto"), {}, tmp_path)
    assert found.unit is None and "%" in found.evidence
