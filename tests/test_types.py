"""What the dataclasses that cross stages check: shapes, types, finiteness, no lossy cast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.types import RawScan, checked

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1.0, -2.0], np.int64),
        ([True, False], np.int64),
        ([255.0, 0.0], np.uint8),
        ([7, 255], np.uint8),
        ([-(2.0**63)], np.int64),
        ([0.1, 1e-300], np.float32),
        ([np.inf, np.nan], np.float32),
        ([2**53 + 1], np.float32),
        ([1, 0], np.bool_),
        ([], np.int64),
    ],
)
def test_casts_that_keep_or_round_the_value(value: list[Any], dtype: type) -> None:
    array = checked("Scan", "field", value, (None,), dtype, finite=False)
    assert array.dtype == dtype and array.flags.c_contiguous
    np.testing.assert_allclose(array, np.array(value, np.float64), rtol=1e-7, atol=1e-45)


@pytest.mark.parametrize(
    ("value", "dtype", "fault"),
    [
        ([2.0, 1.9], np.int64, "1 values that int64 cannot hold, the first is 1.9"),
        ([np.nan], np.int64, "the first is nan"),
        ([np.inf], np.int64, "the first is inf"),
        ([2.0**63], np.int64, "the first is 9.2"),
        ([1e300], np.int64, r"the first is 1e\+300"),
        (np.array([2**63], np.uint64), np.int64, "the first is 9223372036854775808"),
        ([2**70], np.int64, "got object values, expected int64"),
        ([256, 300], np.uint8, "2 values that uint8 cannot hold, the first is 256"),
        ([-1], np.uint8, "the first is -1"),
        ([256.0], np.uint8, "the first is 256.0"),
        ([1e39, -1e39, np.inf], np.float32, r"2 values .* the first is 1e\+39"),
        ([1j], np.float64, "got complex128 values, expected float64"),
        (["1"], np.float64, "got <U1 values, expected float64"),
        ([None], np.float64, "got object values, expected float64"),
        ([2], np.bool_, "1 values that bool cannot hold, the first is 2"),
    ],
)
def test_lossy_casts_are_refused(value: Any, dtype: type, fault: str) -> None:
    with pytest.raises(ValueError, match=rf"Scan\.field: .*{fault}"):
        checked("Scan", "field", value, (None,), dtype, finite=False)


def test_a_face_between_two_vertices() -> None:
    with pytest.raises(ValueError, match=r"RawScan\.faces: .*the first is 1\.9"):
        RawScan(np.array(SQUARE, float), np.array([[0, 1.9, 2]]))


def test_an_array_that_fits_is_not_copied() -> None:
    array = np.zeros((5, 3))
    assert checked("Scan", "field", array, (None, 3), np.float64) is array


def test_vertices_keep_float64_and_those_without_place_their_number() -> None:
    vertices = np.array([*SQUARE, [np.nan] * 3]) + np.array([665187, 5648349, 241])
    scan = RawScan(vertices, np.array([[0, 1, 2]]))
    assert scan.vertices.dtype == np.float64 and not scan.left_out
    np.testing.assert_array_equal(scan.vertices, vertices)
    with pytest.raises(ValueError, match="triangles use vertices that are not finite"):
        RawScan(vertices, np.array([[0, 1, 4]]))


def test_texture_coordinates_are_of_the_triangles_corners() -> None:
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.full((2, 3, 2), np.nan)
    assert RawScan(np.array(SQUARE, float), faces, uv=uv).uv is not None
    with pytest.raises(ValueError, match=r"RawScan.uv: got shape \(4, 2\), expected \(2, 3, 2\)"):
        RawScan(np.array(SQUARE, float), faces, uv=np.zeros((4, 2)))
