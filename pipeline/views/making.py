"""The views of one registered scan: its photos, cropped, and renders of it, each with its camera,
landmarks, part masks and visibility."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import FacefoldError, FormatError
from pipeline.flame.model import FlameModel
from pipeline.landmarks import read_landmarks
from pipeline.landmarks.schemes import in_order
from pipeline.refusals import Code
from pipeline.registry.views import Views
from pipeline.types import Array, PhotoFile, Refusal
from pipeline.views.calibrations import read_calibration, straightened
from pipeline.views.camera import Camera
from pipeline.views.camera_fit import FittedCamera
from pipeline.views.crops import align_112, aligned_camera, crop_224, crop_camera, shrunk
from pipeline.views.drift import refuse_drift
from pipeline.views.photo_cameras import camera_of_grid, camera_of_landmarks, is_behind
from pipeline.views.photos import read_photo, upright
from pipeline.views.rendering import Surface, render
from pipeline.views.sampling import camera_of, sample_recipe
from pipeline.views.scene import RegisteredScan, Scene, completed, scene_of
from pipeline.views.view import PHOTO, RENDER, SHADED, View

INSIDE_SHARE = 0.75
"""Of the face's own pixels in a crop must lie within the photo."""


class Refused(NamedTuple):
    """A view that is not made."""

    name: str
    path: Path | None
    """Of the photo; None for a render."""
    refusal: Refusal


def names_of(photos: Sequence[PhotoFile], section: Views) -> list[str]:
    """The names of the views that are asked for of a scan: its photos, then its renders."""
    return [
        *(f"{PHOTO}{i}" for i in range(len(photos))),
        *(f"{RENDER}{i}" for i in range(section.renders)),
    ]


def seed_of(seed: int, scan_id: str, name: str) -> int:
    """Of all that is drawn for a view: 0 … 2⁶³ − 1, whatever else is made."""
    text = f"{seed}\0{scan_id}\0{name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_views(
    scan: RegisteredScan,
    photos: Sequence[PhotoFile],
    section: Views,
    model: FlameModel,
    seed: int = 0,
) -> tuple[list[View], list[Refused]]:
    """The views that `section` asks for, and those that cannot be made, each with its reason.

    The same arguments give the same views, bit for bit. Raises FacefoldError if there can be none.
    """
    scene = scene_of(scan, model, section.colours and section.renders > 0)
    views: list[View] = []
    refused: list[Refused] = []
    for name, photo in zip(
        names_of(photos, section), [*photos, *[None] * section.renders], strict=True
    ):
        try:
            drawn = seed_of(seed, scan.scan_id, name)
            views.append(
                photo_view(scene, name, photo)
                if photo is not None
                else render_view(scene, name, section, drawn)
            )
        except FacefoldError as error:
            refusal = Refusal("views", error.code, str(error), error.figures)
            refused.append(Refused(name, photo and photo.path, refusal))
    return views, refused


def render_view(scene: Scene, name: str, section: Views, seed: int) -> View:
    """The scan as its file has it, before a camera that is drawn from the seed.

    Without a focal length of its own both crops are rendered at once, else a picture that is
    cropped.
    Raises FacefoldError for points without triangles and a texture that cannot be read.
    """
    if not isinstance(surface := scene.surface, Surface):
        raise surface
    recipe = sample_recipe(section, seed)
    canonical_to_head = np.linalg.inv(scene.head_to_canonical)
    camera = camera_of(recipe, (canonical_to_head @ [*scene.face_mm, 1.0])[:3])
    pose = camera.canonical_to_camera @ canonical_to_head
    camera = replace(camera, canonical_to_camera=pose)
    marks = camera.project(scene.scan.landmarks_mm)
    lit = recipe.lights, recipe.background
    if recipe.focal_px is None:
        aligned = render(surface, aligned_camera(marks, camera), *lit)
        camera = crop_camera(marks, camera)
        image = render(surface, camera, *lit)
    else:
        picture = render(surface, camera, *lit)
        aligned = align_112(picture, marks)
        image, camera = crop_224(picture, marks, camera)
    facts = {
        "kind": RENDER if surface.painted else SHADED,
        "camera": "sampled",
        "seed": seed,
        "camera_residual_px": None,
        **recipe.columns,
    }
    return completed(scene, name, image, aligned, camera, facts)


class Taken(NamedTuple):
    """A photo as a pinhole camera sees it."""

    picture: Array  # (H,W,3) uint8
    camera: Camera
    residual_px: float | None
    """Median distance, in the photo's pixels, of what the camera was computed from."""


def photo_view(scene: Scene, name: str, photo: PhotoFile) -> View:
    """A photo of the scan, upright and cropped to the face.

    Raises FacefoldError if a file cannot be read, no camera explains the photo, or it shows too
    little of the face.
    """
    taken = TAKEN[photo.camera](scene, photo)
    # a scan whose axes are unknown may lie on its side: up is the head's
    head_to_canonical = scene.head_to_canonical
    pose = taken.camera.canonical_to_camera @ head_to_canonical
    of_head = replace(taken.camera, canonical_to_camera=pose)
    if is_behind(of_head):
        fault, remedy = "the camera stands behind the head", "leave the photo out"
        raise FacefoldError(f"{photo.path.name}: {fault}; {remedy}", Code.OUT_OF_PICTURE)
    picture, of_head = upright(taken.picture, of_head)
    pose = of_head.canonical_to_camera @ np.linalg.inv(head_to_canonical)
    camera = replace(of_head, canonical_to_camera=pose)
    marks = camera.project(scene.scan.landmarks_mm)
    image, crop = crop_224(picture, marks, camera)
    inside = within(camera, crop)
    refuse_cut(scene, crop, inside)
    if photo.camera == "grid":
        refuse_drift(image, crop, scene.mesh, scene.scan.landmarks_mm)
    residual = taken.residual_px
    facts = {
        "kind": PHOTO,
        "image_path": photo.path,
        "camera": photo.camera,
        "seed": None,
        "lights": None,
        "background": None,
        "camera_residual_px": residual and residual * crop.matrix_px[0, 0] / camera.matrix_px[0, 0],
    }
    return completed(scene, name, image, align_112(picture, marks), crop, facts, inside)


def within(photo: Camera, crop: Camera) -> Array:
    """(height,width) bool: the pixels of a crop that the photo has; the others are black."""
    to_photo = photo.matrix_px @ np.linalg.inv(crop.matrix_px)
    at = crop.pixels() @ to_photo[:2, :2].T + to_photo[:2, 2]
    inside = np.all((at > -0.5) & (at < [photo.width - 0.5, photo.height - 0.5]), axis=1)
    return np.asarray(inside.reshape(crop.height, crop.width))


def refuse_cut(scene: Scene, crop: Camera, inside: Array) -> None:
    """Raises FacefoldError if less than INSIDE_SHARE of the face that a crop shows is `inside` the
    photo."""
    hits = scene.mesh.seen(crop)
    face = scene.parts.at(hits.triangle, hits.barycentric) >= 0
    if not face.any():
        return
    if (share := float(inside.ravel()[face].mean())) < INSIDE_SHARE:
        fault = f"{share:.0%} of the face is in the photo, expected {INSIDE_SHARE:.0%}"
        remedy = "check that the camera or the landmarks are those of this photo"
        raise FacefoldError(f"{fault}; {remedy}", Code.OUT_OF_PICTURE, {"inside": share})


def by_grid(scene: Scene, photo: PhotoFile) -> Taken:
    """A photo that is aligned with the range image."""
    raw = scene.scan.raw
    if raw.pixels is None or raw.grid is None:
        fault, remedy = (
            "the scan is no range image",
            "name landmarks or a calibration as its camera",
        )
        raise FormatError(photo.path, fault, remedy, Code.CAMERA_OPEN)
    picture = read_photo(photo.path, ignore_orientation=True)
    motion = scene.scan.source_to_canonical
    points = raw.vertices @ motion[:3, :3].T + motion[:3, 3]
    fitted = camera_of_grid(points, raw.pixels, raw.grid, *picture.shape[:2])
    return Taken(picture, fitted.camera, _median_px(fitted))


def by_landmarks(scene: Scene, photo: PhotoFile) -> Taken:
    """A photo with 2D landmarks of its own."""
    picture = read_photo(photo.path)
    assert photo.landmark_path is not None  # the registry requires it
    found = read_landmarks(photo.landmark_path, photo.landmark_format)
    if found.pixels is None:
        fault, remedy = "no pixels of a photo", "name the format of its 2D landmarks"
        raise FormatError(photo.landmark_path, fault, remedy, Code.LANDMARKS_UNREADABLE)
    pixels = in_order(photo.landmark_scheme, found.names, found.pixels)
    marks, scheme = scene.scan.landmarks_mm, photo.landmark_scheme
    fitted = camera_of_landmarks(marks, pixels, scheme, *picture.shape[:2])
    return Taken(picture, fitted.camera, _median_px(fitted))


def by_calibration(scene: Scene, photo: PhotoFile) -> Taken:
    """A photo of a camera that a file describes."""
    assert photo.calibration_path is not None  # the registry requires it
    found = read_calibration(
        photo.calibration_path, photo.calibration_format, photo.calibration_camera
    )
    picture = read_photo(photo.path, ignore_orientation=True)
    camera = found.camera(scene.scan.source_to_canonical, *picture.shape[:2])
    picture, camera = shrunk(picture, camera.project(scene.scan.landmarks_mm), camera)
    return Taken(straightened(picture, camera.matrix_px, found.lens), camera, None)


TAKEN = {"grid": by_grid, "landmarks": by_landmarks, "calibration": by_calibration}


def _median_px(fitted: FittedCamera) -> float:
    return float(np.nanmedian(fitted.residual_px))
