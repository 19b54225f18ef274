"""open3d's answers to what facefold computes itself, from a process of its own.

A process forked after open3d's import hangs, and other tests fork: so it is imported there alone.
The functions run in that process and take and return numpy arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from pipeline.types import Array

Ask = Callable[..., Any]
"""Calls one of the functions below, with its arguments, in open3d's process."""


@contextmanager
def open3d_process() -> Iterator[Ask]:
    """Raises ImportError or OSError where open3d or one of its system libraries is missing."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(version).result()
        yield lambda function, *given: pool.submit(function, *given).result()


def version() -> str:
    import open3d

    return str(open3d.__version__)


class OnSurface(NamedTuple):
    points: Array  # (N,3)
    triangles: Array  # (N,)
    barycentric: Array  # (N,3)


def closest_points(vertices: Array, faces: Array, queries: Array) -> OnSurface:
    """(V,3), (F,3), (N,3) -> the closest point of the surface to each query, in float32."""
    import open3d

    asked = open3d.core.Tensor(queries.astype(np.float32))
    found = scene_of(vertices, faces).compute_closest_points(asked)
    return OnSurface(
        found["points"].numpy(),
        found["primitive_ids"].numpy().astype(np.int64),
        barycentric_of(found["primitive_uvs"].numpy()),
    )


class Hits(NamedTuple):
    distance: Array  # (N,) infinite where nothing is hit
    triangles: Array  # (N,) −1 there
    barycentric: Array  # (N,3)


def first_hits(vertices: Array, faces: Array, origins: Array, directions: Array) -> Hits:
    """(V,3), (F,3), (N,3), (N,3) unit -> the first triangle that each ray meets, in float32."""
    import open3d

    rays = open3d.core.Tensor(np.concatenate([origins, directions], 1).astype(np.float32))
    found = scene_of(vertices, faces).cast_rays(rays)
    distance = found["t_hit"].numpy()
    triangles = np.where(np.isfinite(distance), found["primitive_ids"].numpy().astype(np.int64), -1)
    return Hits(distance, triangles, barycentric_of(found["primitive_uvs"].numpy()))


def nearest_points(points: Array, queries: Array) -> tuple[Array, Array]:
    """(M,3), (N,3) -> (N,) distances and (N,) indices of the nearest points, in float64."""
    import open3d

    search = open3d.core.nns.NearestNeighborSearch(open3d.core.Tensor(points))
    search.knn_index()
    index, square = search.knn_search(open3d.core.Tensor(queries), 1)
    return np.sqrt(square.numpy()[:, 0]), index.numpy()[:, 0]


def mesh_normals(vertices: Array, faces: Array) -> Array:
    """(V,3), (F,3) -> (V,3) float64 unit normals of vertices."""
    import open3d

    utility = open3d.utility
    mesh = open3d.geometry.TriangleMesh(
        utility.Vector3dVector(vertices), utility.Vector3iVector(faces.astype(np.int32))
    )
    mesh.compute_vertex_normals()
    return np.array(mesh.vertex_normals)


def point_normals(points: Array, neighbours: int) -> Array:
    """(N,3) -> (N,3) float64 unit normals of planes through each point's neighbours, either way."""
    import open3d

    cloud = cloud_of(points)
    # its fast way is a closed form that loses digits
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(neighbours), False)
    return np.array(cloud.normals)


def rigid_fit(source: Array, target: Array) -> Array:
    """(N,3), (N,3) in correspondence -> (4,4) source_to_target, without scale."""
    import open3d

    pairs = np.repeat(np.arange(len(source))[:, None], 2, 1).astype(np.int32)
    method = open3d.pipelines.registration.TransformationEstimationPointToPoint(False)
    return np.array(
        method.compute_transformation(
            cloud_of(source), cloud_of(target), open3d.utility.Vector2iVector(pairs)
        )
    )


def icp(source: Array, target: Array, start: Array, reach: float, steps: int) -> Array:
    """(N,3), (M,3), (4,4) -> (4,4) source_to_target after point-to-point ICP of pairs in reach."""
    import open3d

    methods = open3d.pipelines.registration
    done = methods.registration_icp(
        cloud_of(source),
        cloud_of(target),
        reach,
        start,
        methods.TransformationEstimationPointToPoint(False),
        methods.ICPConvergenceCriteria(0.0, 0.0, steps),
    )
    return np.array(done.transformation)


def scene_of(vertices: Array, faces: Array) -> Any:
    import open3d

    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        open3d.core.Tensor(vertices.astype(np.float32)), open3d.core.Tensor(faces.astype(np.uint32))
    )
    return scene


def cloud_of(points: Array) -> Any:
    import open3d

    return open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))


def barycentric_of(uv: Array) -> Array:
    """(N,2) of the second and third corner -> (N,3)."""
    return np.concatenate([1 - uv.sum(1, keepdims=True), uv], 1)
