"""Parameters that are what they have to be, or an error that names them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.types import Array


def whole(name: str, value: Any, least: int = 0) -> int:
    """An integer of at least `least`, also numpy's. Raises FacefoldError for all else, and bool."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise FacefoldError(f"{name}: got {value!r}, expected an integer ≥ {least}")


def number(name: str, value: Any, least: float, most: float = math.inf) -> float:
    """A finite number between two others. Raises FacefoldError for all else, and bool."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if real and math.isfinite(value) and least <= value <= most:
        return float(value)
    bounds = f"≥ {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
    raise FacefoldError(f"{name}: got {value!r}, expected a number {bounds}")


def names(name: str, value: Any) -> tuple[str, ...]:
    """Several names; a text is one. Raises FacefoldError for all else, and for none."""
    given = (value,) if isinstance(value, str) else value
    listed = isinstance(given, (Sequence, set, frozenset)) and not isinstance(given, bytes)
    if listed and given and all(isinstance(word, str) for word in given):
        return tuple(given)
    raise FacefoldError(f"{name}: got {value!r}, expected a name or a list of names")


def class_codes(name: str, value: Any) -> Array:
    """(n,) whole numbers or NaN, n ≥ 1. Raises FacefoldError for all else."""
    array = np.asarray(value)
    if array.ndim == 1 and array.size and array.dtype.kind in "iufb":
        kept = array[~np.isnan(array)] if array.dtype.kind == "f" else array
        if (kept == np.floor(kept)).all():
            return array
    raise FacefoldError(
        f"{name}: got {array.dtype} {array.shape}, expected one whole number a sample, "
        "such as FaceDataset.classes gives"
    )


def exactly(value: Any) -> str:
    """A parameter as text that is equal for equal values; what is long is its digest."""
    if isinstance(value, np.ndarray):
        kind = {"i": np.int64, "u": np.int64, "f": np.float64}.get(value.dtype.kind)
        content = np.ascontiguousarray(value, kind).tobytes()
        return f"<{len(value)} values, {digest(content)}>"
    if isinstance(value, Mapping) and len(value) > 8:
        return f"<{len(value)} items, {digest(repr(dict(value)).encode())}>"
    return repr(dict(value)) if isinstance(value, Mapping) else repr(value)


def digest(content: bytes) -> str:
    """Eight hexadecimal digits of content."""
    return hashlib.blake2b(content, digest_size=4).hexdigest()
