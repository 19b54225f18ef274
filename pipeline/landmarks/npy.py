"""Numpy arrays: (L,3) points, NaN rows missing, or (L,) vertex indices, -1 missing."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, read_bytes
from pipeline.types import RawLandmarks


def read_npy(path: Path) -> RawLandmarks:
    """Raises FormatError for a damaged file, a pickled one and another shape or type."""
    data = read_bytes(path)
    if not data.startswith(b"\x93NUMPY"):
        fault = f"starts with {data[:6]!r}, expected b'\\x93NUMPY'"
        raise FormatError(path, fault, "check the format")
    try:
        # mapped, a header that promises more than the file holds costs no memory
        array = np.array(np.lib.format.open_memmap(path, mode="r"))
    except (ValueError, EOFError, OverflowError, TypeError, SyntaxError, TokenError) as error:
        raise FormatError(path, f"not a whole plain array: {error}", COPY_AGAIN) from error
    if array.ndim == 1 and array.dtype.kind in "iu" and len(array):
        return RawLandmarks(indices=array)
    if array.ndim == 2 and array.shape[1] == 3 and array.dtype.kind in "fiu" and len(array):
        return RawLandmarks(points=array)
    fault = f"holds {array.dtype} {array.shape}, expected numbers (L, 3) or integers (L,)"
    raise FormatError(path, fault, "save points or vertex indices")
