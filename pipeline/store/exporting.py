"""A store's registrations as the small files that other code reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import trimesh

from pipeline.errors import StoreError
from pipeline.flame.model import FlameModel
from pipeline.store.query import matching_rows
from pipeline.store.reader import Store, open_store
from pipeline.text import file_name
from pipeline.types import N_EXPRESSION, N_POSE, Array

Row = Mapping[str, Any]
"""A row of the manifest."""
Writer: TypeAlias = Callable[[Path, Row, Mapping[str, Array], Array], None]


def as_mica(out: Path, row: Row, arrays: Mapping[str, Array], faces: Array) -> None:
    """`FLAME_parameters/<actor>/<scan>.npz`, and the mesh, in metres.

    The npz holds FLAME's `betas` (400: identity, then expression), `pose` (15) and `trans` (3).
    """
    actor, scan = names_of(row)
    np.savez(
        place(out, "FLAME_parameters", actor, f"{scan}.npz"),
        betas=np.concatenate([arrays["shape"], arrays["expression"]]),
        pose=arrays["pose"],
        trans=arrays["translation_mm"] / 1000,
    )
    as_micas_mesh(out, row, arrays, faces)


def as_micas_mesh(out: Path, row: Row, arrays: Mapping[str, Array], faces: Array) -> None:
    """`registrations/<actor>/<scan>.obj`: the registered scan, free-form detail included."""
    actor, scan = names_of(row)
    mesh = place(out, "registrations", actor, f"{scan}.obj")
    write_mesh(mesh, arrays["vertices_mm"] / 1000, faces)


def as_micas_actor(out: Path, row: Row, arrays: Mapping[str, Array], faces: Array) -> None:
    """`FLAME_parameters/<actor>/<actor>.npz`, the one file of a person: what MICA's reader takes,
    `betas` whose expression is zero and a `pose` of zero, and `vertices` (V,3), the head that they
    stand for with what is beyond the model, in metres."""
    actor, _ = names_of(row)
    np.savez(
        place(out, "FLAME_parameters", actor, f"{actor}.npz"),
        betas=np.append(arrays["identity_shape"], np.zeros(N_EXPRESSION, np.float32)),
        pose=np.zeros(N_POSE, np.float32),
        trans=np.zeros(3, np.float32),
        vertices=arrays["identity_neutral_mm"] / 1000,
    )


def as_meshes(suffix: str) -> Writer:
    """`<actor>/<scan>.<suffix>`, in millimetres."""

    def write(out: Path, row: Row, arrays: Mapping[str, Array], faces: Array) -> None:
        actor, scan = names_of(row)
        write_mesh(place(out, actor, f"{scan}.{suffix}"), arrays["vertices_mm"], faces)

    return write


@dataclass(frozen=True)
class Layout:
    """What writes the files of one scan; where people have rows of their own, of a scan `beside`
    those of its person, and of one person."""

    scan: Writer
    beside: Writer
    person: Writer | None = None


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "mica": Layout(as_mica, as_micas_mesh, as_micas_actor),
        "ply": Layout(as_meshes("ply"), as_meshes("ply")),
        "obj": Layout(as_meshes("obj"), as_meshes("obj")),
    }
)
FIELDS = ("vertices_mm", "shape", "expression", "pose", "translation_mm")
PERSON_FIELDS = ("identity_neutral_mm", "identity_shape")


def export(
    store: Path | str, out: Path | str, layout: str, model: FlameModel, where: str = "True"
) -> int:
    """Writes the rows for which `where` holds (`query.py`) in a layout; returns how many.

    `model` gives the triangles: it must be the one whose coefficients the store has. Raises
    StoreError for an unknown layout, another model, a question that is not understood, two scans,
    or people, that would share a file, and a folder that cannot be written or leads out of `out`.
    """
    if layout not in LAYOUTS:
        raise StoreError(f"layout {layout!r}, expected one of {', '.join(LAYOUTS)}")
    source, layout_of = open_store(store), LAYOUTS[layout]
    own = source.coefficient_model
    if own["digest"] != model.digest:
        raise StoreError(
            f"{source.path}: coefficients made with the model {own['name']!r}, got {model.name!r}; "
            "name that model's file"
        )
    rows = matching_rows(source, where)
    chosen = source.columns("identity", "scan_id").take(rows).to_pylist()
    refuse_shared_names(source, chosen, lambda row: (names_of(row), row["scan_id"]))
    of_scan, of_person = layout_of.scan, layout_of.person if source.form.identities else None
    if of_person:
        refuse_shared_names(source, chosen, lambda row: (names_of(row)[0], row["identity"]))
        of_scan = layout_of.beside
    written: set[str] = set()
    for i, row in zip(rows.tolist(), chosen, strict=True):
        of_scan(Path(out), row, {name: source.row(name, i) for name in FIELDS}, model.faces)
        if of_person and row["identity"] not in written:
            arrays = {name: source.row(name, i) for name in PERSON_FIELDS}
            of_person(Path(out), row, arrays, model.faces)
            written.add(row["identity"])
    return len(rows)


def names_of(row: Row) -> tuple[str, str]:
    """Folder of the person and stem of the scan: names of files, whatever the manifest says."""
    scan = str(row["scan_id"])
    return file_name(str(row["identity"])), file_name(scan.partition(":")[2] or scan)


def refuse_shared_names(
    source: Store,
    rows: list[dict[str, Any]],
    named: Callable[[dict[str, Any]], tuple[Any, str]],
) -> None:
    """`named` says of a row what its file is called, and of what it is."""
    seen: dict[Any, str] = {}
    for name, of in map(named, rows):
        if (other := seen.setdefault(name, of)) != of:
            raise StoreError(
                f"{source.path}: {other} and {of} would be one file; export them apart by `where`"
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
