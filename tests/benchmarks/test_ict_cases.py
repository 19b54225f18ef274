"""The benchmark's scans: their truth lies on them, and each is what its name says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from ict_cases import CASES, RECIPES, IctModel, make_case
from remeshing import remesh

from pipeline.geometry.closest import SurfaceIndex


@pytest.fixture(scope="module")
def ict(shared_data: Path) -> IctModel:
    return IctModel.load(shared_data)


def test_a_remeshed_ball_keeps_its_surface_its_border_and_its_sense() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=50.0)
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    cap = trimesh.Trimesh(vertices, faces[vertices[faces].mean(1)[:, 1] > 0])
    found = trimesh.Trimesh(
        *remesh(cap.vertices, cap.faces, 2000, np.random.default_rng(0)), process=False
    )
    assert 1800 < len(found.faces) < 2100
    corners = np.asarray(found.vertices)[found.faces]
    radius = np.linalg.norm(np.concatenate([corners.mean(1), found.vertices]), axis=1)
    assert radius.min() > 49.4 and radius.max() < 50.3
    assert (found.face_normals * corners.mean(1)).sum(1).min() > 0
    assert found.area == pytest.approx(cap.area, rel=0.01)
    assert len(found.split(only_watertight=False)) == 1


@pytest.mark.parametrize("name", ["half face", "hair", "20k triangles"])
def test_supported_vertices_lie_on_the_scan_and_the_others_do_not(ict: IctModel, name: str) -> None:
    case = make_case(ict, name)
    on_head = ~case.clutter[case.scan.faces].any(1)
    head = SurfaceIndex(case.scan.vertices_mm, case.scan.faces[on_head])
    distance = head.query(case.truth_mm[case.known]).distance
    supported, clear = case.supported[case.known], ~case.near_border[case.known]
    # noise of 0.1 mm, and at 20k triangles the chords
    assert np.quantile(distance[supported], 0.99) < 0.6
    assert distance[~supported & clear].min() > 0.35
    assert 0.3 < supported.mean() < 1


def test_seeds_differ_but_for_the_pair_that_shares_a_scan() -> None:
    seeds = [RECIPES[name].seed for name in CASES if name != "start good"]
    assert len(set(seeds)) == len(seeds) >= 24


def test_a_start_is_off_by_what_its_name_says_on_the_same_scan(ict: IctModel) -> None:
    good, off = (make_case(ict, name) for name in ("start good", "start 20° 25 mm off"))
    assert np.array_equal(good.scan.vertices_mm, off.scan.vertices_mm)
    assert good.scan.landmarks_mm is None and off.scan.landmarks_mm is None
    assert good.start_error is not None and np.array_equal(good.start_error, np.eye(4))
    assert off.start_error is not None
    rotation, centre = off.start_error[:3, :3], np.nanmean(off.marks_mm, axis=0)
    assert np.degrees(np.arccos((np.trace(rotation) - 1) / 2)) == pytest.approx(20)
    moved = rotation @ centre + off.start_error[:3, 3] - centre
    assert np.linalg.norm(moved) == pytest.approx(25)


def test_a_turn_moves_scan_truth_and_landmarks_alike(ict: IctModel) -> None:
    still, turned = make_case(ict, "neutral"), make_case(ict, "neutral", turn_degrees=90.0)
    assert not turned.scan.oriented and turned.scan.landmarks_mm is None
    assert np.linalg.norm(still.truth_mm[still.known] - turned.truth_mm[turned.known]) > 1e3

    def lengths(*parts: np.ndarray) -> np.ndarray:
        points = np.concatenate(parts)
        return np.linalg.norm(points[:, None] - points[None], axis=2)

    def sample(case: object) -> list[np.ndarray]:
        return [
            case.scan.vertices_mm[::900],  # type: ignore[attr-defined]
            case.truth_mm[case.known][::90],  # type: ignore[attr-defined]
            case.marks_mm[27:40:4],  # type: ignore[attr-defined]
        ]

    assert np.nanmax(np.abs(lengths(*sample(still)) - lengths(*sample(turned)))) < 0.01
