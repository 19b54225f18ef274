"""Contact sheets: each source's scans beside their registrations and the distance between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.catalogue import catalogue
from pipeline.config import BuildConfig
from pipeline.flame.assets import load_model
from pipeline.normalise import read_record
from pipeline.registry import load_registry
from pipeline.store import open_store
from pipeline.store.packing import unpack_validity
from pipeline.types import Array
from pipeline.views import View, distance_colours, render, save_grid

SIZE = 320


def save_pictures(folder: Path, config: BuildConfig, store: Path, columns: int = 4) -> list[str]:
    """One PNG a source: below each of the first scans kept its registration and distance map
    (pale 0, red 2 mm, grey where the scan has no data)."""
    opened, model = open_store(store), load_model(config.model, config.embedding)
    manifest = opened.manifest.select(["source", "scan_id"]).to_pylist()
    written = []
    for entry in config.sources:
        registry = load_registry(entry.registry)
        records = {r.scan_id: r for r in catalogue(registry, entry.root, hashes=False).records}
        rows = [i for i, row in enumerate(manifest) if row["source"] == registry.id][:columns]
        pictures: list[list[Array]] = []
        for i in rows:
            scan = read_record(records[manifest[i]["scan_id"]], registry)
            vertices, distance, packed = (
                opened.read(name, np.array([i]))[0]
                for name in ("vertices_mm", "distance_mm", "validity")
            )
            distance[~unpack_validity(packed, len(vertices))] = np.nan
            face = vertices[model.regions["face"]].mean(axis=0)
            view = View(
                yaw=25, height_mm=260, centre_mm=(float(face[0]), float(face[1]), float(face[2]))
            )
            pictures.append(
                [
                    render(scan.vertices_mm, scan.faces, view, SIZE),
                    render(vertices, model.faces, view, SIZE),
                    render(vertices, model.faces, view, SIZE, distance_colours(distance)),
                ]
            )
        if pictures:
            path = folder / f"{registry.id}.png"
            save_grid(list(zip(*pictures, strict=True)), path)
            written.append(str(path))
    return written
