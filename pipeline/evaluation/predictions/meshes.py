"""Predicted meshes with their landmarks, as methods save them, and the mean head beside them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import Case, Finding, Given, Prediction, no_points
from pipeline.evaluation.distances import to_surface
from pipeline.flame.model import FlameModel
from pipeline.formats import format_of, read_scan
from pipeline.geometry.mesh import lengths, triangle_normals
from pipeline.landmarks import LANDMARK_READERS, landmark_format_of, read_landmarks, resolve
from pipeline.landmarks.schemes import scheme_of, to_68
from pipeline.types import Array, RawScan
from pipeline.units import mm_per

MESHES = ("obj", "ply", "stl", "off", "wrl", "glb", "gltf", "vtk", "npz", "mat")
"""Formats of predictions, which are their suffixes: those that hold a surface, no image of it."""
MARKS = tuple(form for form in LANDMARK_READERS if form not in ("txt1", "csv"))
"""Formats of landmarks, which are their suffixes and of no mesh."""
COUNTS = (7, 51, 68, 85)
"""Landmarks that a file holds: FG2018's seven, iBUG's 51 or 68, or REALY's 85, which begin with
the 68."""
SHARED = 0.9
"""Of a file's triangles must be the model's, for a mesh of as many vertices to be in its topology:
more than that no other numbering shares."""
NO_AREA = 1e-7
"""A triangle whose height is this share of the mesh's extent has no area in single precision."""
CRUMPLED, FEW = 0.6, 500
"""A mesh of more than a few triangles has no median edge of this share of its size: FLAME's is
a fortieth, that of vertices in a random order more than 1."""
ODD_EDGE, DISORDERED, TINY = 3.0, 0.3, 1e-12
"""In the model's topology fewer edges are so many times longer or shorter than the template's: 5 %
at most of strange faces, 21 % with 2 mm of noise, 37 % and more of vertices in another order."""
APART = 0.15
"""Of their largest distance, some 15 mm of a face, half of the landmarks may lie off the surface:
marks set by hand are nearer, those of another unit or frame much farther."""


def prediction_file(folder: Path | str, stem: str, formats: Sequence[str] = MESHES) -> Path | None:
    """The file `<stem>.obj`, `.ply` or of another of the formats in a folder, packed with gzip or
    not; None if there is none. Case counts only if there are several.

    Raises FacefoldError if two files are of the stem.
    """
    return _only(Path(folder), stem, formats, "keep the one that is the prediction")


def landmark_file_of(path: Path | str, given: Given) -> Path | None:
    """The landmarks of a mesh: what `given.landmarks` says, else `<stem>.npy`, `.txt` or another of
    MARKS beside it; None if there are none.

    Raises FacefoldError if two files are of the stem.
    """
    path = Path(path)
    if given.landmarks is not None:
        named = path.parent / given.landmarks.replace("{stem}", stem_of(path))
        return named if named.is_file() else None
    return _only(path.parent, stem_of(path), MARKS, "name one by --landmarks {stem}.…")


def stem_of(path: Path | str) -> str:
    """The name of a mesh without its format: "a.b" of "a.b.obj.gz"."""
    name = Path(path).name
    packed = name.lower().endswith(".gz")
    return Path(name[:-3] if packed else name).stem


def _only(folder: Path, stem: str, formats: Sequence[str], remedy: str) -> Path | None:
    names = [f"{stem}.{form}{packed}" for form in formats for packed in ("", ".gz")]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found and folder.is_dir():
        wanted = {name.lower() for name in names}
        found = sorted(path for path in folder.iterdir() if path.name.lower() in wanted)
    if len(found) > 1:
        both = " and ".join(path.name for path in found)
        raise FacefoldError(f"{folder}: {both} are both of {stem}, expected one file; {remedy}")
    return found[0] if found else None


def mean_head(given: Given) -> Prediction:
    """The template of the model, in millimetres: what somebody predicts who saw no image."""
    model = given.model
    points = _embedded(model, model.template_mm)
    return Prediction(model.template_mm, model.faces, points, 1.0, in_model_topology=True)


def read_mesh(case: Case, given: Given, *, needs_landmarks: bool = True) -> Prediction:
    """The mesh of a case, which has one, with its landmarks.

    The landmarks are those of `case.landmarks`, or of the file that `landmark_file_of` finds, else
    the model's for a mesh in its topology. If `given.unit` is still "auto", a unit of the file is
    taken for a millimetre. Raises FacefoldError for a file that cannot be read or holds vertices
    that are not finite, and for a mesh without landmarks unless it `needs_landmarks` not.
    """
    assert case.prediction is not None
    path = case.prediction
    scan = read_scan(path, format_of(path))
    _refuse_odd(path, scan.vertices)
    faces, in_topology, said = _topology(scan, given.model)
    _refuse_crumpled(path, scan.vertices, faces, given.model if in_topology else None)
    points, apart = _landmarks(case, scan, given, in_topology)
    if needs_landmarks and not np.isfinite(points).any():
        raise FacefoldError(f"{path}: {_no_landmarks(case, scan, given, in_topology)}")
    known = [*said, *apart, *_odd_content(scan, faces, given.model if in_topology else None)]
    findings = tuple(finding._replace(case=case.id) for finding in known)
    unit_mm = 1.0 if given.unit == "auto" else mm_per(given.unit)
    return Prediction(scan.vertices, faces, points, unit_mm, in_topology, findings)


def _refuse_odd(path: Path, vertices: Array) -> None:
    odd = int((~np.isfinite(vertices)).any(axis=1).sum())
    if odd:
        raise FacefoldError(
            f"{path}: {odd} of {len(vertices)} vertices are not finite, expected none; the method "
            "diverged, or wrote the file while something else did: predict it again"
        )


def _refuse_crumpled(path: Path, vertices: Array, faces: Array, model: FlameModel | None) -> None:
    """Triangles that join what lies far apart belong to vertices in another order: but for its size
    a mesh in the model's topology has the edges of the template."""
    if len(faces) < FEW:
        return
    if model is None:
        crumpled = float(np.median(_edges(vertices, faces))) > CRUMPLED
    else:
        own = np.maximum(_edges(model.template_mm, faces), TINY)
        times = np.maximum(_edges(vertices, faces), TINY) / own
        crumpled = float((np.abs(np.log(times)) > np.log(ODD_EDGE)).mean()) > DISORDERED
    if crumpled:
        raise FacefoldError(
            f"{path}: the triangles join vertices that lie far apart, expected neighbours: the "
            "vertices are in another order than the triangles know; write both of the same mesh"
        )


def _edges(vertices: Array, faces: Array) -> Array:
    """(3F,) lengths, in root mean square distances of the vertices from their middle."""
    sides = [vertices[faces[:, i]] - vertices[faces[:, i - 1]] for i in range(3)]
    size = float(np.sqrt(np.square(vertices - vertices.mean(0)).sum(1).mean()))
    return lengths(np.concatenate(sides).T) / max(size, TINY)


def _topology(scan: RawScan, model: FlameModel) -> tuple[Array, bool, list[Finding]]:
    """The triangles (F,3), whether the mesh is in the model's topology, and what is odd of it."""
    n, own = len(scan.vertices), _triangles(model)
    if n != len(model.template_mm):
        return scan.faces, False, []
    if not len(scan.faces):
        text = f"{n} points without triangles: those of {model.name} are taken; save a mesh"
        return model.faces, True, [Finding("topology", text)]
    shared = float(np.isin(_keys(scan.faces, n), own).mean())
    if shared >= SHARED:
        return scan.faces, True, []
    text = (
        f"as many vertices as {model.name} has, {n}, but only {100 * shared:.0f} % of the "
        "triangles are its own: name the predictions' model by --model; or, if it is this one, the "
        "order of the vertices is another: export the mesh without reordering or merging (trimesh: "
        "process=False)"
    )
    return scan.faces, False, [Finding("topology", text, figures={"shared_triangles": shared})]


@lru_cache(maxsize=4)
def _triangles(model: FlameModel) -> Array:
    """Of the model, as numbers."""
    return np.unique(_keys(model.faces, len(model.template_mm)))


def _keys(faces: Array, n: int) -> Array:
    """(F,3) -> (F,) a number for each set of three of n vertices, whichever way it winds."""
    a, b, c = np.sort(faces, axis=1).T
    keys: Array = (a * n + b) * n + c
    return keys


def _landmarks(
    case: Case, scan: RawScan, given: Given, in_topology: bool
) -> tuple[Array, list[Finding]]:
    """(68,3), NaN where there are none, and what is odd of them."""
    assert case.prediction is not None
    path = case.landmarks or landmark_file_of(case.prediction, given)
    if path is None and given.landmarks is not None:
        raise FacefoldError(
            f"{case.prediction}: no landmarks {given.landmarks.replace('{stem}', '<stem>')} beside "
            "it; write them, or correct --landmarks"
        )
    if path is None:
        return _embedded(given.model, scan.vertices) if in_topology else no_points(), []
    raw = read_landmarks(path, landmark_format_of(path))
    if len(raw) not in COUNTS:
        expected = "7 (FG2018's order), 51 or 68 (iBUG's) or 85 (REALY's)"
        raise FacefoldError(
            f"{path}: {len(raw)} landmarks, expected {expected}; write one of these, in that order"
        )
    points = to_68(scheme_of(raw).name, resolve(raw, scan, path)).astype(np.float64)
    if not np.isfinite(points).all(axis=1).any():
        raise FacefoldError(f"{path}: no landmark is finite; write them in the mesh's coordinates")
    return points, _apart(path, points, scan)


def _apart(path: Path, points: Array, scan: RawScan) -> list[Finding]:
    """Whether landmarks lie far from the surface, as in another unit or frame."""
    known = points[np.isfinite(points).all(axis=1)]
    off = float(np.median(to_surface(known, scan.vertices, scan.faces).distance))
    size = float(np.linalg.norm(known[:, None] - known[None], axis=2).max())
    if len(known) < 2 or off <= APART * size:
        return []
    extent = float(np.ptp(scan.vertices, axis=0).max())
    text = (
        f"{path.name}: half of the landmarks lie {off:.3g} units or more from the mesh, which "
        f"measures {extent:.3g}, expected on it; write both in one unit and one frame"
    )
    return [Finding("landmarks_apart", text, figures={"off_units": off, "extent_units": extent})]


def _embedded(model: FlameModel, vertices: Array) -> Array:
    """(68,3) of a mesh in the model's topology."""
    if model.landmarks is None:
        return no_points()
    return model.landmarks.positions_68(vertices, model.faces)


def _no_landmarks(case: Case, scan: RawScan, given: Given, in_topology: bool) -> str:
    """Why a mesh has no landmarks, and what to do."""
    model, n = given.model, len(scan.vertices)
    beside = (
        f"save its landmarks beside it as {stem_of(case.prediction or '')}.npy or .txt "
        f"({', '.join(map(str, COUNTS[:-1]))} or {COUNTS[-1]} rows x y z)"
    )
    if in_topology:
        return f"{model.name} has no embedding of iBUG points; name one by --embedding, or {beside}"
    wanted = len(model.template_mm)
    if n == wanted:
        order = f"the vertices are not in the order of {model.name}"
        return f"no landmarks, and {order}; name the predictions' model by --model, or {beside}"
    eyes = wanted - len(model.regions.get("eyeballs", ()))
    likely = (
        "points without triangles"
        if not len(scan.faces)
        else f"the eyeballs of {model.name} are cut off"
        if n == eyes
        else "vertices merged or split on export (trimesh: process=False keeps them)"
        if abs(n - wanted) < 0.25 * wanted
        else "another topology"
    )
    return (
        f"no landmarks, and {n} vertices, where {model.name} has {wanted}: {likely}; export all of "
        f"the model's vertices in their order, name the predictions' model by --model, or {beside}"
    )


def _odd_content(scan: RawScan, faces: Array, model: FlameModel | None) -> list[Finding]:
    """Colours, and triangles without area but for those that the template has so."""
    found = []
    if scan.colours is not None:
        text = (
            f"each of the {len(scan.vertices)} vertices has a colour beside its place; colours are "
            "left out: save the mesh without them for readers that take them for something else"
        )
        found.append(Finding("vertex_colours", text))
    flat = without_area(scan.vertices, faces) + scan.left_out.get("faces_degenerate", 0)
    flat -= 0 if model is None else without_area(model.template_mm, model.faces)
    if flat > 0:
        text = (
            f"{flat} of {len(faces)} triangles have no area, expected none; distances count them "
            "as their edges: export the mesh without collapsing vertices"
        )
        found.append(Finding("degenerate", text, figures={"triangles": float(flat)}))
    return found


def without_area(vertices: Array, faces: Array) -> int:
    """How many triangles (F,3) of (V,3) vertices are an edge or a point."""
    if not len(faces):
        return 0
    sides = [lengths((vertices[faces[:, i]] - vertices[faces[:, i - 1]]).T) for i in range(3)]
    doubled = lengths(triangle_normals(vertices, faces))
    extent = float(np.ptp(vertices, axis=0).max())
    return int((doubled <= NO_AREA * extent * np.max(sides, axis=0)).sum())
