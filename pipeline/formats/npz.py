"""NPZ: numpy arrays `vertices` (V,3), `faces` (F,3) and, if wanted, `colours` (V,3) uint8."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from tokenize import TokenError

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, read_bytes
from pipeline.formats.mesh import checked_scan
from pipeline.types import Array, RawScan

KINDS = {"vertices": "fiu", "faces": "iu", "colours": "u"}
"""The numpy kinds each array may have."""


def read_npz(path: Path) -> RawScan:
    """Raises FormatError for a damaged archive, and an array that is missing or misshapen."""
    found = arrays(path, KINDS)
    for name in ("vertices", "faces"):
        if name not in found:
            raise FormatError(path, f"no array {name!r}", "save it with vertices= and faces=")
    for name, array in found.items():
        refuse_misshapen(path, name, array)
    colours = found.get("colours")
    if colours is not None and len(colours) != len(found["vertices"]):
        fault = f"{len(colours)} colours for {len(found['vertices'])} vertices"
        raise FormatError(path, fault, "save one colour a vertex")
    return checked_scan(path, found["vertices"], found["faces"], colours)


def arrays(path: Path, names: Iterable[str]) -> dict[str, Array]:
    """Those of `names` that the archive holds. Raises FormatError for a damaged one."""
    data = read_bytes(path)
    if not data.startswith(b"PK"):
        raise FormatError(path, f"starts with {data[:4]!r}, expected b'PK'", "check the format")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in names if name in archive.files}
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        RuntimeError,
        TokenError,
    ) as error:
        raise FormatError(path, f"not a whole NPZ of plain arrays: {error}", COPY_AGAIN) from error


def refuse_misshapen(path: Path, name: str, array: Array) -> None:
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in KINDS[name]:
        fault = f"{name} is {array.dtype} {array.shape}, expected (N, 3) of kind {KINDS[name]!r}"
        raise FormatError(path, fault, "save it in that shape and type")
