"""A second family of faces whose true registration is known, which no model's basis explains.

FLAME's mean head, deformed by fields and a rig of its own. `RECIPES` names the cases; `make_case`
makes one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import trimesh
from cases import Case, Head, Recipe, scanned
from second_head import N_HEAD, MeanHead
from second_identity import displaced
from second_rig import INNER_LIPS, eye_centres, gap, posed, weight_for
from trimesh.ray.ray_pyembree import RayMeshIntersector

from pipeline.flame.visibility import seen_share
from pipeline.geometry.mesh import triangle_normals
from pipeline.types import Array

SEEN_SHARE, DIRECTIONS = 0.08, 48
"""Share of the directions in front of a vertex that must see it for it to be on the scan."""
LANDMARK_NOISE_MM = 0.6
"""Standard deviation an axis."""

STANDARD: Mapping[str, Recipe] = {
    "neutral": Recipe("neutral", 9000),
    "neutral 2": Recipe("neutral", 9001),
    "neutral 3": Recipe("neutral", 9002),
    "smile": Recipe("expression", 9003, {"smile": 1.0}),
    "open jaw": Recipe("expression", 9004, {"open jaw": 0.8}),
    "mixed expression": Recipe(
        "expression",
        9005,
        {
            "brows up": 0.8,
            "smile": 0.4,
            "open jaw": 0.3,
            "mouth to the left": 0.4,
            "shut lids": 0.3,
        },
    ),
    "face only": Recipe("partial", 9006, crop="face only"),
    "half face": Recipe("partial", 9007, crop="left half"),
    "noisy": Recipe("neutral", 9008, noise_mm=0.4, holes=6, hole_radius_mm=12.0),
}
CONTROLS: Mapping[str, Recipe] = {
    "lips shut": Recipe("lips", 9020, holes=0),
    **{
        f"lips {mm} mm apart": Recipe("lips", 9020 + mm, {"lips apart": float(mm)}, holes=0)
        for mm in (2, 5, 10)
    },
    "lids shut": Recipe("lids", 9040, {"shut lids": 1.0}, holes=0),
    "lids half open": Recipe("lids", 9041, {"shut lids": 0.5}, holes=0),
    "lids wide open": Recipe("lids", 9042, {"shut lids": -0.4}, holes=0),
}
COARSE = Recipe("resolution", 9060, triangles=3_000, crop="face only")
RECIPES: Mapping[str, Recipe] = {**STANDARD, **CONTROLS, "coarse face": COARSE}


def make_case(
    family: MeanHead,
    name: str,
    seed: int | None = None,
    turn_degrees: float | None = None,
    eyeballs: bool = False,
) -> Case:
    """One scan of a random person; `seed` and `turn_degrees` replace the recipe's.

    Skin alone, unless `eyeballs` are to show between the lids. Truth is NaN for the eyeballs, the
    sockets and the inside of mouth and nose.
    """
    recipe = RECIPES[name]
    rng = np.random.default_rng(recipe.seed if seed is None else seed)
    identity = displaced(family.vertices, rng)
    head = face_of(family, identity, recipe.expression, rng, eyeballs)
    return scanned(f"second:{name}", head, recipe, rng, turn_degrees)


def face_of(
    family: MeanHead,
    identity: Array,
    expression: Mapping[str, float],
    rng: np.random.Generator,
    eyeballs: bool = False,
) -> Head:
    """(H,3) a person at rest, and an expression -> a face to scan."""
    vertices = posed(family, identity, with_jaw(family, identity, expression))
    on_flame = family.on_flame(vertices, eye_centres(family, identity))
    seen = seen_share(on_flame, family.model.faces, DIRECTIONS) >= SEEN_SHARE
    finer = np.concatenate([seen[:N_HEAD], seen[family.edges].any(1)])
    faces = family.faces[finer[family.faces].all(1)]
    if eyeballs:
        bare = bare_eyeballs(family, on_flame) + len(vertices) - N_HEAD
        faces = np.concatenate([faces, bare])
    marks = family.landmarks(vertices)
    noisy = marks + rng.normal(scale=LANDMARK_NOISE_MM, size=marks.shape)
    chin = vertices[chin_vertex(family)]
    truth = np.where(family.skin[:, None], on_flame, np.nan)
    return Head(np.concatenate([vertices, on_flame[N_HEAD:]]), faces, truth, noisy, marks[30], chin)


def bare_eyeballs(family: MeanHead, on_flame: Array) -> Array:
    """(K,3) triangles of the eyeballs which look forward, no lid before them."""
    flame = family.model.faces
    balls = flame[(flame >= N_HEAD).all(1)]
    normals = triangle_normals(on_flame, balls).T
    skin = trimesh.Trimesh(on_flame, flame[(flame < N_HEAD).all(1)], process=False)
    covered = RayMeshIntersector(skin).intersects_any(on_flame[balls].mean(1), normals)
    return balls[~covered & (normals[:, 2] > 0)]


def with_jaw(
    family: MeanHead, identity: Array, expression: Mapping[str, float]
) -> dict[str, float]:
    """ "lips apart", in mm beyond what the shut lips' landmarks are, as a weight of "open jaw"."""
    given = dict(expression)
    if "lips apart" not in given:
        return given
    wanted = given.pop("lips apart")

    def gap_of(jaw: float) -> float:
        vertices = posed(family, identity, {**given, "open jaw": jaw})
        return gap(family.landmarks(vertices), INNER_LIPS)

    return {**given, "open jaw": weight_for(gap_of, gap_of(0.0) + wanted, 0.0, 1.0)}


def chin_vertex(family: MeanHead) -> int:
    """The lowest of the chin's front."""
    x, y, z = family.vertices[:N_HEAD].T
    return int(np.where((np.abs(x) < 6) & (z > 50), y, np.inf).argmin())
