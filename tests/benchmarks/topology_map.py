"""Maps between FLAME's topology and ICT's, whose correspondence is known (`flame_in_ict.npz`).

    python tests/benchmarks/topology_map.py [--quick] [--json] [--data FOLDER]

The model is registered to ICT's mean head and to people drawn from its identity modes, and both
ways of the map are compared with the truth, along the surface. FLAME's own mean head, as a bare
template, stands for a model that knows nothing of these people. The peer takes the closest points
of the two heads laid onto each other rigidly by their landmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from pipeline.build.given_files import axes_from
from pipeline.build.map_topology import IBUG_68, options_for
from pipeline.flame.assets import load_model
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import umeyama
from pipeline.normalise import normalise
from pipeline.normalise.scan import transform
from pipeline.registration import register
from pipeline.registration.topology_map import TopologyMap, carried, topology_map
from pipeline.types import Array, RawScan, Registration


def off_mm(found: TopologyMap, points: Array, truth: Array, known: Array) -> dict[str, Array]:
    """Of each way the distance of vertices to where they belong, along the surface."""
    at = carried(points, found.to_other, found.other_faces)
    own = found.to_other.valid & known
    back = carried(truth, found.to_model, found.model_faces) - points
    normals = vertex_normals(torch.from_numpy(points), torch.from_numpy(found.other_faces)).numpy()
    along = back - (back * normals).sum(1, keepdims=True) * normals
    other = found.to_model.valid & known[found.model_faces[found.to_model.triangle]].all(1)
    return {
        "model_to_mesh": np.linalg.norm(at - truth, axis=1)[own],
        "mesh_to_model": np.linalg.norm(along, axis=1)[other],
    }


def rigidly(registered: Registration, model: Any, marks: Array) -> Registration:
    """The model's mean head laid onto the mesh by landmarks."""
    own = torch.from_numpy(model.landmarks.positions_68(model.template_mm, model.faces))
    rotation, shift = umeyama(own, torch.from_numpy(marks))
    moved = torch.from_numpy(model.template_mm) @ rotation.mT + shift
    every = np.ones(len(moved), bool)
    fields = vars(registered) | {"vertices_mm": moved.float().numpy(), "validity": every}
    return Registration(**fields)


MODELS = {"flame_ict": "flame_ict/flame_ict.npz", "bare FLAME": "flame/head_template.obj"}


def measured(data: Path, name: str, seed: int | None) -> list[dict[str, Any]]:
    model = load_model(data / MODELS[name], data / "flame" / "landmark_embedding.npy")
    held = np.load(data / "ict" / "ict_facekit_light.npz")
    places = np.load(data / "flame_ict" / "flame_in_ict.npz")
    vertices, faces = held["neutral"].astype(np.float64), held["triangles"].astype(np.int64)
    if seed is not None:
        weights = np.random.default_rng(seed).normal(0, 0.7, 40)
        vertices = vertices + np.einsum("k,kvd->vd", weights, held["identity_modes"][:40])
    raw, marks = RawScan(vertices, faces), vertices[held["landmarks68"]]
    axes = axes_from("up=+y,forward=+z")
    scan = normalise(raw, scan_id="ict", unit="cm", axes=axes, landmarks=marks, scheme=IBUG_68)
    began = time.process_time()
    [registered] = register([scan], model, options_for(model))
    points = transform(scan.source_to_canonical, vertices)
    truth = (points[faces[places["triangle"]]] * places["barycentric"][..., None]).sum(1)
    found = topology_map(model, registered, points, faces)
    spent = time.process_time() - began
    peer = rigidly(registered, model, transform(scan.source_to_canonical, marks))
    plain = off_mm(topology_map(model, peer, points, faces), points, truth, places["valid"])
    rows = []
    for way, off in off_mm(found, points, truth, places["valid"]).items():
        median = float(np.median(off))
        rows.append(
            {
                "model": name,
                "head": "mean" if seed is None else f"person {seed}",
                "way": way,
                "vertices": len(off),
                "median_mm": median,
                "p95_mm": float(np.quantile(off, 0.95)),
                "rigid_median_mm": float(np.median(plain[way])),
                "rigid_over_own": float(np.median(plain[way])) / median,
                "seconds": spent,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer people")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    default = os.environ.get("FACEFOLD_SHARED_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    given = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [None, *range(1, 3 if given.quick else 9)]
    rows = [row for name in MODELS for seed in seeds for row in measured(given.data, name, seed)]
    if given.json:
        print(json.dumps({"rows": rows}))
        return
    for r in rows:
        print(
            f"{r['model']:10} {r['head']:9} {r['way']}: {r['vertices']:,} vertices, median "
            f"{r['median_mm']:.3f} p95 {r['p95_mm']:.3f} mm; rigidly {r['rigid_median_mm']:.2f} "
            f"mm, {r['rigid_over_own']:.1f} × ours; {r['seconds']:.1f} s"
        )


if __name__ == "__main__":
    main()
