"""Registration methods under one signature: ours, and the published ones it is compared with.

A method is prepared once for a template and then called per case with the rigid start; it returns
what it found. The peers run with their default parameters, in millimetres, without landmarks.
`pip install '.[benchmark]'` installs them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from cases import Case, scan_of

from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import umeyama
from pipeline.registration import register
from pipeline.types import Array


@dataclass(frozen=True, eq=False)
class Found:
    """What a method made of a case."""

    vertices_mm: Array  # (V,3)
    validity: Array | None = None  # (V,) bool: the method says that the scan has data there
    explained_mm: Array | None = None
    """(V,3) what the method's model explains without free-form deformation."""
    status: str = "converged"
    reason: str = ""
    expected_mm: Array | None = None
    """(V,) the error that the method expects of each vertex."""


Method = Callable[[Case, Array], Found]
"""(case, start (4,4) from the template's rest frame to the scan) -> what it found."""


def facefold(model: FlameModel) -> Method:
    """Ours. A first scan, the template itself, pays for what is prepared once per template."""
    landmarks = model.landmarks
    assert landmarks is not None
    marks = np.full((68, 3), np.nan)
    marks[landmarks.indices_68] = landmarks.positions(model.template_mm, model.faces)
    register([scan_of("template", model.template_mm, model.faces, marks, oriented=True)], model)

    def run(case: Case, start: Array) -> Found:
        given = {} if case.start_error is None else {"starts": [start]}
        result = register([case.scan], model, **given)[0]
        explained = result.vertices_mm - result.offset_mm
        return Found(
            result.vertices_mm,
            result.validity,
            explained,
            result.status,
            result.reason,
            result.expected_error_mm,
        )

    return run


def meshmonk_pyramid(model: FlameModel) -> Method:
    """MeshMonk (White et al. 2019), its coarse-to-fine non-rigid registration."""
    import meshmonk

    def run(case: Case, start: Array) -> Found:
        result = meshmonk.pyramid_register(floating=placed(model, start), target=mesh_of(case))
        return Found(np.asarray(result.aligned_vertices, np.float64))

    return run


def amberg(model: FlameModel) -> Method:
    """Optimal-step non-rigid ICP (Amberg et al. 2007), trimesh's implementation."""

    def run(case: Case, start: Array) -> Found:
        return Found(trimesh.registration.nricp_amberg(placed(model, start), mesh_of(case)))

    return run


def sumner(model: FlameModel) -> Method:
    """Deformation transfer's correspondence step (Sumner, Popović 2004), trimesh's version."""

    def run(case: Case, start: Array) -> Found:
        return Found(trimesh.registration.nricp_sumner(placed(model, start), mesh_of(case)))

    return run


def rigid_icp(model: FlameModel) -> Method:
    """open3d's point-to-point ICP (Besl, McKay 1992), matches up to 20 mm: the rigid floor."""
    import open3d

    def cloud(points: Array) -> object:
        return open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))

    def run(case: Case, start: Array) -> Found:
        scan = np.asarray(case.scan.vertices_mm, np.float64)
        icp = open3d.pipelines.registration.registration_icp
        motion = icp(cloud(model.template_mm), cloud(scan), 20.0, start).transformation
        return Found(moved(model.template_mm, motion))

    return run


METHODS: Mapping[str, Callable[[FlameModel], Method]] = {
    "facefold": facefold,
    "meshmonk": meshmonk_pyramid,
    "amberg": amberg,
    "sumner": sumner,
    "open3d": rigid_icp,
}
PEERS = tuple(name for name in METHODS if name != "facefold")
NEEDS = {"meshmonk": "meshmonk", "amberg": "rtree", "sumner": "rtree", "open3d": "open3d"}


def missing(name: str) -> str:
    """Why a method cannot run here, "" where it can."""
    module = NEEDS.get(name)
    if module is None:
        return ""
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed: pip install 'facefold[benchmark]'"
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as fault:  # open3d needs libraries of a desktop system
        return f"{module} cannot be imported: {fault}"
    return ""


def landmark_start(model: FlameModel, case: Case) -> Array:
    """(4,4) lays the template's landmarks on the case's, without scale (Umeyama 1991)."""
    landmarks = model.landmarks
    assert landmarks is not None
    target = case.marks_mm[landmarks.indices_68]
    source = landmarks.positions(model.template_mm, model.faces)
    has = np.isfinite(target).all(1)
    rotation, shift = umeyama(torch.from_numpy(source[has]), torch.from_numpy(target[has]))
    start = np.eye(4)
    start[:3, :3], start[:3, 3] = rotation.numpy(), shift.numpy()
    return start if case.start_error is None else case.start_error @ start


def placed(model: FlameModel, start: Array) -> trimesh.Trimesh:
    return trimesh.Trimesh(moved(model.template_mm, start), model.faces, process=False)


def mesh_of(case: Case) -> trimesh.Trimesh:
    return trimesh.Trimesh(case.scan.vertices_mm, case.scan.faces, process=False)


def moved(points: Array, motion: Array) -> Array:
    return points @ motion[:3, :3].T + motion[:3, 3]
