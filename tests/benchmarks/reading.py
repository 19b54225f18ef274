"""The scan readers against trimesh and against the disk, all taking turns in one run.

    python tests/benchmarks/reading.py [--quick] [--json]

OBJ: a mesh of 100k triangles, plain and with texture seams, read by facefold and by
`trimesh.load(process=False, maintain_order=True)`; both must give the same vertices and triangles,
and the texture coordinates that trimesh gives without `maintain_order`. Binary PLY, without and
with texture coordinates, and NPZ: facefold against `Path.read_bytes` of the same file, from the
disk (the file is dropped from the page cache before each turn) and from the page cache. The best
of the rounds, as whatever else runs on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from pipeline.formats import read_scan
from pipeline.types import Array

SIDES = {"100k triangles": 225, "2M triangles": 1001}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 21")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="facefold-reading-") as folder:
        rows = run(Path(folder), 3 if arguments.quick else 21)
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'file':36}{'MB':>7}{'facefold ms':>13}{'against':>26}{'ms':>9}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['file']:36}{row['mb']:7.1f}{row['ms']:13.1f}{row['against']:>26}"
            f"{row['against_ms']:9.1f}{row['ratio']:8.2f}"
        )


def run(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """One row a file and opponent."""
    rows = []
    for size, side in SIDES.items():
        vertices, faces = sheet(side)
        if size == "100k triangles":
            for name, write in (("plain", plain_obj), ("texture seams", seamed_obj)):
                path = folder / f"{name}.obj"
                write(path, vertices, faces)
                check_equal(path)
                ours, theirs = by_turns(ours_of(path), trimesh_of(path), rounds)
                rows.append(row(f"OBJ, {name}, {size}", path, ours, "trimesh", theirs))
        for name, writer in (("ply", binary_ply), ("ply, textured", textured_ply), ("npz", npz)):
            path = folder / f"{side}.{name[:3]}"
            writer(path, vertices, faces)
            name = f"{name.replace(name[:3], name[:3].upper())}, {size}"
            reads = (ours_of(path), path.read_bytes)
            ours, theirs = by_turns(*reads, rounds, before=lambda path=path: drop_cache(path))
            rows.append(row(name, path, ours, "disk, read_bytes", theirs))
            ours, theirs = by_turns(*reads, rounds)
            rows.append(row(name, path, ours, "page cache, read_bytes", theirs))
    return rows


def row(
    name: str, path: Path, ours: list[float], other: str, theirs: list[float]
) -> dict[str, Any]:
    return {
        "file": name,
        "mb": path.stat().st_size / 1e6,
        "ms": 1e3 * min(ours),
        "against": other,
        "against_ms": 1e3 * min(theirs),
        "ratio": min(ours) / min(theirs),
    }


def by_turns(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    rounds: int,
    before: Callable[[], None] = lambda: None,
) -> tuple[list[float], list[float]]:
    """Seconds of each round, the order drawn anew in each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    random = np.random.default_rng(0)
    for _ in range(rounds):
        for i in random.permutation(2):
            before()
            start = time.perf_counter()
            (ours, theirs)[i]()
            seconds[i].append(time.perf_counter() - start)
    return seconds


def drop_cache(path: Path) -> None:
    """The next read of the file comes from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def ours_of(path: Path) -> Callable[[], Any]:
    return lambda: read_scan(path, path.suffix[1:])


def trimesh_of(path: Path) -> Callable[[], Any]:
    return lambda: trimesh.load(path, process=False, maintain_order=True)


def check_equal(path: Path) -> None:
    """Both must read the same positions and triangles, or their times mean nothing."""
    ours, theirs = ours_of(path)(), trimesh_of(path)()
    if len(ours.vertices) == len(theirs.vertices):
        assert (ours.vertices == theirs.vertices).all()
        assert (ours.faces == theirs.faces).all()
    assert (ours.vertices[ours.faces] == theirs.triangles).all()
    if ours.uv is not None:  # in order, trimesh has one a vertex; else it splits vertices at seams
        split = trimesh.load(path, process=False)
        np.testing.assert_allclose(ours.uv, split.visual.uv[split.faces], atol=1e-6)


def sheet(side: int) -> tuple[Array, Array]:
    """(side²,3) float32 vertices and (2·(side−1)²,3) triangles of a rough sheet."""
    row, column = np.mgrid[:side, :side]
    rough = np.random.default_rng(0).normal(0, 1, row.shape)
    vertices = np.stack([column, -row, rough], axis=-1).reshape(-1, 3).astype(np.float32)
    a = (row * side + column)[:-1, :-1].ravel()
    faces = np.stack([a, a + side, a + 1, a + side + 1, a + 1, a + side], axis=1)
    return vertices, faces.reshape(-1, 3)


def rows_of(pattern: str, values: Array) -> str:
    return "".join(pattern % tuple(row) for row in values.tolist())


def plain_obj(path: Path, vertices: Array, faces: Array) -> None:
    path.write_text(rows_of("v %.6f %.6f %.6f\n", vertices) + rows_of("f %d %d %d\n", faces + 1))


def seamed_obj(path: Path, vertices: Array, faces: Array) -> None:
    """Every eighth vertex has a second texture coordinate, which one of its triangles names."""
    random = np.random.default_rng(1)
    n, extra = len(vertices), len(vertices) // 8
    textured = faces.copy()
    textured[random.choice(len(faces), extra, replace=False), 0] = n + np.arange(extra)
    corners = np.stack([faces, textured, faces], axis=2).reshape(-1, 9) + 1
    path.write_text(
        rows_of("v %.6f %.6f %.6f\n", vertices)
        + rows_of("vt %.6f %.6f\n", random.random((n + extra, 2)))
        + rows_of("vn %.6f %.6f %.6f\n", random.normal(size=vertices.shape))
        + rows_of("f %d/%d/%d %d/%d/%d %d/%d/%d\n", corners)
    )


def binary_ply(path: Path, vertices: Array, faces: Array) -> None:
    rows = np.zeros(len(faces), [("size", "u1"), ("corners", "<i4", 3)])
    rows["size"], rows["corners"] = 3, faces
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\nproperty float x\n"
        f"property float y\nproperty float z\nelement face {len(faces)}\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    path.write_bytes(header.encode() + vertices.astype("<f4").tobytes() + rows.tobytes())


def textured_ply(path: Path, vertices: Array, faces: Array) -> None:
    """With the texture coordinates of each corner, as MeshLab writes them."""
    row = [("size", "u1"), ("corners", "<i4", 3), ("n", "u1"), ("uv", "<f4", 6)]
    rows = np.zeros(len(faces), row)
    rows["size"], rows["corners"], rows["n"] = 3, faces, 6
    rows["uv"] = np.random.default_rng(1).random((len(faces), 6))
    binary_ply(path, vertices, faces[:0])
    content = path.read_bytes().replace(b"element face 0", b"element face %d" % len(faces))
    end = b"property list uchar int vertex_indices\n"
    path.write_bytes(
        content.replace(end, end + b"property list uchar float texcoord\n") + rows.tobytes()
    )


def npz(path: Path, vertices: Array, faces: Array) -> None:
    np.savez(path, vertices=vertices, faces=faces)


if __name__ == "__main__":
    main()
