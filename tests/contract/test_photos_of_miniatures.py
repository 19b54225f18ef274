"""Photos of miniatures are decoded, and their cameras found from what sources have beside them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.flame.regions import complete_regions
from pipeline.formats import read_scan
from pipeline.landmarks import read_landmarks
from pipeline.landmarks.schemes import in_order
from pipeline.normalise import read_record
from pipeline.registry.views import CALIBRATION_FORMATS
from pipeline.types import Array, PhotoFile, RawScan, Scan
from pipeline.views.calibrations import CALIBRATIONS, read_calibration
from pipeline.views.camera import Camera
from pipeline.views.making import make_views, names_of
from pipeline.views.photo_cameras import camera_of_grid, camera_of_landmarks
from pipeline.views.photos import read_photo
from pipeline.views.scene import RegisteredScan
from tests.contract.built import IDS, Built
from tests.contract.test_miniatures import in_scan_frame, rigid
from tests.miniatures.heads import model
from tests.miniatures.photos import WALL

WITH_PHOTOS = {"bosphorus", "facescape_mv", "famos", "frgc", "h3ds", "headspace", "texas3d"}
OFF_PX = {"grid": 0.5, "calibration": 0.01, "landmarks": 0.8}
"""So near to where the true camera sees them are the landmarks, but for the contour."""


@cache
def template() -> FlameModel:
    return complete_regions(model())


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
            truth = expected.photos[built[id].relative(photo.path)]
            if truth is None:
                with pytest.raises(FacefoldError, match=r"calib_2C|\.lm2|2_valid is false"):
                    camera_of(photo, picture, raw, scan, marks)
                continue
            camera = camera_of(photo, picture, raw, scan, marks)
            seen = truth.project(expected.head.landmarks_mm)
            off = np.linalg.norm(camera.project(marks) - seen, axis=1)
            assert off[17:].max() < OFF_PX[photo.camera], (photo.path, off)
            column, row = np.round(seen[30]).astype(int)
            assert np.abs(picture[row, column].astype(int) - WALL).max() > 40, "no face at its nose"
    assert found.photos["files"]


def test_no_other_source_has_photos(built: dict[str, Built]) -> None:
    assert {id for id in IDS if built[id].catalogue.photos["files"]} == WITH_PHOTOS


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
    assert raw.pixels is not None and raw.grid is not None
    points = raw.vertices @ to_canonical[:3, :3].T + to_canonical[:3, 3]
    return camera_of_grid(points, raw.pixels, raw.grid, height, width).camera


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


@pytest.mark.parametrize("id", IDS)
def test_views_are_made_as_the_registry_says(id: str, built: dict[str, Built]) -> None:
    """With the true mesh in place of a registration: photos in their place, and a render."""
    miniature, registry, _ = built[id]
    record, expected = built[id].records[miniature.whole], miniature.scans[miniature.whole]
    section = registry.under(record.rule).views
    if not section.renders:
        return
    scan, raw = (
        read_record(record, registry),
        read_scan(record.path, record.format, **registry.reader),
    )
    assert expected.head is not None and expected.vertices_file is not None
    truth = in_scan_frame(expected.vertices_file, scan)
    turn, shift = rigid(expected.head.truth_mm, truth)
    marks = expected.head.landmarks_mm @ turn.T + shift
    known = RegisteredScan(
        *(record.scan_id, raw, scan.source_to_canonical),
        *(truth.astype(np.float32), marks.astype(np.float32)),
    )
    section = section.model_copy(update={"renders": 1})
    views, refused = make_views(known, record.photos, section, template(), seed=3)
    lost = {
        name
        for name, camera in zip(
            names_of(record.photos, section), expected.photos.values(), strict=False
        )
        if camera is None
    }
    assert {one.name for one in refused} == lost, refused
    kinds = [view.facts["kind"] for view in views]
    assert kinds == ["photo"] * (len(kinds) - 1) + ["render" if section.colours else "shaded"]
    for view in views:
        eyes, mouth = (view.landmarks_px[part, 1].mean() for part in (slice(36, 48), slice(48, 68)))
        assert eyes < mouth - 20, "a head that is not upright"
        assert view.landmark_seen[27:].mean() > 0.5 and view.parts.any(axis=(1, 2)).sum() >= 6
