"""Bare template meshes: vertices and triangles of an `.obj` or `.ply`, in the file's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import ModelError
from pipeline.types import Array


def read_template(path: Path) -> tuple[Array, Array]:
    """Vertices (V,3) float64 in the file's unit and triangles (F,3) int64; polygons become fans.

    Raises ModelError for a file that holds no mesh.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        vertices, polygons = _obj(lines)
    except (ValueError, IndexError) as fault:
        raise ModelError(f"{path}: not a readable .obj mesh ({fault})") from fault
    triangles = [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]
    if not vertices or not triangles:
        raise ModelError(
            f"{path}: {len(vertices)} vertices and {len(triangles)} triangles, expected a mesh"
        )
    return np.array(vertices, dtype=np.float64), np.array(triangles, dtype=np.int64)


def _obj(lines: list[str]) -> tuple[list[list[float]], list[list[int]]]:
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    for line in lines:
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(word) for word in words[1:4]])
        elif words[:1] == ["f"]:
            corners = [int(word.split("/")[0]) for word in words[1:]]
            # 1-based; negative counts back from the last vertex so far
            polygons.append([c - 1 if c > 0 else len(vertices) + c for c in corners])
    return vertices, polygons
