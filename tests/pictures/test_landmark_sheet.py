"""The picture of a source's landmarks on the template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.pictures.landmark_sheet import landmark_sheet
from pipeline.pictures.sheets import FAULTY, GREEN, RED
from pipeline.registration.landmarks.calibration import LandmarkCalibration, general_calibration


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


def pixels_of(path: Path, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(Image.open(path).convert("RGB")) == colour).all(-1).sum())


def moved(model: FlameModel, up_mm: float) -> LandmarkCalibration:
    """The nose tip of a source lies so much above the model's."""
    assert model.landmarks is not None
    general = general_calibration(model.landmarks, "ibug68")
    offset = np.zeros_like(general.offset_mm)
    offset[model.landmarks.indices_68 == 30, 1] = up_mm
    return replace(general, offset_mm=offset, scans=9)


def test_offsets_are_drawn_and_odd_ones_ringed(model: FlameModel, tmp_path: Path) -> None:
    red, ringed = [], []
    for up_mm in (0.0, 20.0):
        path = tmp_path / "calibrations" / f"{up_mm}.png"
        landmark_sheet(model, moved(model, up_mm), "lab", path)
        assert pixels_of(path, GREEN) > 400
        red.append(pixels_of(path, RED))
        ringed.append(pixels_of(path, FAULTY))
    assert red[0] == 0 < red[1]
    assert ringed[0] == 0 and ringed[1] > 50


def test_a_place_that_cannot_be_written_is_told(model: FlameModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FacefoldError, match="cannot be written"):
        landmark_sheet(model, moved(model, 1.0), "lab", tmp_path / "file" / "sheet.png")
    with pytest.raises(FacefoldError, match="no landmarks"):
        without = replace(model, landmarks=None)
        landmark_sheet(without, moved(model, 1.0), "lab", tmp_path / "sheet.png")
