"""Scans of faces whose true registration is known vertex by vertex, of whatever family.

A `Recipe` says what is done to a face; `scanned` does it and keeps the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from clutter import CLUTTER
from remeshing import joined, keep_triangles, random_split, remesh
from scipy.spatial import cKDTree

from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import boundary_vertices, vertex_normals
from pipeline.types import Array, Scan

SUPPORT_MM = 0.5
"""A vertex is supported where its truth lies this near to the clean scan's surface."""
BORDER_MM = 2.0
"""Nearer to the scan's border than this nobody can say whether there is data."""


@dataclass(frozen=True)
class Recipe:
    """How a case differs from a whole neutral head of about 87k triangles without clutter."""

    kind: str
    seed: int
    expression: Mapping[str, float] = field(default_factory=dict)
    crop: str = ""
    noise_mm: float = 0.1
    holes: int = 3
    hole_radius_mm: float = 8.0
    clutter: str = ""
    triangles: int = 0
    """Re-meshed to about so many; 0 keeps the split ICT mesh."""
    landmarks: bool = True
    turn_degrees: float = 0.0
    start: str = ""
    """"good" or "off" (20° and 25 mm away) gives the case a start and takes the landmarks away."""


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    kind: str
    scan: Scan
    truth_mm: Array  # (5023,3), NaN where the vertex is on no skin
    supported: Array  # (5023,) bool: known, and the scan has data there
    near_border: Array  # (5023,) bool: known, within BORDER_MM of where the scan ends
    clutter: Array  # (V,) bool of the scan's vertices: no part of the head
    marks_mm: Array
    """(68,3) iBUG landmarks on the scan, NaN where missing; also where the scan carries none."""
    start_error: Array | None
    """(4,4) in the scan's frame, to apply after the landmarks' start: the case prescribes this
    start. None where the method finds its own."""

    @property
    def known(self) -> Array:
        """(5023,) bool: the vertices with a truth."""
        return np.isfinite(self.truth_mm).all(1)


@dataclass(frozen=True, eq=False)
class Head:
    """A face before it is scanned."""

    vertices: Array  # (V,3) mm
    faces: Array  # (F,3) what a scanner can see
    truth_mm: Array  # (5023,3), NaN where a vertex is not part of it
    marks_mm: Array  # (68,3) iBUG landmarks as annotated
    nose_mm: Array  # (3,) its tip
    chin_mm: Array  # (3,)


def scanned(
    scan_id: str,
    head: Head,
    recipe: Recipe,
    rng: np.random.Generator,
    turn_degrees: float | None = None,
) -> Case:
    """One scan: re-meshed, cropped, with holes, noise and clutter.

    `turn_degrees` replaces the recipe's; a turn is about a random axis and drops the landmarks (a
    free start).
    """
    turn = recipe.turn_degrees if turn_degrees is None else turn_degrees
    truth, marks = head.truth_mm, head.marks_mm.copy()
    vertices, faces, added = shown(head, recipe, rng)
    surface = SurfaceIndex(vertices, faces)
    known = np.isfinite(truth).all(1)
    supported = known.copy()
    supported[known] = surface.query(truth[known]).distance < SUPPORT_MM
    border = cKDTree(vertices[boundary_vertices(faces, len(vertices))])
    near_border = known.copy()
    near_border[known] = border.query(truth[known])[0] < BORDER_MM
    marks[surface.query(np.nan_to_num(marks)).distance > 5] = np.nan
    if recipe.triangles:
        vertices, faces = remesh(vertices, faces, recipe.triangles, rng)
    n_head = len(vertices)
    vertices, faces = joined([(vertices, faces), *added])
    vertices = vertices + rng.normal(scale=recipe.noise_mm, size=vertices.shape) / np.sqrt(3)
    if turn:
        rotation = rotation_about(rng.normal(size=3), np.radians(turn))
        shift = rng.normal(scale=100, size=3)
        vertices, truth, marks = (x @ rotation.T + shift for x in (vertices, truth, marks))
    start_error = None
    if recipe.start == "good":
        start_error = np.eye(4)
    elif recipe.start == "off":
        start_error = moved_off(np.nanmean(marks, axis=0), 20.0, 25.0, rng)
    has_marks = recipe.landmarks and not turn and not recipe.start
    scan = scan_of(scan_id, vertices, faces, marks if has_marks else None, not turn)
    clutter = np.arange(len(vertices)) >= n_head
    return Case(
        scan_id.split(":", 1)[1],
        recipe.kind,
        scan,
        truth,
        supported,
        near_border,
        clutter,
        marks,
        start_error,
    )


def shown(
    head: Head, recipe: Recipe, rng: np.random.Generator
) -> tuple[Array, Array, list[tuple[Array, Array]]]:
    """What the scan shows of the head, split at random, and the meshes of the clutter."""
    vertices, faces = random_split(*keep_triangles(head.vertices, head.faces, slice(None)), rng)
    centres = vertices[faces].mean(1)
    keep = crop(recipe.crop, centres, head.nose_mm, head.chin_mm)
    front = vertices[vertices[:, 2] > np.quantile(vertices[:, 2], 0.6)]
    for centre in front[rng.integers(len(front), size=recipe.holes)]:
        keep &= np.linalg.norm(centres - centre, axis=1) > recipe.hole_radius_mm
    added: list[tuple[Array, Array]] = []
    if recipe.clutter:
        covered, added = CLUTTER[recipe.clutter](vertices, faces, rng)
        keep &= ~covered
    return *keep_triangles(vertices, faces, keep), added


def moved_off(centre: Array, degrees: float, length_mm: float, rng: np.random.Generator) -> Array:
    """(4,4) a turn about a random axis through `centre` and a shift in a random direction."""
    rotation = rotation_about(rng.normal(size=3), np.radians(degrees))
    shift = rng.normal(size=3)
    shift *= length_mm / np.linalg.norm(shift)
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = rotation, centre - rotation @ centre + shift
    return result


def crop(name: str, centres: Array, nose: Array, chin: Array) -> Array:
    """Triangles to keep."""
    if name == "left half":
        return centres[:, 0] > -5
    if name == "right half":
        return centres[:, 0] < 5
    if name == "face only":
        return np.linalg.norm(centres - nose, axis=1) < 95
    if name == "60 mm":
        return np.linalg.norm(centres - nose, axis=1) < 60
    if name == "no back":
        return centres[:, 2] > nose[2] - 110
    if name == "no neck":
        return centres[:, 1] > chin[1] - 12 + 0.15 * (nose[2] - centres[:, 2])
    if name:
        raise ValueError(f"crop {name!r} is none of those above")
    return np.ones(len(centres), dtype=bool)


def rotation_about(axis: Array, angle: float) -> Array:
    x, y, z = axis / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def scan_of(
    scan_id: str, vertices: Array, faces: Array, marks: Array | None, oriented: bool
) -> Scan:
    normals = vertex_normals(torch.as_tensor(vertices), torch.as_tensor(faces)).numpy()
    return Scan(
        scan_id=scan_id,
        vertices_mm=vertices,
        faces=faces,
        normals=normals,
        source_to_canonical=np.eye(4),
        unit="mm",
        unit_factor_mm=1.0,
        unit_evidence="made in millimetres",
        landmarks_mm=marks,
        landmark_scheme=None if marks is None else "ibug68",
        landmark_confidence=None if marks is None else np.isfinite(marks).all(1),
        landmark_source=None if marks is None else "file",
        oriented=oriented,
    )


def without_landmarks(scan: Scan, oriented: bool) -> Scan:
    return replace(
        scan,
        landmarks_mm=None,
        landmark_scheme=None,
        landmark_confidence=None,
        landmark_source=None,
        oriented=oriented,
    )
