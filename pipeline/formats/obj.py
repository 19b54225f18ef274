"""Wavefront OBJ: `v`, `f` and `mtllib` rows; vertices keep the file's order and number."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats_of_text, integers_of_text, read_bytes
from pipeline.formats.mesh import checked_scan, colours_uint8, fan_triangles
from pipeline.formats.texture import material_images, texture_beside
from pipeline.types import Array, RawScan

SPACE = ord(" ")
"""Whatever is not above it parts words."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a text: row i is text[starts[i] : starts[i + 1]], its line end included."""

    text: bytes
    starts: Array

    def called(self, key: str) -> Array:
        """(N,) bool: the rows whose first word is the letter `key`."""
        letters = np.frombuffer(self.text, np.uint8)
        first = self.starts[:-1]
        second = np.minimum(first + 1, len(letters) - 1)
        return (letters[first] == ord(key)) & (letters[second] <= SPACE)

    def block(self, wanted: Array) -> bytes:
        """The wanted rows one after another."""
        edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
        runs = self.starts[edges].reshape(-1, 2).tolist()
        return b"".join([self.text[start:end] for start, end in runs])


@dataclass(frozen=True, eq=False)
class Words:
    """What follows the keys of a block of rows: word i is letters[starts[i] : ends[i]]."""

    letters: Array
    starts: Array
    ends: Array
    sizes: Array
    """(N,) words in each row."""


def read_obj(path: Path) -> RawScan:
    """The positions and triangles of an OBJ file; texture seams do not split vertices.

    Raises FormatError for a damaged file and for one without faces: OBJ states no counts, so that
    a file cut off before its faces looks like a point cloud.
    """
    data = read_bytes(path)
    if 0 in data:
        fault = f"not a text file: byte {data.index(0)} is zero"
        raise FormatError(path, fault, "check that it is an OBJ file")
    rows = text_rows(data)
    vertices, colours = vertex_rows(path, rows)
    faces = face_rows(path, rows)
    if len(vertices) and not len(faces):
        fault = f"{len(vertices)} vertices but no faces: cut off, or a point cloud"
        raise FormatError(path, fault, COPY_AGAIN + ", or save a point cloud as PLY")
    scan = checked_scan(path, vertices, faces, colours, texture(path, rows))
    refuse_cut_off(path, data, scan)
    return scan


def text_rows(data: bytes) -> Rows:
    """The file's rows, without the white space before them; continued rows are one."""
    text = b"\n" + data.removeprefix(codecs.BOM_UTF8) + b"\n"
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\\" in text:
        text = text.replace(b"\\\n", b" ")
    text = re.sub(rb"\n[ \t\v\f]+", b"\n", text)
    return Rows(text, np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1)


def split_words(block: bytes) -> Words:
    """The words of rows that all start with a key of one letter, which is left out."""
    letters = np.frombuffer(bytearray(block), np.uint8)
    row_ends = np.flatnonzero(letters == ord("\n"))
    letters[np.append(0, row_ends + 1)[:-1]] = SPACE
    edges = np.flatnonzero(np.diff(letters <= SPACE, prepend=True, append=True))
    starts, ends = edges[::2], edges[1::2]
    return Words(letters, starts, ends, np.diff(np.searchsorted(starts, row_ends), prepend=0))


def vertex_rows(path: Path, rows: Rows) -> tuple[Array, Array | None]:
    """(V,3) positions, and (V,3) colours where every row is `v x y z r g b`."""
    found = split_words(rows.block(rows.called("v")))
    sizes = found.sizes
    short = np.flatnonzero(sizes < 3)
    if short.size:
        fault = f"vertex {short[0]} has {sizes[short[0]]} coordinates, expected 3"
        raise FormatError(path, fault, COPY_AGAIN)
    coloured = len(sizes) > 0 and bool((sizes == 6).all())
    n = 6 if coloured else 3
    text = found.letters.tobytes()
    if (sizes != n).any():
        wanted = (np.cumsum(sizes) - sizes)[:, None] + np.arange(n)
        places = np.stack([found.starts[wanted], found.ends[wanted]], axis=-1)
        text = b" ".join([text[a:b] for a, b in places.reshape(-1, 2).tolist()])
    values = floats_of_text(path, text, "vertices").reshape(-1, n)
    return values[:, :3], colours_uint8(values[:, 3:]) if coloured else None


def face_rows(path: Path, rows: Rows) -> Array:
    """(F,3) triangles counted from 0, of rows `f a/b/c …` that count from 1, or from the end."""
    is_face = rows.called("f")
    words = split_words(rows.block(is_face))
    corners = integers_of_text(path, before_slashes(path, words), "faces")
    if (corners == 0).any():
        raise FormatError(path, "a face names vertex 0, but OBJ counts from 1", COPY_AGAIN)
    if (corners < 0).any():
        # -1 is the last vertex above the face's own row, not the last of the file
        above = np.cumsum(rows.called("v"))[is_face]
        corners = np.where(corners < 0, corners + 1 + np.repeat(above, words.sizes), corners)
    return fan_triangles(path, corners - 1, words.sizes)


def before_slashes(path: Path, words: Words) -> bytes:
    """The words, each cut off at its first `/`."""
    slashes = np.flatnonzero(words.letters == ord("/"))
    if not slashes.size:
        return words.letters.tobytes()
    following = np.append(slashes, len(words.letters))[np.searchsorted(slashes, words.starts)]
    if (following == words.starts).any():
        raise FormatError(path, "a corner of a face starts with '/'", COPY_AGAIN)
    change = np.zeros(len(words.letters) + 1, np.int8)
    change[np.minimum(following, words.ends)] += 1
    change[words.ends] -= 1
    kept = np.cumsum(change[:-1], dtype=np.int8) == 0
    return np.where(kept, words.letters, np.uint8(SPACE)).tobytes()


def texture(path: Path, rows: Rows) -> Path | None:
    """The texture image, where a material library or the scan's own name leads to one."""
    named = re.findall(rb"\nmtllib[ \t]+([^\n]*)", rows.text)
    libraries = [name.decode("utf-8", errors="replace") for name in named]
    return texture_beside(path, material_images(path, libraries))


def refuse_cut_off(path: Path, data: bytes, scan: RawScan) -> None:
    """Refuse a file that ends inside a row and leaves vertices without a face.

    Each alone is harmless; together they are how a file cut off among its faces looks. One that is
    cut off exactly between two face rows cannot be told from a whole one.
    """
    if data.endswith((b"\n", b"\r")):
        return
    loose = np.count_nonzero(np.bincount(scan.faces.ravel(), minlength=len(scan.vertices)) == 0)
    if loose > 0.01 * len(scan.vertices):
        fault = (
            f"cut off: it ends without a newline and {loose} of {len(scan.vertices)} vertices"
            " belong to no face"
        )
        raise FormatError(path, fault, COPY_AGAIN + "; if it is whole, end it with a newline")
