"""CRC-32C and SHA-256 of rows, of files, and of what is being written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c
import numpy as np

from pipeline.errors import StoreError
from pipeline.types import Array

BLOCK = 1 << 21
"""Of a write: a huge page, which the page cache keeps as one. In smaller ones, rows that have just
been written are gathered from the map a fifth more slowly."""


def with_checksum(content: bytes) -> bytes:
    """Zarr's crc32c codec: the checksum's four bytes follow the content."""
    return content + int(google_crc32c.value(content)).to_bytes(4, "little")


def without_checksum(content: bytes, owner: str) -> bytes:
    """Raises StoreError where the checksum is not that of the content."""
    if with_checksum(content[:-4]) != content:
        raise StoreError(f"{owner}: damaged; verify the store, then restore it")
    return content[:-4]


def row_checksums(rows: Iterable[Array]) -> list[int]:
    """CRC-32C of the bytes of each scan's row, or rows."""
    return [int(google_crc32c.value(np.asarray(row).tobytes())) for row in rows]


class Sums:
    """Length, SHA-256 and CRC-32C of what passes through: taken while it is in the cache."""

    def __init__(self) -> None:
        self.bytes, self._crc32c, self._sha256 = 0, 0, hashlib.sha256()

    def passing(self, parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        for part in parts:
            for start in range(0, len(part), BLOCK):
                block = bytes(part[start : start + BLOCK])
                self.bytes += len(block)
                self._sha256.update(block)
                self._crc32c = google_crc32c.extend(self._crc32c, block)
                yield block

    def taken(self) -> dict[str, int | str]:
        return {
            "bytes": self.bytes,
            "crc32c": self._crc32c,
            "sha256": self._sha256.hexdigest(),
        }


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            sha.update(piece)
    return sha.hexdigest()
