"""Small ONNX networks, encoded by hand: protocol buffers as onnx.proto of ONNX 1.17 has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.types import Array

FLOAT, INT64 = 1, 7


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, array: Array) -> bytes:
    kind = INT64 if array.dtype == np.int64 else FLOAT
    dims = b"".join(field(1, n) for n in array.shape)
    return dims + field(2, kind) + field(8, name) + field(9, array.tobytes())


def ints(name: str, values: list[int]) -> bytes:
    return field(1, name) + b"".join(field(8, v) for v in values) + field(20, 7)


def node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    named = b"".join(field(1, name) for name in inputs)
    return named + field(2, output) + field(4, kind) + b"".join(field(5, a) for a in attributes)


def value(name: str, shape: list[int | str], kind: int = FLOAT) -> bytes:
    dims = b"".join(field(1, field(1, n) if isinstance(n, int) else field(2, n)) for n in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def write_network(
    path: Path,
    weights: Array,
    input_shape: list[int | str] | None = None,
    output_shape: list[int | str] | None = None,
    kind: int = FLOAT,
) -> Path:
    """Means over quarters of the picture (N,3,112,112), 12 numbers, times `weights` (12,D).

    An input with channels last is transposed first.
    """
    shape = input_shape or ["N", 3, 112, 112]
    last = shape[-1] == 3
    nodes = [node("Transpose", ["x"], "first", ints("perm", [0, 3, 1, 2]))] if last else []
    nodes += [
        node(
            "AveragePool",
            ["first" if last else "x"],
            "means",
            ints("kernel_shape", [56, 56]),
            ints("strides", [56, 56]),
        ),
        node("Flatten", ["means"], "flat"),
        node("MatMul", ["flat", "w"], "y"),
    ]
    graph = b"".join(field(1, n) for n in nodes)
    graph += field(2, "tiny") + field(5, tensor("w", weights.astype(np.float32)))
    graph += field(11, value("x", shape, kind))
    graph += field(12, value("y", output_shape or ["N", weights.shape[1]]))
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 13)))
    return path
