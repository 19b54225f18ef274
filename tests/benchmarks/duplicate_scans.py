"""Scans under another name, and scans that only look as if they were the same.

`COPIES` are what a scan becomes on its way through another dataset. What a search for duplicates
must leave apart are scans of who was `shown` again: the same head, the same person, a relative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from cases import Case, Head, Recipe, rotation_about, scan_of
from remeshing import keep_triangles, remesh
from who_faces import Family

from pipeline.types import Array, Scan

MARK_NOISE_MM = 0.6
"""Standard deviation an axis, of the second annotator."""
LIVING = 0.04
"""Standard deviation of each expression's weight between two captures of a person who keeps
still."""
SIZES = (0.93, 1.07)
"""Of a copy whose unit was estimated beside the original."""
SHAPES: Mapping[str, tuple[Recipe, bool]] = {
    "87k triangles": (Recipe("neutral", 0), False),
    "with an expression": (Recipe("expression", 0), True),
    "noise .4 mm": (Recipe("noise", 0, noise_mm=0.4), False),
    "no back of head": (Recipe("partial", 0, crop="no back"), False),
    "20k triangles": (Recipe("resolution", 0, triangles=20_000), True),
    "noise .01 mm": (Recipe("noise", 0, noise_mm=0.01), False),
    "400k triangles": (Recipe("resolution", 0, triangles=400_000), False),
}
"""The scans that are copied: how, and whether with an expression."""
MANY = tuple(SHAPES)[:-1]
"""Of these as many; the last is copied alone, for it takes long to make."""


class Mesh(NamedTuple):
    vertices: Array  # (V,3) mm
    faces: Array  # (F,3)
    marks: Array  # (68,3) NaN where missing
    nose: Array  # (3,) its tip, or about there


def person(family: Family, seed: int, relative: int | None = None, correlation: float = 0) -> Array:
    """(N,3) mm at rest: of the person `seed`, correlated with that of another seed."""
    own = family.displacement(np.random.default_rng(seed))
    if relative is not None:
        other = family.displacement(np.random.default_rng(relative))
        own = correlation * other + np.sqrt(1 - correlation**2) * own
    return family.rest + own


def shown(
    family: Family, at_rest: Array, shape: str, seed: int, moment: int, again: int = 0
) -> tuple[Head, Recipe, np.random.Generator]:
    """A person (N,3) before a scan by a recipe of SHAPES, with the expression of `seed`.

    A face that keeps still is off by LIVING in each expression's weight, at each moment otherwise;
    `again` is another capture of the same moment.
    """
    recipe, expressive = SHAPES[shape]
    rng = np.random.default_rng([seed, moment])
    chosen = family.expressions[seed % len(family.expressions)] if expressive else {}
    names = sorted({name for some in family.expressions for name in some})
    weights = {n: chosen.get(n, 0.0) + float(rng.normal(scale=LIVING)) for n in names}
    rng = np.random.default_rng([seed, moment, again])
    return family.head(at_rest, weights, rng), recipe, rng


def same_vertices(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """Written again, vertices in another order."""
    order = rng.permutation(len(mesh.vertices))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return mesh._replace(vertices=mesh.vertices[order], faces=place[mesh.faces])


def rounded(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """Text with two decimals, in millimetres."""
    return same_vertices(mesh._replace(vertices=np.round(mesh.vertices, 2)), rng)


def kept(mesh: Mesh, triangles: Array, marks: Array) -> Mesh:
    vertices, faces = keep_triangles(mesh.vertices, mesh.faces, triangles)
    return mesh._replace(
        vertices=vertices, faces=faces, marks=np.where(marks[:, None], mesh.marks, np.nan)
    )


def region(radius_mm: float) -> Callable[[Mesh, np.random.Generator], Mesh]:
    """What lies around the tip of the nose."""

    def cut(mesh: Mesh, rng: np.random.Generator) -> Mesh:
        mesh = same_vertices(mesh, rng)
        centres = mesh.vertices[mesh.faces].mean(1)
        near = np.linalg.norm(centres - mesh.nose, axis=1) < radius_mm
        return kept(mesh, near, np.linalg.norm(mesh.marks - mesh.nose, axis=1) < radius_mm)

    return cut


def half(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    mesh = same_vertices(mesh, rng)
    centres = mesh.vertices[mesh.faces].mean(1)
    return kept(mesh, centres[:, 0] > mesh.nose[0] - 5, mesh.marks[:, 0] > mesh.nose[0] - 5)


def remeshed(triangles: int) -> Callable[[Mesh, np.random.Generator], Mesh]:
    def made(mesh: Mesh, rng: np.random.Generator) -> Mesh:
        vertices, faces = remesh(mesh.vertices, mesh.faces, triangles, rng)
        return mesh._replace(vertices=vertices, faces=faces)

    return made


def remeshed_region(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    return remeshed(30_000)(region(95.0)(mesh, rng), rng)


COPIES: Mapping[str, Callable[[Mesh, np.random.Generator], Mesh]] = {
    "same vertices": same_vertices,
    "two decimals": rounded,
    "region of 95 mm": region(95.0),
    "region of 75 mm": region(75.0),
    "half": half,
    "re-meshed, 100k": remeshed(100_000),
    "re-meshed, 20k": remeshed(20_000),
    "region, re-meshed": remeshed_region,
}


def copied(case: Case, name: str, kind: str, rng: np.random.Generator) -> tuple[Scan, float]:
    """A scan under another name, in another size and pose, with landmarks of another annotator; and
    its size over the original's."""
    marks = case.marks_mm + rng.normal(scale=MARK_NOISE_MM, size=(68, 3))
    vertices = case.scan.vertices_mm.astype(np.float64)
    nose = case.marks_mm[30]
    if not np.isfinite(nose).all():  # in a hole
        nose = np.nanmean(case.marks_mm[27:36], axis=0)
    mesh = COPIES[kind](Mesh(vertices, case.scan.faces, marks, nose), rng)
    scale = rng.uniform(*SIZES)
    turn = scale * rotation_about(rng.normal(size=3), rng.uniform(0, np.pi))
    shift = rng.normal(scale=100, size=3)
    vertices, marks = (x @ turn.T + shift for x in (mesh.vertices, mesh.marks))
    scan = scan_of(name, vertices.astype(np.float32), mesh.faces, marks, False)
    return replace(scan, unit_evidence="made for a benchmark"), scale
