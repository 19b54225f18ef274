"""Contact sheets of registrations painted with their true error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from cases import Case
from peers import Found
from PIL import Image, ImageDraw

from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import umeyama
from pipeline.pictures.rendering import View, distance_colours, render
from pipeline.pictures.sheets import save_grid
from pipeline.types import Array

LIMIT_MM, NO_DATA_LIMIT_MM = 3.0, 10.0
VIEWS = tuple(View(yaw, 0, 360.0, (0.0, -15.0, 20.0)) for yaw in (0, 90, -90))
ROWS = 4


def draw_heat_maps(found: Mapping[str, tuple[Case, Found]], model: FlameModel, out: Path) -> None:
    """A row a case: the scan, then the result from the front and both sides.

    Pale is no error, red LIMIT_MM or more; blue NO_DATA_LIMIT_MM or more where the scan has no
    data; grey has no truth.
    """
    rows = [row_of(name, case, result, model) for name, (case, result) in found.items()]
    for first in range(0, len(rows), ROWS):
        save_grid(rows[first : first + ROWS], out / f"errors_{first // ROWS + 1}.png")


def row_of(name: str, case: Case, found: Found, model: FlameModel) -> list[Array]:
    known = case.known
    turned, rest = (torch.from_numpy(x[known]) for x in (case.truth_mm, model.template_mm))
    rotation, shift = (t.numpy() for t in umeyama(turned.double(), rest))
    vertices = found.vertices_mm @ rotation.T + shift
    error = np.linalg.norm(found.vertices_mm - case.truth_mm, axis=1)
    paint = distance_colours(error, LIMIT_MM)
    guessed = known & ~case.supported
    paint[guessed] = distance_colours(error[guessed], NO_DATA_LIMIT_MM)[:, ::-1]
    scan = render(case.scan.vertices_mm @ rotation.T + shift, case.scan.faces, VIEWS[0], 360)
    pictures = [render(vertices, model.faces, view, 360, paint) for view in VIEWS]
    return [titled(scan, f"{name}: {found.status}"), *pictures]


def titled(picture: Array, title: str) -> Array:
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((8, 6), title, fill=(0, 0, 0), font_size=16)
    return np.asarray(image)
