"""What every reader does first: get the file's bytes or text, or say plainly why it cannot."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.foreign import HEAD, not_this_format, refuse_stand_in
from pipeline.refusals import Code
from pipeline.types import Array

COPY_AGAIN = "copy it again from its source"
GZIP = b"\x1f\x8b\x08"
GZIP_SPARE = 1 << 21
"""Of a text, whose words take several times its size."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
OTHER_NAN = re.compile(
    rb"(?<!\S)[-+]?(nan\([^\s()]*\)|1\.#(qnan|snan|ind)\d*)(?!\S)", re.IGNORECASE
)
"""How C libraries write what is no number."""
ODD_COMMA = re.compile(rb"(?<!\d),|,(?!\d)|,\d+,")
THOUSANDS = re.compile(rb"(?<!\S)[-+]?[1-9]\d{0,2},\d{3}(?!\S)")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading; gzip data is unpacked, whatever the file's name.

    Raises FormatError if it is missing, unreadable, of zero length, or no file at all: a named
    pipe would be waited for, a device read without end. Likewise for a damaged archive, a Git LFS
    pointer and a web page.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            fault = f"cannot be read: it is {kind}"
            raise FormatError(path, fault, "check the path", Code.UNREADABLE)
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise FormatError(path, "the file is empty (0 bytes)", COPY_AGAIN, Code.UNREADABLE)
            # what is read through `file` before all of it would cost another copy
            head = os.pread(file.fileno(), HEAD, 0)
            if not head.startswith(GZIP):
                refuse_stand_in(path, head)
                yield file
                return
            content = unzipped(path, file.read())
            refuse_stand_in(path, content[:HEAD])
            yield io.BytesIO(content)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fault = f"cannot be read: {reason}"
        raise FormatError(path, fault, "check the path", Code.UNREADABLE) from error


def unzipped(path: Path, data: bytes) -> bytes:
    """The content of gzip data. Raises FormatError if it is damaged, empty or unpacks to much."""
    limit = most_unpacked(len(data), GZIP_SPARE)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as archive:
            content = archive.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FormatError(path, f"damaged gzip archive: {error}", COPY_AGAIN) from error
    if len(content) > limit:
        fault = f"the gzip archive holds more than {limit} bytes"
        raise FormatError(path, fault, COPY_AGAIN)
    if not content:
        fault = "the gzip archive is empty (0 bytes)"
        raise FormatError(path, fault, COPY_AGAIN, Code.UNREADABLE)
    return content


def read_bytes(path: Path) -> bytes:
    """The file's content; UTF-16 text with its byte order mark as UTF-8.

    Raises FormatError as `opened` does.
    """
    with opened(path) as file:
        data = file.read()
    if data.startswith(UTF_16):
        try:
            return data.decode("utf-16").encode()
        except UnicodeDecodeError:
            return data  # not text after all
    return data


def most_unpacked(size: int, spare: int = 1 << 24) -> int:
    """The bytes that an archive of `size` bytes may unpack to; small ones may shrink by more.

    Scans shrink to a third or a tenth; what unpacks to far more was made to fill the memory.
    """
    return 20 * size + spare


def refuse_binary(path: Path, data: bytes) -> None:
    """Raises FormatError if `data` is no text."""
    if 0 in data:
        fault = f"not a text file: byte {data.index(0)} is zero"
        raise not_this_format(path, data, fault, "check that the format is the file's own")


def decoded(path: Path, data: bytes, other: str | None = None) -> str:
    """`data` as UTF-8 text, or if it is none, in the `other` encoding.

    Raises FormatError if it is binary, or in another encoding and there is no `other`.
    """
    refuse_binary(path, data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if other is not None:
            return data.decode(other)
        fault = f"not UTF-8 text: byte {error.start} is {data[error.start]:#04x}"
        remedy = "save it as plain ASCII or UTF-8"
        raise FormatError(path, fault, remedy, Code.NOT_THIS_FORMAT) from error


def read_text(path: Path) -> str:
    """The file's content as text. Raises FormatError as `read_bytes` and `decoded` do."""
    return decoded(path, read_bytes(path))


def floats(path: Path, words: Iterable[str] | Iterable[bytes], what: str) -> Array:
    """(N,) float64 from N words. Raises FormatError that quotes the first that is no number."""
    listed: list[str | bytes] = list(words)
    try:
        return np.fromiter(map(float, listed), np.float64)
    except ValueError as error:
        given = [word if isinstance(word, bytes) else word.encode() for word in listed]
        plain = plain_numbers(b"\n".join(given)).split(b"\n")
        if len(plain) == len(given) and plain != given:
            return floats(path, plain, what)
        raise FormatError(path, f"{what}: {error}", COPY_AGAIN) from error


def integers(path: Path, words: Iterable[str] | Iterable[bytes], what: str) -> Array:
    """(N,) int64 from N words. Raises FormatError that quotes the first that is no integer."""
    try:
        return np.fromiter(map(int, words), np.int64)
    except (ValueError, OverflowError) as error:
        raise FormatError(path, f"{what}: {error}", COPY_AGAIN) from error


def floats_of_text(path: Path, text: bytes, what: str) -> Array:
    """(N,) float64 of a long text: as `floats`, in a tenth of the memory."""
    try:
        return parsed(path, text, what, np.float64, float)
    except FormatError:
        plain = plain_numbers(text)
        if plain == text:
            raise
    return parsed(path, plain, what, np.float64, float)


def integers_of_text(path: Path, text: bytes, what: str) -> Array:
    """(N,) int64 of a long text: as `integers`, ten times as fast and in a tenth of the memory."""
    found = parsed(path, text, what, np.int64, int)
    limits = np.iinfo(np.int64)
    if found.size and (found.max() == limits.max or found.min() == limits.min):
        return integers(path, text.split(), what)  # numpy takes the limit for what is beyond
    return found


def parsed(
    path: Path, text: bytes, what: str, kind: type, number: Callable[[bytes], float]
) -> Array:
    """(N,) numbers of all words of the text; `number` has the last word on what is none."""
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
    try:
        return np.fromiter((number(match[0]) for match in re.finditer(rb"\S+", text)), kind)
    except (ValueError, OverflowError) as error:
        raise FormatError(path, f"{what}: {error}", COPY_AGAIN) from error


def plain_numbers(text: bytes) -> bytes:
    """Numbers between blanks as C writes them: decimal commas and other words for NaN replaced."""
    text = OTHER_NAN.sub(b"nan", text)
    return text.replace(b",", b".") if has_decimal_commas(text) else text


def has_decimal_commas(text: bytes) -> bool:
    """Whether the commas in numbers between blanks can only be decimal ones.

    1,234 is also how thousands are grouped; but then 0,5 is not there and some number is small.
    """
    n_commas = text.count(b",")
    if not n_commas or b"." in text or ODD_COMMA.search(text):
        return False
    n_words = sum(1 for _ in re.finditer(rb"\S+", text))
    return n_words == n_commas or len(THOUSANDS.findall(text)) < n_commas
