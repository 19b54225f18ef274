"""What every reader does first: get the file's bytes or text, or say plainly why it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.types import Array

COPY_AGAIN = "copy it again from its source"


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises FormatError where it is missing, unreadable or of zero length."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FormatError(path, f"cannot be read: {reason}", "check the path") from error
    if not data:
        raise FormatError(path, "the file is empty (0 bytes)", COPY_AGAIN)
    return data


def decoded(path: Path, data: bytes) -> str:
    """`data` as UTF-8 text. Raises FormatError where it is binary or in another encoding."""
    if 0 in data:
        fault = f"not a text file: byte {data.index(0)} is zero"
        raise FormatError(path, fault, "check that the format is the file's own")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fault = f"not UTF-8 text: byte {error.start} is {data[error.start]:#04x}"
        raise FormatError(path, fault, "save it as plain ASCII or UTF-8") from error


def read_text(path: Path) -> str:
    """The file's content as text. Raises FormatError as `read_bytes` and `decoded` do."""
    return decoded(path, read_bytes(path))


def floats(path: Path, words: Iterable[str] | Iterable[bytes], what: str) -> Array:
    """(N,) float64 from N words. Raises FormatError that quotes the first that is no number."""
    try:
        return np.fromiter(map(float, words), np.float64)
    except ValueError as error:
        raise FormatError(path, f"{what}: {error}", COPY_AGAIN) from error


def integers(path: Path, words: Iterable[str] | Iterable[bytes], what: str) -> Array:
    """(N,) int64 from N words. Raises FormatError that quotes the first that is no integer."""
    try:
        return np.fromiter(map(int, words), np.int64)
    except (ValueError, OverflowError) as error:
        raise FormatError(path, f"{what}: {error}", COPY_AGAIN) from error


def integers_of_text(path: Path, text: bytes, what: str) -> Array:
    """(N,) int64 of a long text of words; the same as `integers`, ten times as fast."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how numpy says: no number
        try:
            return np.fromstring(text, np.int64, sep=" ")
        except (DeprecationWarning, ValueError):
            return integers(path, text.split(), what)
