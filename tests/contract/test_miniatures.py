"""Every registry over the miniature of its dataset: files, names, units, frames, registration.

A registry without a miniature fails: write `tests/miniatures/<id>.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import FacefoldError
from pipeline.geometry.closest import SurfaceIndex
from pipeline.landmarks.schemes import to_68
from pipeline.normalise import read_record
from pipeline.refusals import Code
from pipeline.registration import register
from pipeline.synthetic import archive
from pipeline.synthetic.sources import KINDS
from pipeline.types import Array, Scan
from tests.contract.built import IDS, QUICK, SHIPPED, Built
from tests.miniatures import covered
from tests.miniatures.heads import model

every_registry = pytest.mark.parametrize("id", IDS)

WITH_AND_WITHOUT_LANDMARKS = ("bosphorus", "coma", "nphm")
SURFACE_MM = 2.0
"""Registered face vertices lie this near to the true surface, on average."""


def test_every_registry_has_a_miniature() -> None:
    own = {*KINDS, archive.SOURCE}
    assert SHIPPED - set(IDS) == own, "only the demo's own sources need no miniature"
    assert covered() == set(IDS), "write tests/miniatures/<id>.py for each registry, and no other"


@every_registry
def test_every_file_is_in_its_class(id: str, built: dict[str, Built]) -> None:
    miniature, _, found = built[id]
    assert built[id].records.keys() == miniature.scans.keys()
    assert set(found.companions) == miniature.companions
    # without the names of people whom the source calls by them
    shown = built[id].registry.shown_path
    words_of, lost_of = (
        {shown(path): word for path, word in words.items()}
        for words in (miniature.excluded, miniature.quarantined)
    )
    excluded = dict(found.excluded)
    assert excluded.keys() == words_of.keys()
    quarantined = {built[id].relative(row.path): row.reason for row in found.quarantined}
    assert quarantined.keys() == lost_of.keys()
    for reasons, words in (
        (excluded, words_of),
        (quarantined, lost_of),
    ):
        said = [path for path, word in words.items() if word in reasons[path]]
        if built[id].registry.subjects.pseudonyms:  # a reason may quote a name: its kind is said
            said += [path for path in words if reasons[path] in {code.meaning for code in Code}]
        assert {*said} == words.keys()
    assert found.n_files == sum(path.is_file() for path in miniature.root.rglob("*"))
    # the miniature shows what the dataset's users meet
    assert miniature.quarantined, "add a file that no rule explains"


@every_registry
def test_names_say_who_and_what(id: str, built: dict[str, Built]) -> None:
    miniature, _, found = built[id]
    for path, record in built[id].records.items():
        expected = miniature.scans[path]
        told = (record.subject, record.session, record.expression, record.neutral)
        wanted = (expected.subject, expected.session, expected.expression, expected.neutral)
        assert told == wanted, path
        known = (record.expression_class, record.frame)
        assert known == (expected.expression_class, expected.frame), path
        if expected.images is not None:
            assert tuple(map(built[id].relative, record.image_paths)) == expected.images, path
        landmarks = record.landmark_path and built[id].relative(record.landmark_path)
        assert landmarks == expected.landmarks, path
    assert found.subjects == miniature.subjects
    assert len(found.subjects) > 1, "add a second person"
    # a word of `neutral` or `expressions` that nobody has would be a slip in silence
    words = [said for said in found.unused if said.startswith("neutral")]
    assert not words, "add a scan of each neutral expression"


@every_registry
def test_photos_are_found_with_what_says_where_their_cameras_stood(
    id: str, built: dict[str, Built]
) -> None:
    miniature, registry, found = built[id]
    missing = {}
    for path, record in built[id].records.items():
        expected = miniature.scans[path]
        assert [built[id].relative(photo.path) for photo in record.photos] == [*expected.photos]
        for photo in record.photos:
            beside = photo.landmark_path or photo.calibration_path
            assert (beside is None) == (photo.camera == "grid") and len(photo.digest) == 64
            if beside is not None:
                there = built[id].relative(beside) not in expected.missing
                assert beside.is_file() == there, beside
        if expected.missing:
            missing[record.scan_id] = expected.missing
    hidden = registry.subjects.pseudonyms
    assert hidden or found.missing == missing
    shown = any(record.photos for record in found.records)
    assert shown == bool(registry.views.photos), "add a photo"


@every_registry
def test_scans_have_their_true_size_and_frame(id: str, built: dict[str, Built]) -> None:
    miniature, registry, _ = built[id]
    for path, record in built[id].records.items():
        expected = miniature.scans[path]
        if path in miniature.refused:
            with pytest.raises(FacefoldError, match=miniature.refused[path]):
                read_record(record, registry)
            continue
        scan = read_record(record, registry)
        if expected.head is None or expected.vertices_file is None:
            continue
        truth = in_scan_frame(expected.vertices_file, scan)
        if scan.oriented:
            np.testing.assert_allclose(truth, expected.head.truth_mm, atol=1e-3, err_msg=path)
        else:
            # any pose, yet the same size and no mirror image
            np.testing.assert_allclose(shape_of(truth), shape_of(expected.head.truth_mm), rtol=1e-5)
        some = scan.vertices_mm[:: max(1, len(scan.vertices_mm) // 500)]
        shown = SurfaceIndex(truth, model().faces).query(some).distance
        assert np.median(shown) < 0.7, path
        if scan.landmarks_mm is not None and scan.landmark_scheme is not None:
            turn, shift = rigid(expected.head.truth_mm, truth)
            marks = expected.head.landmarks_mm @ turn.T + shift
            error = np.linalg.norm(to_68(scan.landmark_scheme, scan.landmarks_mm) - marks, axis=1)
            assert np.nanmedian(error) < 3.0, path


@pytest.mark.parametrize(
    "id",
    [
        pytest.param(id, marks=() if id in WITH_AND_WITHOUT_LANDMARKS else pytest.mark.slow)
        for id in IDS
    ],
)
def test_scans_register_to_the_truth(id: str, built: dict[str, Built]) -> None:
    miniature, registry, _ = built[id]
    expected = miniature.scans[miniature.whole]
    assert expected.head is not None and expected.vertices_file is not None
    scan = read_record(built[id].records[miniature.whole], registry)
    [registration] = register([scan], model(), QUICK, "cpu")
    assert registration.status != "failed", registration.reason
    truth = in_scan_frame(expected.vertices_file, scan)
    face = np.zeros(len(truth), dtype=bool)
    face[np.setdiff1d(model().regions["face"], model().regions["eyeballs"])] = True
    shown = registration.vertices_mm[face & expected.head.supported].astype(np.float64)
    distance = SurfaceIndex(truth, model().faces).query(shown).distance
    assert distance.mean() <= SURFACE_MM
    # right way up and not turned: vertices are where they belong, not only on the surface
    error = np.linalg.norm(shown - truth[face & expected.head.supported], axis=1)
    assert np.median(error) < 2 * SURFACE_MM


def in_scan_frame(vertices_file: Array, scan: Scan) -> Array:
    """(V,3) of the file -> the frame of the scan, millimetres."""
    matrix = scan.source_to_canonical
    return np.asarray(vertices_file @ matrix[:3, :3].T + matrix[:3, 3])


def shape_of(points: Array) -> Array:
    """What no turn and no shift changes: the distances of a few points, and their handedness."""
    few = points[:: len(points) // 40] - points.mean(axis=0)
    volume = np.cbrt(np.linalg.det(few[[3, 11, 23]]))
    return np.append(
        np.linalg.norm(few[:, None] - few, axis=-1)[np.triu_indices(len(few), 1)], volume
    )


def rigid(points: Array, moved: Array) -> tuple[Array, Array]:
    """The turn (3,3) and the shift (3,) that bring points (V,3) onto the moved ones."""
    a, b = points - points.mean(axis=0), moved - moved.mean(axis=0)
    u, _, vt = np.linalg.svd(a.T @ b)
    turn = (u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt).T
    return turn, moved.mean(axis=0) - turn @ points.mean(axis=0)
