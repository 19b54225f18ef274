"""NPZ: numpy arrays `vertices` (V,3), `faces` (F,3) and, if wanted, `colours` (V,3) uint8."""

from __future__ import annotations

import math
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from tokenize import TokenError
from typing import IO

from numpy.lib import format as npy

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, most_unpacked, opened
from pipeline.formats.foreign import HEAD, not_this_format
from pipeline.formats.mesh import checked_scan
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

KINDS = {"vertices": "fiu", "faces": "iu", "colours": "u"}
"""The numpy kinds each array may have."""
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TokenError,
    TypeError,
    ValueError,
)
"""What zipfile and numpy raise on the way through a damaged archive."""


def read_npz(path: Path) -> RawScan:
    """Raises FormatError for a damaged archive, and an array that is missing or misshapen."""
    found = arrays(path, KINDS)
    for name in ("vertices", "faces"):
        if name not in found:
            remedy = "save it with vertices= and faces="
            raise FormatError(path, f"no array {name!r}", remedy, Code.UNSUPPORTED)
    found = {name: without_batch(array) for name, array in found.items()}
    for name, array in found.items():
        refuse_misshapen(path, name, array)
    colours = found.get("colours")
    if colours is not None and len(colours) != len(found["vertices"]):
        fault = f"{len(colours)} colours for {len(found['vertices'])} vertices"
        raise FormatError(path, fault, "save one colour a vertex")
    return checked_scan(path, found["vertices"], found["faces"], colours)


def arrays(path: Path, names: Iterable[str]) -> dict[str, Array]:
    """Those of `names` that the archive holds. Raises FormatError for a damaged one."""
    with opened(path) as file:
        start = file.read(4)
        if not start.startswith(b"PK"):
            head = start + file.read(HEAD)
            raise not_this_format(path, head, f"starts with {start!r}, expected b'PK'")
        try:
            with zipfile.ZipFile(file) as archive:
                members = {info.filename: info for info in archive.infolist()}
                found = {name: members.get(f"{name}.npy") for name in names}
                limit = most_unpacked(file.seek(0, 2))
                return {
                    name: member_array(archive, info, limit)
                    for name, info in found.items()
                    if info is not None
                }
        except DAMAGED as error:
            fault = f"not a whole NPZ of plain arrays: {error}"
            raise FormatError(path, fault, COPY_AGAIN) from error


def member_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> Array:
    """The array of one member. Raises one of DAMAGED, also where it unpacks to too much."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is compressed by method {info.compress_type}")
    if info.file_size > limit:
        raise ValueError(f"{info.filename} unpacks to {info.file_size} bytes, at most {limit}")
    with archive.open(info) as member:
        return plain_array(member, info.file_size)


def plain_array(file: IO[bytes], size: int) -> Array:
    """The array of an `.npy` stream of `size` bytes, once its header states what is there.

    numpy makes room for whatever a header states before it looks at the data. Raises one of
    DAMAGED.
    """
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"an array of version {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote, or that are damaged
        try:
            shape, _, dtype = HEADERS[version](file)
        except MemoryError as error:  # of the parser's stack
            raise ValueError("an array with a header of nested brackets") from error
        stated = file.tell() + math.prod(shape) * dtype.itemsize
        if min(shape, default=1) < 0 or stated != size:
            raise ValueError(f"an array {dtype} {shape} in {size} bytes")
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)


def without_batch(array: Array) -> Array:
    """(1,N,3) as (N,3): how networks store a batch of one."""
    while array.ndim > 2 and 1 in array.shape:
        array = array.squeeze(array.shape.index(1))
    return array


def refuse_misshapen(path: Path, name: str, array: Array) -> None:
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in KINDS[name]:
        fault = f"{name} is {array.dtype} {array.shape}, expected (N, 3) of kind {KINDS[name]!r}"
        raise FormatError(path, fault, "save it in that shape and type", Code.UNSUPPORTED)
