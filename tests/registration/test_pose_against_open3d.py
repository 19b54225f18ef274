"""The pose that is found on real scans without landmarks: open3d's ICP stays there, and comes there
from their landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.build.given_files import Declared, Request, read_request
from pipeline.flame.model import FlameModel
from pipeline.landmarks.schemes import to_68
from pipeline.registration.search import search
from pipeline.registration.template import Template
from pipeline.types import Array, Scan
from tests import referee
from tests.real_scans import REAL_SCANS
from tests.referee import Ask

MARKED = {
    "flame_fitting/scan.obj": "flame_fitting/scan_lmks.npy",
    "james/james.obj": "james/james.ljson",
}
REACH_MM, STEPS = 20.0, 60


def face(model: FlameModel, pose: Array) -> Array:
    """(N,3) the rigid template's face in a (4,4) pose."""
    points = model.template_mm[model.regions["face"]].astype(np.float64)
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])


def found(template: Template, scan: Scan) -> Array:
    """(4,4) of `search`, which looks at no landmarks."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = search(template, scan)
    return pose


def marked(model: FlameModel, scan: Scan) -> tuple[Array, Array]:
    """(L,3) landmarks of the template and of the scan, those that both have."""
    assert model.landmarks is not None
    assert scan.landmark_scheme is not None and scan.landmarks_mm is not None
    given = to_68(scan.landmark_scheme, scan.landmarks_mm)[model.landmarks.indices_68]
    own = model.landmarks.positions(model.template_mm, model.faces)
    both = np.isfinite(given).all(axis=1)
    return own[both], given[both]


@pytest.mark.parametrize("name", MARKED)
def test_the_pose_is_where_icp_leads_to(
    name: str, model: FlameModel, template: Template, ask_open3d: Ask, shared_data: Path
) -> None:
    folder = shared_data / "scans"
    request = Request(folder / name, folder / MARKED[name], Declared(REAL_SCANS[name]))
    scan = read_request(request, model)
    ours = found(template, scan)
    points, target = face(model, np.eye(4)), scan.vertices_mm.astype(np.float64)
    stays = ask_open3d(referee.icp, points, target, ours, REACH_MM, STEPS)
    start = ask_open3d(referee.rigid_fit, *marked(model, scan))
    comes = ask_open3d(referee.icp, points, target, start, REACH_MM, STEPS)
    apart = np.linalg.norm(face(model, stays) - face(model, comes), axis=1).mean()
    assert apart < 0.5
    # ours is of a face fitted in shape, ICP's of the rigid template, which is not this person's
    moved = np.linalg.norm(face(model, stays) - face(model, ours), axis=1).mean()
    assert moved < 4.0
