"""Scans of the ICT-FaceKit morphable model whose true registration is known vertex by vertex.

Each vertex of FLAME's topology has a triangle and barycentric coordinates on the ICT mesh, so any
ICT face — 100 identity modes, more than the registered model's 40 — says where it belongs.
`RECIPES` names the cases; `make_case` makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cases import Case, Head, Recipe, scanned

from pipeline.types import Array


def both(**weights: float) -> dict[str, float]:
    """The same weight for the left and the right half of an expression."""
    return {f"{name}_{side}": value for name, value in weights.items() for side in "LR"}


RECIPES: Mapping[str, Recipe] = {
    "neutral": Recipe("neutral", 100),
    "smile": Recipe("expression", 101, both(mouthSmile=0.9, cheekSquint=0.5)),
    "open jaw": Recipe("expression", 102, {"jawOpen": 0.8}),
    "face only": Recipe("partial", 103, crop="face only"),
    "noisy": Recipe("neutral", 104, noise_mm=0.4, holes=6, hole_radius_mm=12.0),
    "mixed expression": Recipe(
        "expression",
        105,
        {**both(browOuterUp=0.8, mouthStretch=0.5, eyeSquint=0.6), "jawOpen": 0.3},
    ),
    "half face": Recipe("partial", 106, crop="left half"),
    "neutral 2": Recipe("neutral", 107),
    "neutral 3": Recipe("neutral", 108),
    "holes": Recipe("neutral", 109, holes=6, hole_radius_mm=12.0),
    "noise 1 mm": Recipe("noise", 110, noise_mm=1.0),
    "full smile": Recipe("expression", 111, both(mouthSmile=1.0, cheekSquint=1.0)),
    "jaw wide open": Recipe("expression", 112, {"jawOpen": 1.0}),
    "blink": Recipe("expression", 113, both(eyeBlink=1.0)),
    "puffed cheeks": Recipe("expression", 114, both(cheekPuff=1.0)),
    "kiss": Recipe("expression", 115, {"mouthPucker": 1.0}),
    "scream": Recipe(
        "expression", 116, {**both(browOuterUp=1.0, mouthStretch=1.0, eyeWide=1.0), "jawOpen": 1.0}
    ),
    "disgust": Recipe(
        "expression", 117, both(noseSneer=1.0, browDown=1.0, mouthUpperUp=1.0, cheekSquint=1.0)
    ),
    "wink": Recipe(
        "expression", 118, {"mouthSmile_L": 1.0, "eyeBlink_R": 1.0, "jawLeft": 1.0, "jawOpen": 0.5}
    ),
    "no back of head": Recipe("partial", 119, crop="no back"),
    "no neck": Recipe("partial", 120, crop="no neck"),
    "half face right": Recipe("partial", 121, crop="right half"),
    "face only open jaw": Recipe("partial", 122, {"jawOpen": 1.0}, crop="face only"),
    "shoulders": Recipe("clutter", 123, clutter="shoulders"),
    "hair": Recipe("clutter", 124, clutter="hair"),
    "islands": Recipe("clutter", 125, clutter="islands"),
    "5k triangles": Recipe("resolution", 126, triangles=5_000),
    "20k triangles": Recipe("resolution", 127, triangles=20_000),
    "100k triangles": Recipe("resolution", 128, triangles=100_000),
    "400k triangles": Recipe("resolution", 129, triangles=400_000),
    "start good": Recipe("start", 130, start="good"),
    "start 20° 25 mm off": Recipe("start", 130, start="off"),
    "no landmarks": Recipe("start", 131, landmarks=False),
    "turned without landmarks": Recipe("start", 132, turn_degrees=140.0),
}
CASES = tuple(RECIPES)
COARSE = Recipe("resolution", 133, triangles=3_000, crop="face only")
"""As old scans are; no part of CASES."""


@dataclass(frozen=True, eq=False)
class IctModel:
    neutral: Array  # (N,3) mm
    triangles: Array
    identity: Array  # (100,N,3)
    expression: Array  # (57,N,3)
    expression_names: list[str]
    landmarks68: Array
    region: Array
    triangle: Array  # (5023,) of FLAME's vertices
    barycentric: Array
    valid: Array

    @classmethod
    def load(cls, shared_data: Path) -> IctModel:
        ict = np.load(shared_data / "ict" / "ict_facekit_light.npz")
        flame = np.load(shared_data / "flame_ict" / "flame_in_ict.npz")
        return cls(
            neutral=ict["neutral"] * 10.0,
            triangles=ict["triangles"].astype(np.int64),
            identity=ict["identity_modes"] * 10.0,
            expression=ict["expression_modes"] * 10.0,
            expression_names=[str(n) for n in ict["expression_names"]],
            landmarks68=ict["landmarks68"],
            region=ict["region"],
            triangle=flame["triangle"],
            barycentric=flame["barycentric"],
            valid=flame["valid"],
        )

    def vertices(self, identity: Array, expression: Mapping[str, float]) -> Array:
        weights = np.zeros(len(self.expression))
        for name, value in expression.items():
            weights[self.expression_names.index(name)] = value
        return (
            self.neutral
            + np.tensordot(identity, self.identity, 1)
            + np.tensordot(weights, self.expression, 1)
        )

    def on_flame(self, vertices: Array) -> Array:
        """(N,3) ICT vertices -> (5023,3) FLAME's vertices, NaN where not valid."""
        points = np.einsum("vk,vkd->vd", self.barycentric, vertices[self.triangles[self.triangle]])
        points[~self.valid] = np.nan
        return points

    def head(self, vertices: Array, rng: np.random.Generator) -> Head:
        """(N,3) ICT vertices -> a face to scan, its landmarks with noise of .6 mm an axis."""
        marks = vertices[self.landmarks68] + rng.normal(scale=0.6, size=(68, 3))
        marks[:17] = np.nan
        skin = (self.region[self.triangles] < 2).all(1)
        nose, chin = vertices[self.landmarks68[[30, 8]]]
        return Head(vertices, self.triangles[skin], self.on_flame(vertices), marks, nose, chin)


def make_case(
    ict: IctModel, name: str, seed: int | None = None, turn_degrees: float | None = None
) -> Case:
    """One scan, its identity from a unit normal; `seed` and `turn_degrees` replace the recipe's."""
    recipe = {**RECIPES, "coarse face": COARSE}[name]
    rng = np.random.default_rng(recipe.seed if seed is None else seed)
    full = ict.vertices(rng.normal(size=100), recipe.expression)
    return scanned(f"ict:{name}", ict.head(full, rng), recipe, rng, turn_degrees)
