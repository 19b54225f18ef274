"""FaceWarehouse's `shape.bs`: a subject's neutral face and blendshapes on one topology.

Little-endian: int32 n, V and a number not to be trusted, then (n + 1, V, 3) float32, the neutral
face first. The faces are those of `shape_0.obj` in the same folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import FormatError
from pipeline.formats.content import COPY_AGAIN, read_bytes
from pipeline.formats.foreign import foreign, not_this_format
from pipeline.formats.mesh import bytes_after, checked_scan
from pipeline.formats.obj import read_obj
from pipeline.formats.texture import beside
from pipeline.refusals import Code
from pipeline.types import RawScan

HEAD = 12


def read_bs(path: Path, *, shape: int = 0) -> RawScan:
    """The mesh number `shape`, from 0 (neutral) to n.

    Raises FormatError for a file whose length is not what its header announces, a shape it does
    not have, and where `shape_0.obj` is missing or of another topology.
    """
    data = read_bytes(path)
    n, n_vertices = np.frombuffer(data[:8].ljust(8, b"\0"), "<i4").tolist()
    size = 12 * n_vertices
    if n < 0 or n_vertices < 1 or len(data) < HEAD + (n + 1) * size:
        fault = f"{len(data)} bytes, but the header announces {n} + 1 shapes of {n_vertices} points"
        if foreign(data):
            raise not_this_format(path, data, fault)
        raise FormatError(path, fault, "the file is cut off or no shape.bs: " + COPY_AGAIN)
    left_out = bytes_after(path, data, HEAD + (n + 1) * size)
    if not 0 <= shape <= n:
        raise FormatError(
            path, f"shape {shape}, expected 0 … {n}", "name another shape", Code.UNSUPPORTED
        )
    neutral = beside(path, "shape_0.obj")
    if neutral is None:
        fault, remedy = "no shape_0.obj in its folder", "put it there, it has the faces"
        raise FormatError(path, fault, remedy, Code.COMPANION)
    topology = read_obj(neutral)
    if len(topology.vertices) != n_vertices:
        fault = f"{n_vertices} points, but shape_0.obj has {len(topology.vertices)} vertices"
        raise FormatError(
            path, fault, "put the subject's own shape_0.obj beside it", Code.COMPANION
        )
    vertices = np.frombuffer(data, "<f4", 3 * n_vertices, HEAD + shape * size).reshape(-1, 3)
    left_out |= topology.left_out
    return checked_scan(path, vertices, topology.faces, left_out=left_out)
