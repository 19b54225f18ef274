"""What is behind a rendered scan: one colour, two that blend into each other, or smooth noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from pipeline.types import Array

Kind = Literal["plain", "gradient", "noise"]
GREY = (128, 128, 128)
SATURATION = 0.5
OCTAVES = (3, 6, 12, 24, 48)
"""Cells a side of the layers of noise; each is half as strong as the last."""


@dataclass(frozen=True)
class Background:
    kind: Kind
    colours: tuple[tuple[int, int, int], ...]
    """8-bit RGB: of a gradient at its start and end, of noise where it is weakest and strongest."""
    angle_deg: float = 0.0
    """Which way a gradient runs: 0 to the right, 90 down."""
    seed: int = 0
    """Of the noise."""

    def pixels(self, height: int, width: int) -> Array:
        """(height,width,3) uint8."""
        first, last = (np.array(self.colours[i], np.float64) for i in (0, -1))
        row, column = np.mgrid[:height, :width]
        share = np.zeros((height, width, 1))
        if self.kind == "gradient":
            angle = np.radians(self.angle_deg)
            along = (column + 0.5) / width * np.cos(angle) + (row + 0.5) / height * np.sin(angle)
            reach = max(float(np.ptp(along)), 1e-9)
            share = ((along - along.min()) / reach)[..., None]
        elif self.kind == "noise":
            share = noise(height, width, self.seed)
        pixels: Array = np.rint(first + share * (last - first)).astype(np.uint8)
        return pixels


def noise(height: int, width: int, seed: int) -> Array:
    """(height,width,3) 0 … 1: layers of random cells, blended (Perlin, SIGGRAPH 1985, in short)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for i, cells in enumerate(OCTAVES):
        layer = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC)) / 2.0**i
    return np.asarray(total / (255.0 * sum(0.5**i for i in range(len(OCTAVES)))))


def draw_background(kind: Literal["noise", "grey"], rng: np.random.Generator) -> Background:
    """Middle grey; or a plain colour in one of ten, a gradient in two of ten, else noise: its
    colours and its seed drawn."""
    if kind == "grey":
        return Background("plain", (GREY,))
    number, angle, seed = int(rng.integers(10)), float(rng.uniform(0, 360)), rng.integers(1 << 31)
    bright = rng.uniform(0, 255, (2, 1))
    first, last = colour(bright[0], rng), colour(bright[1], rng)
    if number == 0:
        return Background("plain", (first,))
    if number <= 2:
        return Background("gradient", (first, last), round(angle, 1))
    return Background("noise", (first, last), seed=int(seed))


def colour(grey: Array, rng: np.random.Generator) -> tuple[int, int, int]:
    """Between a grey (1,) and any colour, which few walls have."""
    red, green, blue = np.rint(grey + SATURATION * (rng.uniform(0, 255, 3) - grey)).tolist()
    return int(red), int(green), int(blue)
