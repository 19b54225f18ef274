"""Views of a scan of 100k triangles on one core, against open3d and trimesh in the same run.

    python tests/benchmarks/views.py [--quick] [--json]

Preparing a mesh for rays; what each pixel of a 224 view shows, triangle ids and barycentric
coordinates, from the camera alone; which of 5,023 points are in sight; a whole render with a
texture of 4,096² and two lights that throw shadows, and one in grey. open3d's RaycastingScene and
trimesh's RayMeshIntersector are given the rays ready-made. The two must meet the same triangles.
CPU time, the best of the rounds, which take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from pipeline.registry.views import Views
from pipeline.types import Array
from pipeline.views.backgrounds import Background
from pipeline.views.camera import Camera
from pipeline.views.lights import Light, Lights, direction
from pipeline.views.raycasting import prepare
from pipeline.views.rendering import Surface, render, shaded, smooth_normals
from pipeline.views.sampling import camera_of, sample_recipe
from pipeline.views.textures import texture_of_image
from tests.referee import open3d_process

SIDE = 225
LIGHTS = Lights(
    (0.3, 0.3, 0.3),
    (Light(direction(-35, 30), (0.5,) * 3), Light(direction(50, 10), (0.3,) * 3)),
)
BACKGROUND = Background("noise", ((40, 60, 80), (200, 180, 160)), seed=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    one_core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {one_core})
    rows = run(3 if arguments.quick else 15)
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'':44}{'facefold ms':>12}{'open3d ms':>11}{'ratio':>7}{'trimesh ms':>12}{'ratio':>7}")
    for row in rows:
        shown = "".join(
            f"{row[f'{peer}_ms']:{width}.1f}{row['ms'] / row[f'{peer}_ms']:7.2f}"
            for peer, width in (("open3d", 11), ("trimesh", 12))
            if f"{peer}_ms" in row
        )
        print(f"{row['what']:44}{row['ms']:12.1f}{shown}")


def run(rounds: int) -> list[dict[str, Any]]:
    vertices, faces, uv = ball()
    camera = front_camera()
    caster, normals = prepare(vertices, faces), smooth_normals(vertices, faces)
    texture = np.random.default_rng(0).integers(0, 256, (4096, 4096, 3), dtype=np.uint8)
    surface = Surface(caster, normals, uv, texture_of_image(texture))
    points = vertices[np.random.default_rng(1).integers(len(vertices), size=5023)]
    ours = {
        "prepare": lambda: prepare(vertices, faces),
        "smooth normals": lambda: smooth_normals(vertices, faces),
        "224 view, ids and barycentric": lambda: caster.seen(camera),
        "5,023 points in sight": lambda: caster.in_sight(camera, points),
        "render, texture, two lights, shadows": lambda: render(surface, camera, LIGHTS, BACKGROUND),
        "grey render": lambda: shaded(caster, normals, camera),
    }
    directions = camera.rays(camera.pixels())
    origins = np.tile(camera.centre_mm, (len(directions), 1))
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    theirs = trimesh_jobs(mesh, origins, directions)
    best: dict[tuple[str, str], float] = {}

    def note(who: str, what: str, seconds: float) -> None:
        best[who, what] = min(seconds, best.get((who, what), np.inf))

    with open3d_process() as ask:
        for _ in range(rounds):
            for name, job in ours.items():
                note("ms", name, cpu_seconds(job))
            for name, job in theirs.items():
                note("trimesh_ms", name, cpu_seconds(job))
            seconds, triangles = ask(open3d_seconds, vertices, faces, origins, directions)
            for name, value in zip(theirs, seconds, strict=True):
                note("open3d_ms", name, value)
    same = (caster.seen(camera).triangle == triangles).mean()
    assert same > 0.999, f"only {same:.4f} of the pixels show the same triangle in open3d"
    return [
        {"what": what, **{who: 1e3 * s for (who, name), s in best.items() if name == what}}
        for what in ours
    ]


def cpu_seconds(job: Callable[[], Any]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def open3d_seconds(
    vertices: Array, faces: Array, origins: Array, directions: Array
) -> tuple[tuple[float, float], Array]:
    """Of preparing and casting, in open3d's process; and the triangles that the rays meet."""
    import open3d

    def prepared() -> Any:
        scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        scene.add_triangles(
            open3d.core.Tensor(vertices.astype(np.float32)),
            open3d.core.Tensor(faces.astype(np.uint32)),
        )
        scene.cast_rays(open3d.core.Tensor(np.ones((1, 6), np.float32)))  # has it build its tree
        return scene

    start = time.process_time()
    scene = prepared()
    middle = time.process_time()
    rays = open3d.core.Tensor(np.concatenate([origins, directions], 1).astype(np.float32))
    found = scene.cast_rays(rays, nthreads=1)
    numbers = found["primitive_ids"].numpy()
    end = time.process_time()
    triangles = np.where(numbers == scene.INVALID_ID, -1, numbers.astype(np.int64))
    return (middle - start, end - middle), triangles


def trimesh_jobs(
    mesh: trimesh.Trimesh, origins: Array, directions: Array
) -> dict[str, Callable[[], Any]]:
    """Its wrapper of the same Embree, with the barycentric coordinates that it computes itself."""
    scene = RayMeshIntersector(mesh)

    def prepared() -> None:
        RayMeshIntersector(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)).intersects_id(
            origins[:1], directions[:1]
        )

    def cast() -> None:
        triangle, _, places = scene.intersects_id(
            origins, directions, multiple_hits=False, return_locations=True
        )
        trimesh.triangles.points_to_barycentric(mesh.triangles[triangle], places)

    cast()
    return {"prepare": prepared, "224 view, ids and barycentric": cast}


def front_camera() -> Camera:
    section = Views(renders=1, yaw_deg=(20, 20), pitch_deg=(5, 5), distance_mm=(700, 700))
    return camera_of(sample_recipe(section, 0), np.zeros(3))


def ball() -> tuple[Array, Array, Array]:
    """(V,3) mm, (F,3), (F,3,2): a head-sized bumpy ball of 100,352 triangles with fine noise."""
    down, around = np.meshgrid(
        np.linspace(0, np.pi, SIDE), np.linspace(0, 2 * np.pi, SIDE), indexing="ij"
    )
    rough = np.random.default_rng(2).normal(scale=0.1, size=down.shape)
    radius = 95 + 5 * np.sin(7 * down) * np.cos(9 * around) + rough
    ring = radius * np.sin(down)
    vertices = np.stack([ring * np.cos(around), radius * np.cos(down), ring * np.sin(around)], -1)
    row, column = np.mgrid[: SIDE - 1, : SIDE - 1]
    a = (row * SIDE + column).ravel()
    faces = np.concatenate(
        [np.stack([a, a + 1, a + SIDE], 1), np.stack([a + SIDE, a + 1, a + SIDE + 1], 1)]
    )
    at = np.stack([around / (2 * np.pi), 1 - down / np.pi], axis=-1).reshape(-1, 2)
    return vertices.reshape(-1, 3), faces, at[faces].astype(np.float32)


if __name__ == "__main__":
    main()
