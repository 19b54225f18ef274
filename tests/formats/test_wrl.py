"""VRML 2: BU-3DFE's layout, polygons, exponents, and shapes this reader must refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import FormatError
from pipeline.formats.wrl import read_wrl

FACE = """#VRML V2.0 utf8
# exported [ by ] a scanner {
Group { children [
  Transform { translation 0 0 0 rotation 0 0 1 0 scale 1 1 1 children Shape {
    appearance Appearance {
      texture ImageTexture { url "skin#1.bmp" }
      textureTransform TextureTransform { scale 2 2 }
    }
    geometry IndexedFaceSet {
      ccw TRUE solid FALSE creaseAngle 0.5
      coord DEF points Coordinate
      {
        point
        [
          0 0 0, 1.0e+0 0 0,  # a comment
          1 1 -2.5E-1, 0 1 0,
        ]
      }
      texCoord TextureCoordinate { point [ 0 0, 1 0, 1 1, 0 1, 0.5 0.5 ] }
      coordIndex [ 0, 1, 2, 3, -1, 2 1 0 -1 3,2,1 ]
      texCoordIndex [ 0, 1, 2, 3, -1, 4 1 0 -1 3,2,4 ]
    }
  } }
] }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "scan.wrl"
    path.write_text(text)
    return path


def test_layout_of_real_files(tmp_path: Path) -> None:
    (tmp_path / "skin#1.bmp").touch()
    scan = read_wrl(written(tmp_path, FACE))
    assert scan.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, -0.25], [0, 1, 0]]
    assert scan.faces.tolist() == [[0, 1, 2], [0, 2, 3], [2, 1, 0], [3, 2, 1]]
    assert scan.texture_path == tmp_path / "skin#1.bmp"


def test_clockwise_faces_are_turned(tmp_path: Path) -> None:
    scan = read_wrl(written(tmp_path, FACE.replace("ccw TRUE", "ccw FALSE")))
    assert scan.faces.tolist() == [[2, 1, 0], [3, 2, 0], [0, 1, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("#VRML V2.0 utf8", "#VRML V1.0 ascii", "starts with '#VRML V1.0'"),
        ("translation 0 0 0", "translation 0 0 -1.5", "moved by `translation 0 0 -1.5`"),
        ("rotation 0 0 1 0", "rotation 0 0 1 1.57", "moved by `rotation"),
        ("scale 1 1 1", "scale 1000 1000 1000", "moved by `scale"),
        ("coordIndex [", "corners [", "0 lists 'coordIndex', expected 1"),
        ("texCoordIndex [", "coordIndex [", "2 lists 'coordIndex', expected 1"),
        ("0 1 0,", "0 1", "11 coordinates"),
        ("2 1 0 -1", "2 1 0.5 -1", "coordIndex: .*0.5"),
        ("1.0e+0", "1,0e+0x", "points: .*0e\\+0x"),
    ],
)
def test_bad_files(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in FACE
    with pytest.raises(FormatError, match=fault):
        read_wrl(written(tmp_path, FACE.replace(old, new, 1)))


UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]], np.float32)
CORNERS = [[0, 1, 2], [0, 2, 3], [4, 1, 0], [3, 2, 4]]


def test_texture_coordinates(tmp_path: Path) -> None:
    scan = read_wrl(written(tmp_path, FACE))
    np.testing.assert_array_equal(scan.uv, 2 * UV[CORNERS])  # by the TextureTransform
    turned = read_wrl(written(tmp_path, FACE.replace("ccw TRUE", "ccw FALSE")))
    np.testing.assert_array_equal(turned.uv, 2 * UV[CORNERS][:, ::-1])


def test_texture_coordinates_share_the_numbers_of_vertices(tmp_path: Path) -> None:
    text = FACE.replace("texCoordIndex [ 0, 1, 2, 3, -1, 4 1 0 -1 3,2,4 ]", "")
    scan = read_wrl(written(tmp_path, text))
    np.testing.assert_array_equal(scan.uv, 2 * UV[scan.faces])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("4 1 0 -1 3,2,4 ]", "4 1 -1 0 3,2,4 ]"),
        ("0.5 0.5 ] }", "0.5 ] }"),
        ("1 0, 1 1, 0 1, 0.5 0.5", "1 0, 1 x, 0 1, 0.5 0.5"),
        ("scale 2 2", "scale 2"),
        ("scale 2 2", "scale 2 2 rotation 1.57"),
    ],
)
def test_a_texture_that_cannot_be_read_leaves_the_surface_whole(
    tmp_path: Path, old: str, new: str
) -> None:
    assert old in FACE
    scan = read_wrl(written(tmp_path, FACE.replace(old, new)))
    assert len(scan.faces) == 4 and scan.uv is None
    assert scan.left_out == {"texture_coordinates_unreadable": 1}


def test_corners_beyond_the_texture_coordinates_have_none(tmp_path: Path) -> None:
    scan = read_wrl(written(tmp_path, FACE.replace("-1 3,2,4 ]", "-1 3,2,5 ]")))
    assert scan.uv is not None and np.isnan(scan.uv[3, 2]).all()
    assert np.isfinite(scan.uv).sum() == scan.uv.size - 2
