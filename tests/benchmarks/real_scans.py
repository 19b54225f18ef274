"""Real scans through the public commands: `facefold register` on each, then one `facefold build`.

python tests/benchmarks/real_scans.py [--quick] [--json] [--out DIR] [--shared-data DIR]
Registers the flame-fitting scan (metres, 51 landmarks), james (millimetres, 68) and the four
scalismo faces (no landmarks, any pose) with the ICT-based model and with the bare FLAME template;
builds a store of these scans and 40 ICT faces written as OBJ in centimetres; draws every result.
Distances: scan points within 80 mm of the nose tip to the registered mesh, millimetres.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
import yaml
from ict_cases import IctModel
from open_models import MODELS, add_shared_data, open_model
from remeshing import keep_triangles, random_split

from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.formats import format_of, read_scan
from pipeline.geometry.closest import SurfaceIndex
from pipeline.pictures.rendering import View, render
from pipeline.pictures.sheets import save_grid
from pipeline.store import open_store
from pipeline.types import Array

SCALISMO = ("01", "02", "06", "14")
EXPRESSIONS: tuple[dict[str, float], ...] = (
    {},
    {"mouthSmile_L": 0.8, "mouthSmile_R": 0.8},
    {"jawOpen": 0.6},
    {"browOuterUp_L": 0.7, "browOuterUp_R": 0.7},
)
NAMES = ("neutral", "smile", "open", "brows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one model, 8 ICT faces")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "facefold_real")
    add_shared_data(parser)
    arguments = parser.parse_args()
    data, out = arguments.shared_data.resolve(), arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    names = ["flame_ict"] if arguments.quick else list(MODELS)
    rows = [row for n in names for row in register_all(data, out, n, data / MODELS[n])]
    built = build_all(data, out, 8 if arguments.quick else 40)
    if arguments.json:
        print(json.dumps({"register": rows, "build": built}))
        return
    for row in rows:
        print(
            "  ".join(
                f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
    print(json.dumps(built, indent=1))
    print(f"pictures: {out / 'pictures'}")


def facefold(*arguments: object) -> Any:
    """The command's JSON; its own messages go to stderr."""
    command = [sys.executable, "-m", "flows.terminal.command", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 3):
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def register_all(data: Path, out: Path, name: str, model_path: Path) -> list[dict[str, Any]]:
    scans = data / "scans"
    embedding = data / "flame" / "landmark_embedding.npy"
    calls = [
        ([scans / "flame_fitting" / "scan.obj"], ["--landmarks", "{stem}_lmks.npy"]),
        ([scans / "james" / "james.obj"], ["--landmarks", "{stem}.ljson"]),
        ([scans / "scalismo_faces" / f"{n}.stl" for n in SCALISMO], []),
    ]
    model = load_model(model_path, embedding)
    rows = []
    for paths, extra in calls:
        given = ["--model", model_path, "--embedding", embedding, "--out", out / name, *extra]
        for path, report in zip(paths, facefold("register", *paths, *given), strict=True):
            rows.append({"model": name, **measured(path, report, model)})
            if report["mesh"]:
                draw(path, report, model, out / "pictures" / f"{name}_{path.stem}.png")
    return rows


def measured(path: Path, report: dict[str, Any], model: FlameModel) -> dict[str, Any]:
    row = {
        "scan": path.name,
        "unit": report["unit"],
        "status": report["status"],
        "reason": report["reason"],
    }
    if not report["mesh"]:
        return row
    scan = read_scan(path, format_of(path)).vertices * report["unit_factor_mm"]
    vertices = registered(report)
    near = scan[np.linalg.norm(scan - nose_tip(vertices, model), axis=1) < 80]
    distance = SurfaceIndex(vertices, model.faces).query(near).distance
    return row | {
        "verdict": report["quality"]["verdict"],
        "median_mm": float(np.median(distance)),
        "mean_mm": float(distance.mean()),
        "p95_mm": float(np.percentile(distance, 95)),
        "flipped": report["quality"]["flipped_triangles"],
        "outer_eye_mm": report["quality"]["outer_eye_mm"],
        "seconds": report["timings_s"]["register"],
    }


def registered(report: dict[str, Any]) -> Array:
    mesh = trimesh.load(report["mesh"], process=False, maintain_order=True)
    return np.asarray(mesh.vertices)


def nose_tip(vertices: Array, model: FlameModel) -> Array:
    assert model.landmarks is not None
    return model.landmarks.positions(vertices, model.faces)[model.landmarks.indices_68 == 30][0]


def draw(path: Path, report: dict[str, Any], model: FlameModel, picture: Path) -> None:
    """Scan and result from three sides, both turned to the template's pose."""
    raw = read_scan(path, format_of(path))
    vertices = registered(report)
    rotation, shift = rigid(vertices, model.template_mm)
    x, y, z = nose_tip(vertices @ rotation.T + shift, model).tolist()
    views = [View(yaw, 0, 260, (x, y, z - 60)) for yaw in (0, 45, 90)]
    meshes = [(raw.vertices * report["unit_factor_mm"], raw.faces), (vertices, model.faces)]
    rows = [[render(v @ rotation.T + shift, f, view, 320) for view in views] for v, f in meshes]
    save_grid(rows, picture)


def rigid(a: Array, b: Array) -> tuple[Array, Array]:
    """Rotation and shift that lay (N,3) a on b best (Umeyama 1991, scale 1)."""
    u, _, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    return rotation, b.mean(0) - rotation @ a.mean(0)


def build_all(data: Path, out: Path, n: int) -> dict[str, Any]:
    """A store of the real scans and `n` ICT faces; error of the latter against their truth."""
    truth = write_ict_faces(data, out / "ict_faces", n)
    sources = [
        source(out, "ict_faces", r"(?P<subject>p\d+)_(?P<expression>\w+)\.obj", "obj", "cm",
               "{stem}.npy", "ibug68", out / "ict_faces"),
        source(out, "flame_fitting", r"(?P<subject>scan)\.obj", "obj", "m",
               "{stem}_lmks.npy", "ibug51", data / "scans" / "flame_fitting"),
        source(out, "james", r"(?P<subject>james)\.obj", "obj", "mm",
               "{stem}.ljson", "menpo68", data / "scans" / "james"),
        source(out, "scalismo", r"(?P<subject>\d\d)\.stl", "stl", "mm", None, None,
               data / "scans" / "scalismo_faces"),
    ]  # fmt: skip
    config = {
        "store": "real.zarr",
        "model": str(data / "flame_ict" / "flame_ict.npz"),
        "embedding": str(data / "flame" / "landmark_embedding.npy"),
        "sources": sources,
    }
    (out / "build.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    summary = facefold("build", out / "build.yaml")
    return summary | ict_errors(Path(summary["store"]), truth, data)


def source(
    out: Path,
    name: str,
    pattern: str,
    scan_format: str,
    unit: str,
    landmarks: str | None,
    scheme: str | None,
    root: Path,
) -> dict[str, str]:
    """Writes a registry as a user would, and returns its entry of the build file."""
    registry = {
        "id": name,
        "title": name,
        "version": "1",
        "verified": True,
        "licence": {
            "name": "research",
            "url": "https://example.org",
            "redistribution": False,
            "commercial": False,
        },
        "citation": "none",
        "access": "local",
        "metric": True,
        "scans": {
            "include": [f"*.{scan_format}"],
            "name": pattern,
            "companions": ["*.mtl", "*.jpg"],
        },
        "format": scan_format,
        "unit": unit,
        "axes": {"up": "+y", "forward": "+z"} if landmarks else "unknown",
        "landmarks": {
            "file": landmarks,
            "format": Path(landmarks).suffix[1:],
            "scheme": scheme,
            "required": True,
        }
        if landmarks
        else "none",
        "neutral": ["neutral"] if "expression" in pattern else "all",
    }
    path = out / f"{name}.yaml"
    path.write_text(yaml.safe_dump(registry, sort_keys=False))
    return {"registry": path.name, "root": str(root)}


def write_ict_faces(data: Path, folder: Path, n: int) -> dict[str, Array]:
    """OBJ files in centimetres, 68 landmarks each; scan id -> truth (5023,3) mm, NaN if unknown."""
    folder.mkdir(parents=True, exist_ok=True)
    ict = IctModel.load(data)
    truth = {}
    for i in range(n):
        rng = np.random.default_rng(1000 + i)
        kind = i % len(EXPRESSIONS)
        full = ict.vertices(rng.normal(size=100), EXPRESSIONS[kind])
        skin = (ict.region[ict.triangles] < 2).all(1)
        vertices, faces = random_split(*keep_triangles(full, ict.triangles, skin), rng)
        vertices = vertices + rng.normal(scale=0.1, size=vertices.shape)
        marks = full[ict.landmarks68] + rng.normal(scale=0.6, size=(68, 3))
        name = f"p{i:03}_{NAMES[kind]}"
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices / 10]
        lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
        (folder / f"{name}.obj").write_text("\n".join(lines) + "\n")
        np.save(folder / f"{name}.npy", marks / 10)
        truth[f"ict_faces:{name}"] = ict.on_flame(full)
    return truth


def ict_errors(store: Path, truth: dict[str, Array], data: Path) -> dict[str, Any]:
    opened = open_store(store)
    model = open_model(data, "flame_ict")
    face = model.regions["face"]
    errors = []
    for row, scan_id in enumerate(opened.manifest["scan_id"].to_pylist()):
        if scan_id in truth:
            vertices = opened.read("vertices_mm", np.array([row]))[0]
            error = np.linalg.norm(vertices - truth[scan_id], axis=1)[face]
            errors.append(error[np.isfinite(error)])
    return {
        "ict_kept": len(errors),
        "ict_mean_mm": float(np.mean([e.mean() for e in errors])),
        "ict_p95_mm": float(np.mean([np.percentile(e, 95) for e in errors])),
        "ict_worst_mean_mm": float(max(e.mean() for e in errors)),
    }


if __name__ == "__main__":
    main()
