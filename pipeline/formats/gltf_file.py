"""A glTF's document and bytes: the two containers, buffers inside and beside, typed values."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import numpy as np
from pydantic import ValidationError

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, decoded, read_bytes
from pipeline.formats.foreign import not_this_format
from pipeline.formats.gltf_schema import Accessor, Document
from pipeline.formats.mesh import bytes_after
from pipeline.formats.texture import beside
from pipeline.refusals import Code
from pipeline.types import Array

JSON_CHUNK, BINARY_CHUNK = b"JSON", b"BIN\0"
NUMBERS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
EXPORT_AGAIN = "export it again without it, or as OBJ or PLY"

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class File:
    """A document with its buffers' bytes."""

    path: Path
    document: Document
    buffers: list[bytes]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def item(self, items: Sequence[Item], index: int, what: str) -> Item:
        """One of the document's lists. Raises FormatError for an index beyond its end."""
        if index >= len(items):
            fault = f"{what} {index}, but there are {len(items)}"
            raise FormatError(self.path, fault, COPY_AGAIN)
        return items[index]

    def accessor(self, index: int) -> Accessor:
        return self.item(self.document.accessors, index, "accessor")

    def view(self, index: int) -> memoryview:
        """The bytes of a buffer view."""
        view = self.item(self.document.bufferViews, index, "buffer view")
        end = view.byteOffset + view.byteLength
        data = memoryview(self.item(self.buffers, view.buffer, "buffer"))
        if end > len(data):
            fault = f"buffer view {index} ends at byte {end} of {len(data)}"
            raise FormatError(self.path, fault, COPY_AGAIN)
        return data[view.byteOffset : end]

    def values(self, index: int, types: tuple[str, ...]) -> Array:
        """(count, components) of an accessor; integers that stand for fractions as fractions."""
        accessor = self.accessor(index)
        if accessor.type not in types or accessor.sparse is not None:
            kind = "sparse values" if accessor.sparse is not None else f"type {accessor.type!r}"
            fault = f"accessor {index} has {kind}, expected {' or '.join(types)}"
            raise FormatError(self.path, fault, EXPORT_AGAIN, Code.UNSUPPORTED)
        if accessor.bufferView is None:
            fault = f"accessor {index} has no data"
            remedy = "export it again without compression"
            raise FormatError(self.path, fault, remedy, Code.UNSUPPORTED)
        return fractions(self.strided(index, accessor, accessor.bufferView), accessor.normalized)

    def strided(self, index: int, accessor: Accessor, view: int) -> Array:
        """(count, components) as stored."""
        data, dtype = self.view(view), np.dtype(NUMBERS[accessor.componentType])
        n = COMPONENTS[accessor.type]
        stride = self.document.bufferViews[view].byteStride or n * dtype.itemsize
        end = accessor.byteOffset + stride * (accessor.count - 1) + n * dtype.itemsize
        if end > len(data):
            fault = f"accessor {index} of {accessor.count} values ends at byte {end} of {len(data)}"
            raise FormatError(self.path, fault, "the file is cut off or damaged: " + COPY_AGAIN)
        strides = (stride, dtype.itemsize)
        return np.ndarray((accessor.count, n), dtype, data, accessor.byteOffset, strides)


def fractions(values: Array, normalized: bool) -> Array:
    """Normalised integers as fractions of the type's largest (section 3.6.2.2)."""
    if not normalized or values.dtype.kind == "f":
        return values
    return np.maximum(values / float(np.iinfo(values.dtype).max), -1.0)


def gltf_file(path: Path) -> File:
    """A `.gltf`: JSON, its buffers in base64 or in files."""
    return with_buffers(path, read_bytes(path), None)


def glb_file(path: Path) -> File:
    """A `.glb`: JSON and the first buffer in one file."""
    data = read_bytes(path)
    if not data.startswith(b"glTF"):
        raise not_this_format(path, data, f"starts with {data[:4]!r}, expected b'glTF'")
    length = int.from_bytes(data[8:12], "little")
    left_out = bytes_after(path, data, length)
    return replace(with_buffers(path, *chunks(path, data[:length])), left_out=left_out)


def with_buffers(path: Path, content: bytes, binary: bytes | None) -> File:
    """The document of the JSON `content`, and its buffers; `binary` is the first without a name."""
    try:
        document = Document.model_validate(json.loads(decoded(path, content)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise FormatError(path, f"{place}: {first['msg']}", COPY_AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise not_this_format(
            path, content, f"not the JSON of a glTF: {error}", COPY_AGAIN
        ) from error
    if not document.asset.version.startswith("2."):
        fault = f"glTF {document.asset.version[:10]}, expected 2.0"
        raise FormatError(path, fault, "convert it to glTF 2.0", Code.UNSUPPORTED)
    buffers = []
    for i, buffer in enumerate(document.buffers):
        if buffer.uri is None and (i > 0 or binary is None):
            raise FormatError(path, f"buffer {i} has no data", COPY_AGAIN)
        held = binary or b"" if buffer.uri is None else linked(path, buffer.uri)
        if len(held) < buffer.byteLength:
            fault = f"buffer {i} has {len(held)} bytes, expected {buffer.byteLength}"
            raise FormatError(path, fault, "the file is cut off: " + COPY_AGAIN)
        buffers.append(held)
    return File(path, document, buffers)


def chunks(path: Path, data: bytes) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a `.glb` (section 4.4)."""
    version, length = (int.from_bytes(data[at : at + 4], "little") for at in (4, 8))
    if version != 2 or length != len(data):
        fault = f"{len(data)} bytes, version {version}, expected {length} bytes of version 2"
        raise FormatError(path, fault, "the file is cut off or damaged: " + COPY_AGAIN)
    found: dict[bytes, bytes] = {}
    at = 12
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data):
            fault = f"a chunk ends at byte {end} of {len(data)}"
            raise FormatError(path, fault, "the file is damaged: " + COPY_AGAIN)
        found.setdefault(data[at + 4 : at + 8], data[at + 8 : end])
        at = end
    if JSON_CHUNK not in found:
        raise FormatError(path, "no JSON chunk", COPY_AGAIN)
    return found[JSON_CHUNK], found.get(BINARY_CHUNK)


def linked(path: Path, uri: str) -> bytes:
    """The bytes of a buffer's URI: base64 in place, or a file in the scan's own folder."""
    if uri.startswith("data:"):
        try:
            return base64.b64decode(uri.partition(";base64,")[2], validate=True)
        except (binascii.Error, ValueError) as error:
            raise FormatError(path, f"a buffer's base64: {error}", COPY_AGAIN) from error
    file = beside(path, unquote(uri))
    if file is None:
        fault = f"no buffer {unquote(uri)[:60]!r} in its folder"
        remedy = "put it beside the scan, or save one .glb"
        raise FormatError(path, fault, remedy, Code.COMPANION)
    return read_bytes(file)
