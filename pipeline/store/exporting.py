"""A store's registrations as the small files that other code reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import trimesh

from pipeline.errors import StoreError
from pipeline.flame.model import FlameModel
from pipeline.store.query import matching_rows
from pipeline.store.reader import Store, open_store
from pipeline.text import file_name
from pipeline.types import Array

Row = Mapping[str, Any]
"""A row of the manifest."""


def as_mica(out: Path, row: Row, arrays: Mapping[str, Array], faces: Array) -> None:
    """`FLAME_parameters/<actor>/<scan>.npz` and `registrations/<actor>/<scan>.obj`, in metres.

    The npz holds FLAME's `betas` (400: identity, then expression), `pose` (15) and `trans` (3); the
    mesh is the registered scan, free-form detail included.
    """
    actor, scan = names_of(row)
    np.savez(
        place(out, "FLAME_parameters", actor, f"{scan}.npz"),
        betas=np.concatenate([arrays["shape"], arrays["expression"]]),
        pose=arrays["pose"],
        trans=arrays["translation_mm"] / 1000,
    )
    mesh = place(out, "registrations", actor, f"{scan}.obj")
    write_mesh(mesh, arrays["vertices_mm"] / 1000, faces)


def as_meshes(suffix: str) -> Callable[[Path, Row, Mapping[str, Array], Array], None]:
    """`<actor>/<scan>.<suffix>`, in millimetres."""

    def write(out: Path, row: Row, arrays: Mapping[str, Array], faces: Array) -> None:
        actor, scan = names_of(row)
        write_mesh(place(out, actor, f"{scan}.{suffix}"), arrays["vertices_mm"], faces)

    return write


LAYOUTS: Mapping[str, Callable[[Path, Row, Mapping[str, Array], Array], None]] = MappingProxyType(
    {"mica": as_mica, "ply": as_meshes("ply"), "obj": as_meshes("obj")}
)
"""Name of a layout to what writes one row of it."""
FIELDS = ("vertices_mm", "shape", "expression", "pose", "translation_mm")


def export(
    store: Path | str, out: Path | str, layout: str, model: FlameModel, where: str = "True"
) -> int:
    """Writes the rows for which `where` holds (`query.py`) in a layout; returns how many.

    `model` gives the triangles: it must be the one that the store was made with. Raises StoreError
    for an unknown layout, another model, a question that is not understood, two scans that would
    share a file, and a folder that cannot be written or leads out of `out`.
    """
    if layout not in LAYOUTS:
        raise StoreError(f"layout {layout!r}, expected one of {', '.join(LAYOUTS)}")
    source = open_store(store)
    if source.model["digest"] != model.digest:
        raise StoreError(
            f"{source.path}: made with the model {source.model['name']!r}, got {model.name!r}; "
            "name that model's file"
        )
    rows = matching_rows(source, where)
    chosen = source.columns("identity", "scan_id").take(rows).to_pylist()
    refuse_shared_names(source, chosen)
    for place, row in zip(rows, chosen, strict=True):
        arrays = {name: source.row(name, int(place)) for name in FIELDS}
        LAYOUTS[layout](Path(out), row, arrays, model.faces)
    return len(rows)


def names_of(row: Row) -> tuple[str, str]:
    """Folder of the person and stem of the scan: names of files, whatever the manifest says."""
    scan = str(row["scan_id"])
    return file_name(str(row["identity"])), file_name(scan.partition(":")[2] or scan)


def refuse_shared_names(source: Store, rows: list[dict[str, Any]]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for row in rows:
        other = seen.setdefault(names_of(row), row["scan_id"])
        if other != row["scan_id"]:
            raise StoreError(
                f"{source.path}: {other} and {row['scan_id']} would be one file; "
                "export them apart by `where`"
            )


def place(out: Path, *names: str) -> Path:
    """The file of these names below `out`, in a folder that is there.

    Raises StoreError where a link leads out of `out`, or the folder cannot be made.
    """
    path = out.joinpath(*names)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path.parent}: {error.strerror}; name another --out") from error
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out)):
        raise StoreError(f"{path}: a link leads out of {out}; remove it, or name another --out")
    return path


def write_mesh(path: Path, vertices: Array, faces: Array) -> None:
    trimesh.Trimesh(vertices, faces, process=False).export(path)
