"""FaceWarehouse's blendshapes: one shape of many, faces from the file beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scan_writers
from scan_writers import surface

from pipeline.errors import FormatError
from pipeline.formats.bs import read_bs

QUADS = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n"


def written(folder: Path, neutral: str | None = None) -> Path:
    path = folder / "shape.bs"
    path.write_bytes(scan_writers.bs(*surface()))
    text = scan_writers.obj(*surface()).decode() if neutral is None else neutral
    (folder / "shape_0.obj").write_text(text)
    return path


def test_every_shape_has_the_neutral_faces(tmp_path: Path) -> None:
    vertices, faces = surface()
    path = written(tmp_path)
    for shape in (0, 1):
        scan = read_bs(path, shape=shape)
        np.testing.assert_array_equal(scan.vertices, vertices + shape)
        np.testing.assert_array_equal(scan.faces, faces)


@pytest.mark.parametrize("shape", [2, -1])
def test_a_shape_it_does_not_have(tmp_path: Path, shape: int) -> None:
    with pytest.raises(FormatError, match=f"shape {shape}, expected 0 … 1"):
        read_bs(written(tmp_path), shape=shape)


def test_faces_of_another_topology(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"30 points, but shape_0.obj has 4 vertices"):
        read_bs(written(tmp_path, QUADS))


def test_no_faces_beside_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "shape_0.obj").unlink()
    with pytest.raises(FormatError, match=r"shape_0\.obj"):
        read_bs(path)
