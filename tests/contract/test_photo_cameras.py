"""Photos of miniatures are decoded, and their cameras found from what sources have beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.formats import read_scan
from pipeline.landmarks import read_landmarks
from pipeline.landmarks.schemes import in_order
from pipeline.normalise import read_record
from pipeline.registry.views import CALIBRATION_FORMATS
from pipeline.types import Array, PhotoFile, RawScan, Scan
from pipeline.views.calibrations import CALIBRATIONS, read_calibration
from pipeline.views.camera import Camera
from pipeline.views.photo_cameras import camera_of_grid, camera_of_landmarks
from pipeline.views.photos import read_photo
from tests.contract.built import IDS, Built
from tests.contract.test_miniatures import in_scan_frame, rigid
from tests.miniatures.photos import WALL

WITH_PHOTOS = {"bosphorus", "facescape_mv", "famos", "frgc", "h3ds", "headspace", "texas3d"}
OFF_PX = {"grid": 0.5, "calibration": 0.01, "landmarks": 0.8}
"""So near to where the true camera sees them are the landmarks, but for the contour."""


def test_the_formats_of_calibrations_are_those_that_are_read() -> None:
    assert CALIBRATIONS.keys() == {*CALIBRATION_FORMATS}


@pytest.mark.parametrize("id", sorted(WITH_PHOTOS))
def test_cameras_of_photos_are_the_true_ones(id: str, built: dict[str, Built]) -> None:
    miniature, registry, found = built[id]
    for path, record in built[id].records.items():
        expected = miniature.scans[path]
        scan, raw = (
            read_record(record, registry),
            read_scan(record.path, record.format, **registry.reader),
        )
        assert expected.head is not None and expected.vertices_file is not None
        turn, shift = rigid(expected.head.truth_mm, in_scan_frame(expected.vertices_file, scan))
        marks = expected.head.landmarks_mm @ turn.T + shift
        for photo in record.photos:
            picture = read_photo(photo.path, ignore_orientation=photo.camera != "landmarks")
            if {*map(built[id].relative, beside(photo))} & {*expected.missing}:
                with pytest.raises(FacefoldError, match=r"calib_2C|\.lm2"):
                    camera_of(photo, picture, raw, scan, marks)
                continue
            camera = camera_of(photo, picture, raw, scan, marks)
            truth = expected.photos[built[id].relative(photo.path)]
            seen = truth.project(expected.head.landmarks_mm)
            off = np.linalg.norm(camera.project(marks) - seen, axis=1)
            assert off[17:].max() < OFF_PX[photo.camera], (photo.path, off)
            column, row = np.round(seen[30]).astype(int)
            assert np.abs(picture[row, column].astype(int) - WALL).max() > 40, "no face at its nose"
    assert found.photos["files"]


def test_no_other_source_has_photos(built: dict[str, Built]) -> None:
    assert {id for id in IDS if built[id].catalogue.photos["files"]} == WITH_PHOTOS


def beside(photo: PhotoFile) -> list[Path]:
    return [path for path in (photo.landmark_path, photo.calibration_path) if path]


def camera_of(
    photo: PhotoFile, picture: Array, raw: RawScan, scan: Scan, marks_mm: Array
) -> Camera:
    """The photo's camera in the scan's canonical frame."""
    height, width = picture.shape[:2]
    to_canonical = scan.source_to_canonical
    if photo.calibration_path is not None:
        number = photo.calibration_camera
        known = read_calibration(photo.calibration_path, photo.calibration_format, number)
        return known.camera(to_canonical, height, width)
    if photo.landmark_path is not None:
        given = read_landmarks(photo.landmark_path, photo.landmark_format)
        assert given.pixels is not None
        pixels = in_order(photo.landmark_scheme, given.names, given.pixels)
        fitted = camera_of_landmarks(marks_mm, pixels, photo.landmark_scheme, height, width)
        return fitted.camera
    assert raw.pixels is not None
    points = raw.vertices @ to_canonical[:3, :3].T + to_canonical[:3, 3]
    return camera_of_grid(points, raw.pixels, (height, width), height, width).camera


@pytest.mark.parametrize("id", IDS)
def test_scans_that_are_rendered_with_colours_have_some(id: str, built: dict[str, Built]) -> None:
    miniature, registry, _ = built[id]
    record = built[id].records[miniature.whole]
    raw = read_scan(record.path, record.format, **registry.reader)
    views = registry.under(record.rule).views
    textured = raw.uv is not None and raw.texture_path is not None
    assert (raw.colours is not None or textured) == (views.colours and views.renders > 0)
    if textured:
        assert raw.texture_path is not None and read_photo(raw.texture_path).size
