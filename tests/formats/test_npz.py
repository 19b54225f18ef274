"""NPZ: names, shapes, types, and no pickles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scan_writers import surface

from pipeline.errors import FormatError
from pipeline.formats.npz import read_npz

VERTICES, FACES = surface()
COLOURS = np.full((30, 3), 7, np.uint8)


def test_colours_compression_and_point_clouds(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    np.savez_compressed(path, vertices=VERTICES, faces=np.empty((0, 3), int), colours=COLOURS)
    scan = read_npz(path)
    assert scan.faces.shape == (0, 3)
    np.testing.assert_array_equal(scan.colours, COLOURS)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"vertices": VERTICES}, "no array 'faces'"),
        ({"points": VERTICES, "faces": FACES}, "no array 'vertices'"),
        ({"vertices": VERTICES[:, :2], "faces": FACES}, r"vertices is float32 \(30, 2\)"),
        ({"vertices": VERTICES, "faces": FACES.astype(float)}, r"faces is float64 \(40, 3\)"),
        ({"vertices": VERTICES.astype(object), "faces": FACES}, "plain arrays"),
        ({"vertices": VERTICES, "faces": FACES, "colours": COLOURS[:9]}, "9 colours for 30"),
    ],
)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, np.ndarray], fault: str) -> None:
    path = tmp_path / "scan.npz"
    np.savez(path, **arrays)
    with pytest.raises(FormatError, match=fault):
        read_npz(path)
