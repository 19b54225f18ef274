"""Numpy arrays: (L,3) points, NaN rows missing, or (L,) vertex indices, -1 missing.

Axes of length 1 beside these are left out, as in (1,L,3), a batch of one.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, opened
from pipeline.formats.foreign import HEAD, not_this_format
from pipeline.formats.npz import DAMAGED, plain_array, without_batch
from pipeline.types import RawLandmarks


def read_npy(path: Path) -> RawLandmarks:
    """Raises FormatError for a damaged file, a pickled one and another shape or type."""
    with opened(path) as file:
        start = file.read(6)
        if start != b"\x93NUMPY":
            fault = f"starts with {start!r}, expected b'\\x93NUMPY'"
            raise not_this_format(path, start + file.read(HEAD), fault)
        size = file.seek(0, 2)
        file.seek(0)
        try:
            array = without_batch(plain_array(file, size))
        except DAMAGED as error:
            raise FormatError(path, f"not a whole plain array: {error}", COPY_AGAIN) from error
    if array.ndim == 2 and array.shape[1] != 3 and 1 in array.shape and array.dtype.kind in "iu":
        array = array.ravel()
    if array.ndim == 1 and array.dtype.kind in "iu" and len(array):
        return RawLandmarks(indices=array)
    if array.ndim == 2 and array.shape[1] == 3 and array.dtype.kind in "fiu" and len(array):
        return RawLandmarks(points=array)
    fault = f"holds {array.dtype} {array.shape}, expected numbers (L, 3) or integers (L,)"
    raise FormatError(path, fault, "save points or vertex indices")
