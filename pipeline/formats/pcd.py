"""Point Cloud Library's PCD: ASCII, binary, and binary compressed by LZF.

A cloud of HEIGHT > 1 is a range image, row by row from the top, of a camera that looks along z;
its pixels without a reading are NaN.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, floats, floats_of_text, read_bytes
from pipeline.formats.foreign import not_this_format
from pipeline.formats.grid import grid_scan, refuse_size
from pipeline.formats.mesh import bytes_after, checked_scan
from pipeline.formats.words import leading_numbers, plain_lines, rows_after, rows_of
from pipeline.refusals import Code
from pipeline.types import Array, RawScan

TYPES = ("F4", "F8", "I1", "I2", "I4", "I8", "U1", "U2", "U4", "U8")
COLOURS = ("rgb", "rgba")
HEADER_LINE = re.compile(rb"\s*(#.*PCD|VERSION|FIELDS)", re.IGNORECASE)
Left = dict[str, int]
NO_FACES = np.empty((0, 3), np.int64)


@dataclass(frozen=True)
class Field:
    name: str
    dtype: np.dtype
    count: int

    @property
    def size(self) -> int:
        return self.dtype.itemsize * self.count


@dataclass(frozen=True)
class Header:
    fields: list[Field]
    width: int
    height: int
    viewpoint_z: float
    encoding: str

    @property
    def points(self) -> int:
        return self.width * self.height

    @property
    def point_size(self) -> int:
        return sum(field.size for field in self.fields)


def read_pcd(path: Path) -> RawScan:
    """A point cloud (F = 0), or an organised one as `grid_scan` joins it, facing the viewpoint.

    Colours are those of a field `rgb` or `rgba`. Raises FormatError for a damaged header and for
    less data than it announces, or much more.
    """
    header, body = parse_header(path, read_bytes(path))
    columns, left_out = DECODERS[header.encoding](path, header, body)
    points = np.stack([columns[name] for name in "xyz"], axis=-1)
    colours = next((unpacked(columns[name]) for name in COLOURS if name in columns), None)
    if header.height == 1:
        return checked_scan(path, points, NO_FACES, colours, None, left_out)
    refuse_size(path, header.height, header.width)
    shape = (header.height, header.width, 3)
    valid = np.isfinite(points).all(axis=1)
    before = np.count_nonzero(points[valid, 2].astype(np.float64) <= header.viewpoint_z)
    side = 1.0 if 2 * before >= np.count_nonzero(valid) else -1.0
    shades = None if colours is None else colours.reshape(shape)
    scan = grid_scan(
        path, points.reshape(shape), valid.reshape(shape[:2]), shades, camera_side=side
    )
    return replace(scan, left_out={**scan.left_out, **left_out})


def parse_header(path: Path, data: bytes) -> tuple[Header, bytes]:
    """The header, and what follows its line DATA."""
    rows: dict[str, list[str]] = {}
    rest = data.removeprefix(b"\xef\xbb\xbf")
    while "DATA" not in rows:
        line, newline, rest = rest.partition(b"\n")
        key, *words = line[:10_000].decode("latin-1").split() or ["#"]
        rows[key.upper()] = words
        if not newline or len(rows) > 20:
            fault = "the header has no line DATA"
            if HEADER_LINE.match(data):
                raise FormatError(path, fault, COPY_AGAIN)
            raise not_this_format(path, data, fault, "check that it is a PCD file")
    width, height = whole(path, rows, "WIDTH"), whole(path, rows, "HEIGHT")
    if "POINTS" in rows and whole(path, rows, "POINTS") != width * height:
        fault = f"{rows['POINTS'][0]} points, expected width {width} · height {height}"
        raise FormatError(path, fault, "the header is damaged: " + COPY_AGAIN)
    viewpoint = floats(path, rows.get("VIEWPOINT", ["0"] * 7), "VIEWPOINT")
    encoding = " ".join(rows["DATA"]).lower()
    if len(viewpoint) != 7 or encoding not in DECODERS:
        fault = f"VIEWPOINT of {len(viewpoint)} values, DATA {encoding!r}"
        raise FormatError(path, fault, f"expected 7, and one of {', '.join(DECODERS)}")
    return Header(parse_fields(path, rows), width, height, float(viewpoint[2]), encoding), rest


def parse_fields(path: Path, rows: dict[str, list[str]]) -> list[Field]:
    """The fields of one point, in file order."""
    names, sizes, kinds = (rows.get(key, []) for key in ("FIELDS", "SIZE", "TYPE"))
    names, kinds = [name.lower() for name in names], [kind.upper() for kind in kinds]
    counts = rows.get("COUNT", ["1"] * len(names))
    if not len(names) == len(sizes) == len(kinds) == len(counts):
        raise FormatError(path, "FIELDS, SIZE, TYPE and COUNT differ in length", COPY_AGAIN)
    if not {"x", "y", "z"} <= set(names):
        raise FormatError(path, f"fields {' '.join(names)}, expected x, y and z", COPY_AGAIN)
    fields = []
    for name, size, kind, count in zip(names, sizes, kinds, counts, strict=True):
        if kind + size not in TYPES or not re.fullmatch(r"[1-9]\d{0,5}", count):
            fault = f"field {name} is of type {kind}{size}, count {count}"
            remedy = f"expected one of {', '.join(TYPES)} and a count"
            raise FormatError(path, fault, remedy, Code.UNSUPPORTED)
        fields.append(Field(name, np.dtype(f"<{kind.lower()}{size}"), int(count)))
    return fields


def whole(path: Path, rows: dict[str, list[str]], key: str) -> int:
    """The one whole number of the row `key`."""
    match rows.get(key):
        case [word] if re.fullmatch(r"\d{1,9}", word):
            return int(word)
    raise FormatError(path, f"{key} is {rows.get(key)}, expected a whole number", COPY_AGAIN)


def ascii_values(path: Path, header: Header, body: bytes) -> tuple[Array, Left]:
    """(N,k) of N rows, their leading values; or of fewer lines that hold N · k values in all."""
    per_point = sum(field.count for field in header.fields)
    rows = rows_of(plain_lines(body))
    if len(rows.sizes) >= header.points:
        left_out = rows_after(path, len(rows.sizes), header.points)
        points = rows.rows(0, header.points)
        values, n_trailing = leading_numbers(path, points, per_point, "data")
        return values, left_out | ({"rows_trailing_values": n_trailing} if n_trailing else {})
    values = floats_of_text(path, rows.letters.tobytes(), "data")
    if len(values) != header.points * per_point:
        fault = f"{len(values)} values, expected {header.points} points · {per_point}"
        raise FormatError(path, fault, "the file is cut off or damaged: " + COPY_AGAIN)
    return values.reshape(header.points, per_point), {}


def ascii_columns(path: Path, header: Header, body: bytes) -> tuple[dict[str, Array], Left]:
    """First value of each field by name, (N,), and what is left out."""
    values, left_out = ascii_values(path, header, body)
    found: dict[str, Array] = {}
    start = 0
    for field in header.fields:
        column = values[:, start]
        # a packed colour is a number's bits: an integer, or the float of the same bits
        packed = field.name in COLOURS and field.dtype.kind == "f"
        found.setdefault(field.name, column.astype("<f4") if packed else column)
        start += field.count
    return found, left_out


def binary_columns(path: Path, header: Header, body: bytes) -> tuple[dict[str, Array], Left]:
    """As `ascii_columns`, of values point by point."""
    refuse_short(path, len(body), header)
    found: dict[str, Array] = {}
    start, n, stride = 0, header.points, header.point_size
    for field in header.fields:
        column = np.ndarray((n,), field.dtype, body, start, (stride,))
        found.setdefault(field.name, column)
        start += field.size
    return found, bytes_after(path, body, n * stride)


def compressed_columns(path: Path, header: Header, body: bytes) -> tuple[dict[str, Array], Left]:
    """As `ascii_columns`, of values field by field, behind the sizes before and after unpacking."""
    packed_size, size = (int.from_bytes(body[at : at + 4], "little") for at in (0, 4))
    packed = body[8 : 8 + packed_size]
    if len(body) < 8 or len(packed) != packed_size:
        fault = f"{len(packed)} compressed bytes, expected {packed_size}"
        raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN)
    refuse_short(path, size, header)
    data = unpacked_lzf(path, packed, size)
    found: dict[str, Array] = {}
    start = 0
    for field in header.fields:
        values = np.frombuffer(data, field.dtype, header.points * field.count, start)
        found.setdefault(field.name, values[:: field.count])
        start += header.points * field.size
    return found, bytes_after(path, body, 8 + packed_size)


def refuse_short(path: Path, size: int, header: Header) -> None:
    """Refuse less data than the header announces."""
    expected = header.points * header.point_size
    if size < expected:
        fault = f"{size} bytes of data, expected {expected} for {header.points} points"
        raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN)


def unpacked_lzf(path: Path, data: bytes, size: int) -> bytes:
    """The `size` bytes that LZF (Marc Lehmann's liblzf) packed: literal runs and copies."""
    out = bytearray()
    at = 0
    while at < len(data) and len(out) <= size:
        control = data[at]
        at += 1
        if control < 32:
            out += data[at : at + control + 1]
            at += control + 1
            continue
        length, extra = control >> 5, int(control >> 5 == 7)
        if at + extra >= len(data):
            break
        length += 2 + extra * data[at]
        back = ((control & 31) << 8) + data[at + extra] + 1
        at += 1 + extra
        # a copy may run into what it writes itself: then it repeats
        start = len(out) - back
        if start < 0:
            break
        piece = out[start : start + length]
        out += (piece * -(-length // len(piece)))[:length]
    if len(out) != size or at != len(data):
        fault = f"{len(out)} bytes unpacked, expected {size}"
        raise FormatError(path, fault, "the file is damaged: " + COPY_AGAIN)
    return bytes(out)


def unpacked(packed: Array) -> Array:
    """(N,3) uint8 of colours 0xRRGGBB packed in four bytes, (N,) floats or integers."""
    bits = packed.view("<u4") if packed.dtype == "<f4" else packed.astype(np.int64)
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=-1).astype(np.uint8)


DECODERS = {
    "ascii": ascii_columns,
    "binary": binary_columns,
    "binary_compressed": compressed_columns,
}
