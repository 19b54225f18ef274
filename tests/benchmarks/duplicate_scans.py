"""Scans of ICT faces under another name, and scans that only look as if they were the same.

`COPIES` are what one scan becomes on its way through another dataset; `recaptured` and `RELATIVES`
are what a search for duplicates must leave apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from cases import Case, Recipe, rotation_about, scan_of, scanned
from ict_cases import RECIPES, IctModel
from remeshing import keep_triangles, remesh

from pipeline.types import Array, Scan

MARK_NOISE_MM = 0.6
MICRO = 0.04
"""Standard deviation of each expression's weight between two captures of a still face."""
OWN: Mapping[str, Recipe] = {
    "smooth": Recipe("noise", 0, noise_mm=0.01),
    "dense": Recipe("resolution", 0, triangles=400_000),
}
SHAPES = (
    *("neutral", "smile", "noisy", "mixed expression", "no back of head", "20k triangles"),
    *OWN,
)
"""Recipes of the scans that are copied: of `ict_cases.RECIPES`, or OWN."""


@dataclass(frozen=True, eq=False)
class Mesh:
    vertices: Array  # (V,3) mm
    faces: Array  # (F,3)
    marks: Array  # (68,3) NaN where missing
    nose: Array  # (3,) its tip


def recipe_of(name: str) -> Recipe:
    return OWN[name] if name in OWN else RECIPES[name]


def original(ict: IctModel, name: str, seed: int) -> Case:
    """One scan of the person `seed`."""
    recipe = recipe_of(name)
    identity = np.random.default_rng(seed).normal(size=100)
    return captured(ict, f"original:{seed}", identity, recipe, np.random.default_rng([seed, 1]))


def captured(
    ict: IctModel,
    scan_id: str,
    identity: Array,
    recipe: Recipe,
    rng: np.random.Generator,
    micro: float = 0.0,
) -> Case:
    """A capture of an identity (100,), each expression's weight off by `micro`."""
    weights = dict(recipe.expression)
    for name in ict.expression_names if micro else ():
        weights[name] = weights.get(name, 0.0) + float(rng.normal(scale=micro))
    return scanned(scan_id, ict.head(ict.vertices(identity, weights), rng), recipe, rng)


def same_vertices(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """Written again, vertices in another order."""
    order = rng.permutation(len(mesh.vertices))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return replace(mesh, vertices=mesh.vertices[order], faces=place[mesh.faces])


def rounded(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """Text with two decimals, in millimetres."""
    return replace(same_vertices(mesh, rng), vertices=np.round(mesh.vertices, 2), faces=mesh.faces)


def cut(radius_mm: float) -> Callable[[Mesh, np.random.Generator], Mesh]:
    """A region around the tip of the nose."""

    def region(mesh: Mesh, rng: np.random.Generator) -> Mesh:
        mesh = same_vertices(mesh, rng)
        centres = mesh.vertices[mesh.faces].mean(1)
        near = np.linalg.norm(centres - mesh.nose, axis=1) < radius_mm
        vertices, faces = keep_triangles(mesh.vertices, mesh.faces, near)
        marks = mesh.marks.copy()
        marks[np.linalg.norm(marks - mesh.nose, axis=1) > radius_mm] = np.nan
        return replace(mesh, vertices=vertices, faces=faces, marks=marks)

    return region


def half(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    mesh = same_vertices(mesh, rng)
    centres = mesh.vertices[mesh.faces].mean(1)
    vertices, faces = keep_triangles(mesh.vertices, mesh.faces, centres[:, 0] > -5)
    marks = mesh.marks.copy()
    marks[marks[:, 0] < -5] = np.nan
    return replace(mesh, vertices=vertices, faces=faces, marks=marks)


def remeshed(triangles: int) -> Callable[[Mesh, np.random.Generator], Mesh]:
    def made(mesh: Mesh, rng: np.random.Generator) -> Mesh:
        vertices, faces = remesh(mesh.vertices, mesh.faces, triangles, rng)
        return replace(mesh, vertices=vertices, faces=faces)

    return made


def remeshed_region(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    return remeshed(30_000)(cut(95.0)(mesh, rng), rng)


COPIES: Mapping[str, Callable[[Mesh, np.random.Generator], Mesh]] = {
    "same vertices": same_vertices,
    "two decimals": rounded,
    "region of 95 mm": cut(95.0),
    "region of 75 mm": cut(75.0),
    "half": half,
    "100k triangles": remeshed(100_000),
    "20k triangles": remeshed(20_000),
    "region, re-meshed": remeshed_region,
}


def copied(ict: IctModel, case: Case, kind: str, rng: np.random.Generator) -> tuple[Scan, Array]:
    """The scan of `case` under another name, size (0.9 to 1.1), pose and annotator of landmarks;
    and what its vertices were moved by, (4,4)."""
    scan = case.scan
    marks = case.marks_mm + rng.normal(scale=MARK_NOISE_MM / np.sqrt(2), size=(68, 3))
    mesh = Mesh(np.float64(scan.vertices_mm), scan.faces, marks, np.float64(case.marks_mm[30]))
    mesh = COPIES[kind](mesh, rng)
    scale = rng.uniform(0.93, 1.07)
    moved = np.eye(4)
    moved[:3, :3] = scale * rotation_about(rng.normal(size=3), rng.uniform(0, np.pi))
    moved[:3, 3] = rng.normal(scale=100, size=3)
    vertices, marks = (x @ moved[:3, :3].T + moved[:3, 3] for x in (mesh.vertices, mesh.marks))
    name = f"copy:{case.scan.scan_id.split(':')[1]}"
    return scan_of(name, vertices.astype(np.float32), mesh.faces, marks, False), moved
