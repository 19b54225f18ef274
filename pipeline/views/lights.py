"""Lights that move with the camera: far ones from given directions, and one from all around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.types import Array

Colour = tuple[float, float, float]
"""Red, green, blue; linear, not gamma-coded: twice the value is twice the light."""


@dataclass(frozen=True)
class Light:
    """A light far away."""

    towards: tuple[float, float, float]
    """From the surface to the light, unit length, in the camera's frame: +x right in the picture,
    +y down, +z away from the camera."""
    colour: Colour


@dataclass(frozen=True)
class Lights:
    """What a scan is lit by. White surfaces that return light of 1 are white in the picture."""

    ambient: Colour
    """From all sides."""
    far: tuple[Light, ...]
    shadows: bool = True
    """Do the far lights throw shadows? Large ones nearby hardly do."""

    def returned(self, normals: Array, open_to: Array) -> Array:
        """Of unit normals (N,3) in the camera's frame, of a white surface that scatters light
        evenly (Lambert): (N,3) linear. open_to (N,L): is each light seen, not in shadow?"""
        light = np.tile(np.asarray(self.ambient, np.float32), (len(normals), 1))
        for i, far in enumerate(self.far):
            facing = np.clip(normals @ np.asarray(far.towards, np.float32), 0, None)
            light += (facing * open_to[:, i])[:, None] * np.asarray(far.colour, np.float32)
        return light


def direction(right_deg: float, up_deg: float) -> tuple[float, float, float]:
    """Towards a light that stands so many degrees to the right of the camera and above it."""
    right, up = np.radians([right_deg, up_deg])
    x, y, z = np.sin(right) * np.cos(up), -np.sin(up), -np.cos(right) * np.cos(up)
    return float(x), float(y), float(z)


STUDIO = Lights(
    (0.3, 0.3, 0.3),
    (
        Light(direction(-35, 30), (0.55, 0.55, 0.55)),
        Light(direction(50, 10), (0.3, 0.3, 0.3)),
    ),
    shadows=False,
)
"""The same soft lights for all: a key light on the left above the camera, a fill on the right."""

AMBIENT = (0.2, 0.5)
EXPOSURE = (0.7, 1.1)
"""Of what faces the camera, in the open."""
TINT = 0.15
"""How far the colours of random lights are from grey."""
SHADOWS_SHARE = 0.7
"""Of random lights throw shadows."""


def draw_lights(kind: Literal["studio", "random"], rng: np.random.Generator) -> Lights:
    """The studio's, or lights drawn: one to three, up to 75° to a side and from 15° below the
    camera to 60° above it, each with a tint, and ambient light between AMBIENT of all."""
    if kind == "studio":
        return STUDIO
    n, ambient_share = int(rng.integers(1, 4)), rng.uniform(*AMBIENT)
    towards = [direction(rng.uniform(-75, 75), rng.uniform(-15, 60)) for _ in range(n)]
    tints = 1 + rng.uniform(-TINT, TINT, (n + 1, 3))
    strengths = rng.dirichlet(np.full(n, 2.0))
    # what faces the lights half has the exposure: a light from the side does not blind
    facing = sum(s * (0.5 - 0.5 * t[2]) for s, t in zip(strengths, towards, strict=True))
    exposure = rng.uniform(*EXPOSURE)
    strengths *= exposure * (1 - ambient_share) / max(float(facing), 0.3)
    lights = [
        Light(t, rounded(s * tint))
        for t, s, tint in zip(towards, strengths.tolist(), tints[1:], strict=True)
    ]
    shadows = bool(rng.random() < SHADOWS_SHARE)
    return Lights(rounded(exposure * ambient_share * tints[0]), tuple(lights), shadows)


def rounded(colour: Array) -> Colour:
    """As JSON is to show it."""
    red, green, blue = np.round(colour, 4).tolist()
    return red, green, blue
