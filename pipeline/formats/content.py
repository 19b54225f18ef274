"""What every reader does first: get the file's bytes or text, or say plainly why it cannot."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.errors import FormatError
from pipeline.types import Array

COPY_AGAIN = "copy it again from its source"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading.

    Raises FormatError where it is missing, unreadable, of zero length, or no file at all: a named
    pipe would be waited for, a device read without end.
    """
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise FormatError(path, f"cannot be read: it is {kind}", "check the path")
        with Path(path).open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise FormatError(path, "the file is empty (0 bytes)", COPY_AGAIN)
            yield file
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FormatError(path, f"cannot be read: {reason}", "check the path") from error


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises FormatError as `opened` does."""
    with opened(path) as file:
        return file.read()


def most_unpacked(size: int) -> int:
    """The bytes that an archive of `size` bytes may unpack to.

    Scans shrink to a third or a tenth; what unpacks to far more was made to fill the memory.
    """
    return 20 * size + (1 << 24)


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


def floats_of_text(path: Path, text: bytes, what: str) -> Array:
    """(N,) float64 of a long text: as `floats`, in a tenth of the memory."""
    return parsed(path, text, what, np.float64, floats)


def integers_of_text(path: Path, text: bytes, what: str) -> Array:
    """(N,) int64 of a long text: as `integers`, ten times as fast and in a tenth of the memory."""
    found = parsed(path, text, what, np.int64, integers)
    limits = np.iinfo(np.int64)
    if found.size and (found.max() == limits.max or found.min() == limits.min):
        return integers(path, text.split(), what)  # numpy takes the limit for what is beyond
    return found


def parsed(
    path: Path,
    text: bytes,
    what: str,
    kind: type,
    slowly: Callable[[Path, Iterable[bytes], str], Array],
) -> Array:
    """(N,) numbers of all words of the text; `slowly` has the last word on what is no number."""
    letters = np.frombuffer(text, np.uint8)
    is_word = letters > ord(" ")
    n_words = np.count_nonzero(is_word[1:] & ~is_word[:-1]) + is_word[:1].sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how numpy says: no number
        try:
            values: Array = np.fromstring(text, kind, sep=" ")
        except (DeprecationWarning, ValueError):
            values = np.empty(0, kind)
    if len(values) == n_words:  # numpy parts "1-2", which is no number, into two
        return values
    return slowly(path, (match[0] for match in re.finditer(rb"\S+", text)), what)
