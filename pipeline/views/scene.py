"""A registered scan before any camera: prepared once for all its views."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch

from pipeline.errors import FacefoldError
from pipeline.flame.face_parts import FaceParts, face_parts
from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import umeyama
from pipeline.refusals import Code
from pipeline.types import Array, Frozen, RawScan
from pipeline.views.camera import Camera
from pipeline.views.masks import Shown, landmark_visibility, part_masks, shown, vertex_visibility
from pipeline.views.raycasting import Caster, prepare
from pipeline.views.rendering import Surface, shaded, smooth_normals, surface_of
from pipeline.views.sampling import head_angles
from pipeline.views.view import PHOTO, View

HIDDEN_SHARE = 0.5
"""Of the face's pixels may be hidden."""
parts_of = lru_cache(maxsize=1)(face_parts)
"""Of a model, which is the same for all scans of a build."""


@dataclass(frozen=True, eq=False)
class RegisteredScan(Frozen):
    """What views are made of: a scan as its file has it, and the template that lies on it."""

    scan_id: str
    raw: RawScan
    source_to_canonical: Array  # (4,4) float64
    vertices_mm: Array  # (V,3) float32 of the registered mesh, canonical
    landmarks_mm: Array  # (68,3) float32 on it; NaN where the template has none

    def __post_init__(self) -> None:
        self._check("source_to_canonical", (4, 4), np.float64)
        self._check("vertices_mm", (None, 3), np.float32)
        self._check("landmarks_mm", (68, 3), np.float32, finite=False)


@dataclass(frozen=True, eq=False)
class Scene:
    """A registered scan with what rays are cast at."""

    scan: RegisteredScan
    parts: FaceParts
    mesh: Caster
    """The registered mesh."""
    normals: Array  # (V,3) float32, of its vertices
    head_to_canonical: Array
    """(4,4) rigid: the template's head at rest to the registered one."""
    face_mm: Array
    """(3,) the middle of the registered face, at which cameras look."""
    surface: Surface | FacefoldError
    """The scan as its file has it; why there is none, if its points have no triangles, or its
    texture cannot be read."""

    @cached_property
    def scan_caster(self) -> Caster | None:
        """What hides the face: the scan, whatever its colours; None for points."""
        if isinstance(self.surface, Surface):
            return self.surface.caster
        raw, motion = self.scan.raw, self.scan.source_to_canonical
        return surface_of(raw, motion, colours=False).caster if len(raw.faces) else None

    def facts(self, camera: Camera) -> dict[str, Any]:
        """Columns of the table of views that say where the camera of a crop stands."""
        yaw, pitch, roll = head_angles(camera.canonical_to_camera @ self.head_to_canonical)
        return {
            "yaw_deg": round(yaw, 3),
            "pitch_deg": round(pitch, 3),
            "roll_deg": round(roll, 3),
            "distance_mm": round(float(np.linalg.norm(camera.centre_mm - self.face_mm)), 2),
            "focal_px": round(float(camera.matrix_px[0, 0]), 3),
        }


def scene_of(scan: RegisteredScan, model: FlameModel, colours: bool) -> Scene:
    """Raises FacefoldError if the model has no landmarks, by which pictures are cropped."""
    if not np.isfinite(scan.landmarks_mm[17:]).all():
        fault = f"the model {model.name} has not all of iBUG's inner landmarks"
        remedy = "by which pictures are cropped; name its `embedding` in the build file"
        raise FacefoldError(f"{fault}, {remedy}", Code.CAMERA_OPEN)
    vertices = scan.vertices_mm.astype(np.float64)
    face = model.regions["face"]
    surface: Surface | FacefoldError
    try:
        surface = surface_of(scan.raw, scan.source_to_canonical, colours=colours)
    except FacefoldError as error:
        surface = error
    return Scene(
        scan,
        parts_of(model),
        prepare(vertices, model.faces),
        smooth_normals(vertices, model.faces),
        _rigid(model.template_mm[face], vertices[face]),
        vertices[face].mean(axis=0),
        surface,
    )


def _rigid(before: Array, after: Array) -> Array:
    """(4,4): the motion that brings points (N,3) nearest to others."""
    motion = np.eye(4)
    rotation, shift = umeyama(*(torch.as_tensor(p, dtype=torch.float64) for p in (before, after)))
    motion[:3, :3], motion[:3, 3] = rotation.numpy(), shift.numpy()
    return motion


def completed(
    scene: Scene,
    name: str,
    image: Array,
    aligned: Array,
    camera: Camera,
    facts: dict[str, Any],
    inside: Array | None = None,
) -> View:
    """A view of pictures (224,224,3) and (112,112,3), the first by `camera`; where it is not
    `inside` (224,224) of its photo, nothing is seen.

    Raises FacefoldError if the face is hidden for the most part.
    """
    caster, is_photo = scene.scan_caster, facts["kind"] == PHOTO
    before = None if caster is None else caster.seen(camera)
    seen = shown(camera, scene.mesh, before, holes_hide=not is_photo)
    refuse_hidden(seen, scene.parts)
    if inside is not None:
        seen = seen._replace(hidden=seen.hidden | ~inside)
    marks = scene.scan.landmarks_mm.astype(np.float64)
    return View(
        name,
        image,
        aligned,
        shaded(scene.mesh, scene.normals, camera, seen.hits),
        camera.matrix_px,
        camera.canonical_to_camera,
        camera.project(marks).astype(np.float32),
        landmark_visibility(seen, marks),
        vertex_visibility(seen),
        part_masks(seen, scene.parts),
        facts | scene.facts(camera),
    )


def refuse_hidden(seen: Shown, parts: FaceParts) -> None:
    """Raises FacefoldError if more than HIDDEN_SHARE of the face that a picture could show lies
    behind the scan: the back of a chair, a mask, another person."""
    face = parts.at(seen.hits.triangle, seen.hits.barycentric) >= 0
    if not face.any():
        return
    share = float(seen.hidden.ravel()[face].mean())
    if share > HIDDEN_SHARE:
        fault = f"{share:.0%} of the face is hidden by the scan, expected {HIDDEN_SHARE:.0%}"
        remedy = "look at the scan; leave it out if something covers the face"
        raise FacefoldError(f"{fault} at most; {remedy}", Code.FACE_HIDDEN, {"hidden": share})
