"""Scan files named by hand -> a window that shows them, with the meshes registered to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.build.given_files import Declared, Request, axes_from, read_request, requests_for
from pipeline.errors import FormatError, RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.formats import format_of, read_scan
from pipeline.normalise.scan import transform, without_scale
from pipeline.pictures.viewer import Shown, view
from pipeline.registration import RegistrationOptions
from pipeline.registration.search import search
from pipeline.registration.template import prepare_template
from pipeline.types import Array, Scan


def view_files(
    paths: Sequence[Path | str],
    model: FlameModel,
    *,
    registered: Sequence[Path | str] = (),
    unit: str = "auto",
    landmarks: str | None = None,
    axes: str | None = None,
    beside: bool = True,
    screenshot: Path | str | None = None,
) -> None:
    """Shows scans in millimetres, their faces to the viewer, with `registered` meshes.

    Those are in the scans' own frames, as `register_files` writes them: one for each scan in the
    same order, or a folder where each scan's is `<stem>.ply`; a scan that failed there stands
    alone. Without `axes` the face is searched for with `model`; where none is found the scan is
    shown as it lies. Raises RegistrationError for a wrong call, and what reading and
    `pipeline.pictures.viewer.view` raise.
    """
    declared = Declared(unit, axes=axes_from(axes))
    requests = requests_for(paths, landmarks, declared)
    meshes = meshes_of(requests, [Path(path) for path in registered])
    view([shown(*pair, model) for pair in zip(requests, meshes, strict=True)], beside, screenshot)


def meshes_of(requests: Sequence[Request], given: Sequence[Path]) -> list[Path | None]:
    """The mesh of each scan, None where none is given."""
    if not given:
        return [None] * len(requests)
    if len(given) == 1 and given[0].is_dir():
        return [_in_folder(given[0], request.stem) for request in requests]
    if len(given) != len(requests):
        raise RegistrationError(
            f"--registered: got {len(given)} meshes for {len(requests)} scans; give one a scan in "
            "the same order, or the folder that `facefold register` wrote them to"
        )
    return list(given)


def _in_folder(folder: Path, stem: str) -> Path | None:
    """The scan's mesh, None if `register_files` wrote none, as it does for one that failed."""
    mesh, report = (folder / f"{stem}{suffix}" for suffix in (".ply", ".json"))
    return mesh if mesh.exists() or not report.exists() else None


def shown(request: Request, mesh: Path | None, model: FlameModel) -> Shown:
    scan = read_request(request, model)
    turn = np.eye(4) if scan.oriented else to_face(scan, model)
    vertices = faces = None
    if mesh is not None:
        raw = read_scan(mesh, format_of(mesh))
        if not len(raw.faces):
            raise FormatError(mesh, "has no triangles", "give the mesh that was registered")
        from_mm = without_scale(scan.source_to_canonical)
        vertices, faces = transform(turn @ from_mm, raw.vertices), raw.faces
    return Shown(turned(scan, turn), vertices, faces)


def to_face(scan: Scan, model: FlameModel) -> Array:
    """(4,4) the scan's frame to one whose +z comes out of its face; unchanged where none is."""
    template = prepare_template(model, "cpu", RegistrationOptions().modes)
    matrix = np.eye(4)
    try:
        rotation, translation = search(template, scan)
    except RegistrationError:
        return matrix
    matrix[:3, :3] = rotation.numpy().T
    matrix[:3, 3] = -(rotation.T @ translation).numpy()
    return matrix


def turned(scan: Scan, motion: Array) -> Scan:
    """The scan moved by a rigid (4,4)."""
    landmarks = scan.landmarks_mm
    return replace(
        scan,
        vertices_mm=transform(motion, scan.vertices_mm),
        normals=scan.normals @ motion[:3, :3].T,
        landmarks_mm=None if landmarks is None else transform(motion, landmarks),
        source_to_canonical=motion @ scan.source_to_canonical,
    )
