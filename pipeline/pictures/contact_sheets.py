"""Contact sheets: scans above their registrations and the distance between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.pictures.rendering import View, distance_colours, render, splats
from pipeline.pictures.sheets import save_grid
from pipeline.types import Array, Scan

SIZE = 320


class Shown(NamedTuple):
    """A scan with its registration, as it is drawn."""

    scan: Scan
    vertices_mm: Array
    distance_mm: Array
    valid: Array
    """Whether the scan has data at the vertex."""
    caption: str = ""


def save_registrations(path: Path, shown: Sequence[Shown], model: FlameModel) -> None:
    """One PNG, a column each, with the captions above them."""
    columns = [column(one, model) for one in shown]
    captions = [one.caption for one in shown if one.caption]
    save_grid(list(zip(*columns, strict=True)), path, captions)


def column(shown: Shown, model: FlameModel) -> list[Array]:
    """Scan, registration and distance map (pale 0, red 2 mm, grey where the scan has no data),
    each (SIZE,SIZE,3) uint8, to be shown below each other."""
    scan, vertices_mm = shown.scan, shown.vertices_mm
    face = vertices_mm[model.regions["face"]].mean(axis=0)
    view = View(yaw=25, height_mm=260, centre_mm=(float(face[0]), float(face[1]), float(face[2])))
    colours = distance_colours(np.where(shown.valid, shown.distance_mm, np.nan))
    return [
        render(scan.vertices_mm, scan.faces, view, SIZE)
        if len(scan.faces)
        else splats(scan.vertices_mm, scan.normals, view, SIZE),
        render(vertices_mm, model.faces, view, SIZE),
        render(vertices_mm, model.faces, view, SIZE, colours),
    ]
