"""Wavefront OBJ: `v`, `f` and `mtllib` rows; vertices keep the file's order and number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import (
    COPY_AGAIN,
    integers_of_text,
    read_bytes,
    refuse_binary,
)
from pipeline.formats.foreign import foreign, not_this_format
from pipeline.formats.mesh import checked_scan, colours_uint8, fan_triangles
from pipeline.formats.texture import material_images, texture_beside
from pipeline.formats.words import (
    SPACE,
    Words,
    leading_numbers,
    plain_lines,
    word_places,
)
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

ELEMENT = re.compile(
    rb"[ \t]*(?:v[tnp]?|f|l|p|curv2?|surf|parm|trim|hole|scrv|sp)[ \t]", re.IGNORECASE
)
"""A row of numbers, which may go on behind a `\\` at its end; names and paths may end in one."""
VERTEX_SIZES = (3, 4, 6, 7)
"""Words of `v` rows: x y z, then a weight, a colour, or both."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a text: row i is text[starts[i] : starts[i + 1]], its line end included."""

    text: bytes
    starts: Array

    def called(self, key: str) -> Array:
        """(N,) bool: the rows whose first word is the letter `key`, small or capital."""
        letters = np.frombuffer(self.text, np.uint8)
        first = self.starts[:-1]
        second = np.minimum(first + 1, len(letters) - 1)
        return np.asarray((letters[first] | 0x20 == ord(key)) & (letters[second] <= SPACE))

    def block(self, wanted: Array) -> bytes:
        """The wanted rows one after another."""
        edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
        runs = self.starts[edges].reshape(-1, 2).tolist()
        return b"".join([self.text[start:end] for start, end in runs])


def read_obj(path: Path) -> RawScan:
    """The positions and triangles of an OBJ file; texture seams do not split vertices.

    Raises FormatError for a damaged file and for one without faces: OBJ states no counts, so that
    a file cut off before its faces looks like a point cloud.
    """
    data = read_bytes(path)
    refuse_binary(path, data)
    rows = text_rows(data)
    vertices, colours, left_out = vertex_rows(path, rows)
    faces, sizes = face_rows(path, rows)
    triangles, n_short = fan_triangles(faces, sizes)
    if not len(vertices) and foreign(data):
        raise not_this_format(path, data, "holds no vertices")
    if len(vertices) and not len(sizes):
        fault = f"{len(vertices)} vertices but no faces: cut off, or a point cloud"
        remedy = COPY_AGAIN + ", or save a point cloud as PLY"
        raise FormatError(path, fault, remedy, Code.NO_SURFACE)
    left_out |= {"faces_degenerate": n_short} if n_short else {}
    scan = checked_scan(path, vertices, triangles, colours, texture(path, rows), left_out)
    if not data.endswith((b"\n", b"\r")):
        refuse_cut_off(path, scan, ends_short=sizes[-1:].tolist() < [3])
    return scan


def text_rows(data: bytes) -> Rows:
    """The file's rows, without the white space before them; continued rows are one."""
    text = plain_lines(data.removeprefix(b"\xef\xbb\xbf")) + b"\n"
    if b"\\\n" in text:
        text = joined_rows(text)
    text = re.sub(rb"\n[ \t\v\f]+", b"\n", text)
    return Rows(text, np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1)


def joined_rows(text: bytes) -> bytes:
    """The text with each row of numbers that ends in a backslash joined to the next."""
    parts, at, following = list[bytes](), 0, -1
    for match in re.finditer(rb"\\\n", text):
        row = text.rfind(b"\n", 0, match.start()) + 1
        if row == following or ELEMENT.match(text, row):
            parts.append(text[at : match.start()])
            at = following = match.end()
    return b" ".join([*parts, text[at:]])


def split_words(block: bytes) -> Words:
    """The words of rows that all start with a key of one letter, which is left out."""
    letters = np.frombuffer(bytearray(block), np.uint8)
    row_ends = np.flatnonzero(letters == ord("\n"))
    letters[np.append(0, row_ends + 1)[:-1]] = SPACE
    return Words(letters, *word_places(letters, row_ends))


def vertex_rows(path: Path, rows: Rows) -> tuple[Array, Array | None, dict[str, int]]:
    """(V,3) positions, (V,3) colours if every row is `v x y z r g b`, and what is left out."""
    found = split_words(rows.block(rows.called("v")))
    coloured = len(found.sizes) > 0 and bool((found.sizes == 6).all())
    values, n_longer = leading_numbers(path, found, 6 if coloured else 3, "vertices")
    n_odd = 0
    if n_longer:
        n_odd = int(np.count_nonzero(~np.isin(found.sizes, VERTEX_SIZES)))
    colours = colours_uint8(values[:, 3:]) if coloured else None
    return values[:, :3], colours, {"rows_trailing_values": n_odd} if n_odd else {}


def face_rows(path: Path, rows: Rows) -> tuple[Array, Array]:
    """The polygons' corners counted from 0 one after another, and (N,) how many each has.

    Rows `f a/b/c …` count from 1, or backwards from the last vertex above them.
    """
    is_face = rows.called("f")
    words = split_words(rows.block(is_face))
    corners = integers_of_text(path, before_slashes(path, words), "faces")
    if (corners == 0).any():
        raise FormatError(path, "a face names vertex 0, but OBJ counts from 1", COPY_AGAIN)
    if (corners < 0).any():
        # -1 is the last vertex above the face's own row, not the last of the file
        above = np.cumsum(rows.called("v"))[is_face]
        corners = np.where(corners < 0, corners + 1 + np.repeat(above, words.sizes), corners)
    return corners - 1, words.sizes


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
    keys = (rb"\nmtllib", rb"\nMTLLIB")  # faster than to ignore case
    named = [name for key in keys for name in re.findall(key + rb"[ \t]+([^\n]*)", rows.text)]
    libraries = [name.decode("utf-8", errors="replace") for name in named]
    return texture_beside(path, material_images(path, libraries))


def refuse_cut_off(path: Path, scan: RawScan, *, ends_short: bool) -> None:
    """Refuse a file that ends inside a row, in a face of too few corners or with loose vertices.

    Each alone is harmless; together they are how a file cut off among its faces looks. One that is
    cut off exactly between two face rows cannot be told from a whole one.
    """
    loose = np.count_nonzero(np.bincount(scan.faces.ravel(), minlength=len(scan.vertices)) == 0)
    if ends_short or loose > 0.01 * len(scan.vertices):
        fault = (
            f"cut off: it ends without a newline and {loose} of {len(scan.vertices)} vertices"
            " belong to no face"
        )
        raise FormatError(path, fault, COPY_AGAIN + "; if it is whole, end it with a newline")
