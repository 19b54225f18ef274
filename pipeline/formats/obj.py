"""Wavefront OBJ: `v`, `f` and `mtllib` rows; vertices keep the file's order and number."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
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
from pipeline.formats.texture import main_image, material_images
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
        """(N,) bool: the rows whose first word is `key`, in small or capital letters."""
        letters = np.frombuffer(self.text, np.uint8)
        first, last = self.starts[:-1], len(letters) - 1
        found = letters[np.minimum(first + len(key), last)] <= SPACE
        for i, letter in enumerate(key.encode()):
            found &= letters[np.minimum(first + i, last)] | 0x20 == letter
        return np.asarray(found)

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
    words = split_words(rows.block(rows.called("f")))
    sizes = words.sizes
    corners, uv_corners = corner_numbers(path, words)
    if (corners == 0).any():
        raise FormatError(path, "a face names vertex 0, but OBJ counts from 1", COPY_AGAIN)
    triangles, n_short = fan_triangles(from_zero(rows, sizes, corners, "v"), sizes)
    if not len(vertices) and foreign(data):
        raise not_this_format(path, data, "holds no vertices")
    if len(vertices) and not len(sizes):
        fault = f"{len(vertices)} vertices but no faces: cut off, or a point cloud"
        remedy = COPY_AGAIN + ", or save a point cloud as PLY"
        raise FormatError(path, fault, remedy, Code.NO_SURFACE)
    left_out |= {"faces_degenerate": n_short} if n_short else {}
    image, uv, unpainted = textured(path, rows, sizes, uv_corners)
    left_out |= unpainted
    scan = checked_scan(path, vertices, triangles, colours, image, left_out, uv)
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


def split_words(block: bytes, key_length: int = 1) -> Words:
    """The words of rows that all start with a key of so many letters, which is left out."""
    letters = np.frombuffer(bytearray(block), np.uint8)
    row_ends = np.flatnonzero(letters == ord("\n"))
    for i in range(key_length):
        letters[np.append(0, row_ends + 1)[:-1] + i] = SPACE
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


def corner_numbers(path: Path, words: Words) -> tuple[Array, Array]:
    """(C,) vertices and (C,) texture coordinates that the polygons' corners name, one after
    another, as `v`, `v/vt`, `v//vn` or `v/vt/vn`; 0 for no texture coordinate."""
    slashes = np.flatnonzero(words.letters == ord("/"))
    n_corners = len(words.starts)
    if not slashes.size:
        text = words.letters.tobytes()
        return integers_of_text(path, text, "faces"), np.zeros(n_corners, np.int64)
    n_parts = slashes.size / n_corners + 1
    if n_parts in (2, 3):  # likely all corners are alike, and can be read at once
        ends = (words.starts - 1, *slashes.reshape(n_corners, -1).T, words.ends)
        if all((b - a > 1).all() for a, b in pairwise(ends)):
            with suppress(FormatError):  # maybe only of what is behind a slash
                text = words.letters.tobytes().replace(b"/", b" ")
                numbers = integers_of_text(path, text, "faces").reshape(n_corners, -1)
                return numbers[:, 0], numbers[:, 1]
    return corners_of_any_form(path, words, slashes)


def corners_of_any_form(path: Path, words: Words, slashes: Array) -> tuple[Array, Array]:
    """The same of words with slashes at these places. A texture coordinate that is no number is
    as good as none: the surface is whole without."""
    ends = np.append(slashes, np.full(2, len(words.letters)))
    first = np.searchsorted(slashes, words.starts)
    if (ends[first] == words.starts).any():
        raise FormatError(path, "a corner of a face starts with '/'", COPY_AGAIN)
    text = words.spans(words.starts, np.minimum(ends[first], words.ends))
    vertices = integers_of_text(path, text, "faces")
    start, end = ends[first] + 1, np.minimum(ends[first + 1], words.ends)
    known = start < end
    textures = np.zeros(len(start), np.int64)
    with suppress(FormatError):
        textures[known] = integers_of_text(path, words.spans(start[known], end[known]), "faces")
    return vertices, textures


def from_zero(rows: Rows, sizes: Array, corners: Array, key: str) -> Array:
    """What the corners of faces of these sizes name of the rows called `key`, counted from 0.

    OBJ counts from 1, or backwards from the last such row above the face's own.
    """
    if (corners < 0).any():
        above = np.cumsum(rows.called(key))[rows.called("f")]
        corners = np.where(corners < 0, corners + 1 + np.repeat(above, sizes), corners)
    return corners - 1


def textured(
    path: Path, rows: Rows, sizes: Array, corners: Array
) -> tuple[Path | None, Array | None, dict[str, int]]:
    """The texture image, where a material library or the scan's own name leads to one; (F,3,2)
    texture coordinates of the triangles that it paints, if any; and what is left out of them."""
    keys = (rb"\nmtllib", rb"\nMTLLIB")  # faster than to ignore case
    named = [name for key in keys for name in re.findall(key + rb"[ \t]+([^\n]*)", rows.text)]
    images = material_images(path, [name.decode("utf-8", errors="replace") for name in named])
    try:
        uv = corner_uv(path, rows, sizes, corners)
    except FormatError:  # the surface is whole without
        return main_image(path, images, {})[0], None, {"texture_coordinates_unreadable": 1}
    if uv is None:
        return main_image(path, images, {})[0], None, {}
    materials, number = used_materials(rows)
    n_triangles = np.bincount(number, np.maximum(sizes - 2, 0), len(materials))
    used = Counter[str]()
    for material, n in zip(materials, n_triangles.astype(int).tolist(), strict=True):
        used[material] += n
    image, others = main_image(path, images, used)
    unpainted = np.isin(number, [i for i, name in enumerate(materials) if name in others])
    uv[np.repeat(unpainted, sizes)] = np.nan
    n_others = sum(used[name] for name in others)
    left_out = {"triangles_of_other_images": n_others} if n_others else {}
    return image, fan_triangles(uv, sizes)[0], left_out


def corner_uv(path: Path, rows: Rows, sizes: Array, corners: Array) -> Array | None:
    """(C,2) float32 texture coordinates of the faces' corners, NaN where a corner names none;
    None if the file has none."""
    is_uv = rows.called("vt")
    if not is_uv.any() or not corners.any():
        return None
    values, _ = leading_numbers(path, split_words(rows.block(is_uv), 2), 2, "vt")
    corners = from_zero(rows, sizes, corners, "vt")
    # the last row of the table stands for what is not there
    with np.errstate(over="ignore", invalid="ignore"):
        table = np.concatenate([values, np.full((1, 2), np.nan)]).astype(np.float32)
    return table[np.where((corners >= 0) & (corners < len(values)), corners, len(values))]


def used_materials(rows: Rows) -> tuple[list[str], Array]:
    """The materials in the order in which `usemtl` rows name them, "" for none before the first;
    and (N,) which of them each face row has."""
    found = [*re.finditer(rb"\n(?:usemtl|USEMTL)[ \t]+([^\n]*)", rows.text)]
    names = ["", *(match[1].decode("utf-8", errors="replace").strip() for match in found)]
    changes = np.array([match.start() for match in found], np.int64)
    return names, np.searchsorted(changes, rows.starts[:-1][rows.called("f")])


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
