"""What reading and cleaning leave out of a file, counted once and together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipeline.formats import read_scan
from pipeline.landmarks import resolve
from pipeline.normalise import normalise
from pipeline.types import RawLandmarks


def ball() -> tuple[np.ndarray, np.ndarray]:
    sphere = trimesh.creation.icosphere(subdivisions=4)
    return np.asarray(sphere.vertices) * (75, 115, 100), np.asarray(sphere.faces)


def test_points_that_are_not_finite_are_counted_once(tmp_path: Path) -> None:
    vertices, _ = ball()
    vertices[::10] = np.nan
    np.savetxt(tmp_path / "scan.xyz", vertices, fmt="%.6f")
    raw = read_scan(tmp_path / "scan.xyz", "xyz")
    scan = normalise(raw, scan_id="a", unit="mm", axes=None)
    n = len(vertices[::10])
    assert scan.left_out == {"vertices_not_finite": n}
    assert scan.left_out_share == 0.0  # points without a reading are no damage


def test_triangles_lost_in_reading_and_in_cleaning(tmp_path: Path) -> None:
    """Two faces of two corners, one of no area, and a vertex without place before the others."""
    vertices, faces = ball()
    rows = ["v nan nan nan", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices.tolist())]
    rows += ["f 2 3", "f 4 5", "f 2 3 3", *(f"f {a} {b} {c}" for a, b, c in (faces + 2).tolist())]
    (tmp_path / "scan.obj").write_text("\n".join([*rows, ""]))
    raw = read_scan(tmp_path / "scan.obj", "obj")
    scan = normalise(raw, scan_id="a", unit="mm", axes=None)
    expected = {"faces_degenerate": 2, "faces_empty": 1, "vertices_not_finite": 1}
    # a triangle without area is no surface to lose
    assert {name: scan.left_out[name] for name in expected} == expected
    assert scan.left_out_share == pytest.approx(2 / (len(faces) + 3))
    assert len(scan.faces) == len(faces)
    marks = resolve(RawLandmarks(indices=np.array([0, 1, 6])), raw, Path("a.txt"))
    np.testing.assert_allclose(marks, [[np.nan] * 3, vertices[0], vertices[5]], atol=1e-6)
