"""Contact sheets: scans beside their registrations and the distance between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.catalogue import catalogue
from pipeline.config import BuildConfig
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.normalise import read_record
from pipeline.registry import load_registry
from pipeline.store import open_store
from pipeline.store.packing import unpack_validity
from pipeline.trial import Tried
from pipeline.types import Array, Scan
from pipeline.views import View, distance_colours, render, save_grid, splats

SIZE = 320
SHOWN = 12
"""As many of a trial are drawn."""
CAPTION = 48
"""As many letters are as wide as a picture."""


def save_pictures(folder: Path, config: BuildConfig, store: Path, columns: int = 4) -> list[str]:
    """One PNG a source, of the first scans that the store kept."""
    opened, model = open_store(store), load_model(config.model, config.embedding)
    manifest = opened.manifest.select(["source", "scan_id"]).to_pylist()
    written = []
    for entry in config.sources:
        registry = load_registry(entry.registry)
        records = {r.scan_id: r for r in catalogue(registry, entry.root, hashes=False).records}
        rows = [i for i, row in enumerate(manifest) if row["source"] == registry.id][:columns]
        pictures: list[list[Array]] = []
        for i in rows:
            vertices, distance, packed = (
                opened.read(name, np.array([i]))[0]
                for name in ("vertices_mm", "distance_mm", "validity")
            )
            valid = unpack_validity(packed, len(vertices))
            scan = read_record(records[manifest[i]["scan_id"]], registry)
            pictures.append(column(scan, model, vertices, distance, valid))
        if pictures:
            path = folder / f"{registry.id}.png"
            save_grid(list(zip(*pictures, strict=True)), path)
            written.append(str(path))
    return written


def save_trial(path: Path, tried: Sequence[Tried], model: FlameModel) -> bool:
    """A PNG of the first scans that were registered, in order; whether there was one."""
    pictures, captions = [], []
    for one in tried:
        if one.scan is not None and (fit := one.registration) is not None:
            arrays = (fit.vertices_mm, fit.distance_mm, fit.validity)
            pictures.append(column(one.scan, model, *arrays))
            captions.append(f"{one.scan_id[-CAPTION:]}\n{one.verdict}")
        if len(pictures) == SHOWN:
            break
    if pictures:
        save_grid(list(zip(*pictures, strict=True)), path, captions)
    return bool(pictures)


def column(
    scan: Scan, model: FlameModel, vertices_mm: Array, distance_mm: Array, valid: Array
) -> list[Array]:
    """Scan, registration and distance map (pale 0, red 2 mm, grey where the scan has no data),
    each (SIZE,SIZE,3) uint8, to be shown below each other."""
    face = vertices_mm[model.regions["face"]].mean(axis=0)
    view = View(yaw=25, height_mm=260, centre_mm=(float(face[0]), float(face[1]), float(face[2])))
    colours = distance_colours(np.where(valid, distance_mm, np.nan))
    return [
        render(scan.vertices_mm, scan.faces, view, SIZE)
        if len(scan.faces)
        else splats(scan.vertices_mm, scan.normals, view, SIZE),
        render(vertices_mm, model.faces, view, SIZE),
        render(vertices_mm, model.faces, view, SIZE, colours),
    ]
