"""Photos of heads by known cameras, and the files that state these cameras."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation
from trimesh.ray.ray_pyembree import RayMeshIntersector

from pipeline.types import Array
from pipeline.views.camera import Camera
from tests.miniatures.files import Write, data, text
from tests.miniatures.heads import Head, model

SKIN, WALL = np.array([224.0, 178.0, 150.0]), (60, 80, 120)
LANDMARK = (20, 20, 160)
"""Colour of the pixel that a true landmark is nearest to."""


def camera_at(
    head: Head,
    yaw_deg: float,
    *,
    distance_mm: float = 900.0,
    height: int = 120,
    width: int = 160,
    on_its_side: bool = False,
) -> Camera:
    """A camera that looks at the middle of the face from its left by so much, a little from above;
    `on_its_side` it is turned by a quarter."""
    target = head.landmarks_mm.mean(axis=0)
    turn = Rotation.from_euler("YX", [yaw_deg, -5.0], degrees=True).as_matrix()
    # of a camera before the face: +x is the face's right, +y down, +z into the face
    axes = (turn @ np.diag([1.0, -1.0, -1.0])).T
    if on_its_side:
        axes = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) @ axes
    pose = np.eye(4)
    pose[:3, :3] = axes
    pose[:3, 3] = [0.0, 0.0, distance_mm]
    pose[:3, 3] -= axes @ target
    focal = min(height, width) * distance_mm / 260.0
    matrix = np.array(
        [[focal, 0.0, (width - 1) / 2 + 2.5], [0.0, 1.02 * focal, (height - 1) / 2], [0, 0, 1]]
    )
    return Camera(matrix, pose, height, width)


def photo(head: Head, camera: Camera) -> Array:
    """(H,W,3) uint8: the head's true surface before a wall, its landmarks marked."""
    directions = camera.rays(camera.pixels())
    picture = seen(head, np.broadcast_to(camera.centre_mm, directions.shape), directions)
    picture = picture.reshape(camera.height, camera.width, 3)
    column, row = np.round(camera.project(head.landmarks_mm)).astype(int).T
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    picture[row[inside], column[inside]] = LANDMARK
    return picture


def seen(head: Head, origins: Array, directions: Array) -> Array:
    """(N,3) uint8: what rays (N,3) show of the head's true surface, lit from the front."""
    mesh = trimesh.Trimesh(head.truth_mm, model().faces, process=False)
    triangle = RayMeshIntersector(mesh).intersects_first(origins, directions)
    colours = np.tile(np.array(WALL, np.uint8), (len(directions), 1))
    hit = triangle >= 0
    light = 0.35 + 0.6 * np.abs(mesh.face_normals[triangle[hit], 2])
    colours[hit] = (SKIN * light[:, None]).astype(np.uint8)
    return colours


def photo_by_rays(head: Head, rays: tuple[Array, Array]) -> Array:
    """(R,C,3) uint8: a photo with the pixels of a range image, whose rays (R,C,3) these are."""
    origins, directions = rays
    return seen(head, origins.reshape(-1, 3), directions.reshape(-1, 3)).reshape(origins.shape)


def picture(pixels: Array) -> Write:
    """In the format of the path's suffix; a JPEG so well that colours stay."""
    return lambda path: Image.fromarray(pixels).save(path, quality=95)


def zipped_ppm(pixels: Array) -> Write:
    """`.ppm.gz`, as FRGC's."""
    head = b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0])
    return data(gzip.compress(head + pixels.tobytes(), mtime=0))


def lm2(names: Sequence[str], pixels: Array) -> Write:
    """Bosphorus' 2D landmarks."""
    rows = "".join(f"{x:.2f} {y:.2f}\n" for x, y in pixels)
    labels = "".join(f"{name}\n" for name in names)
    return text(f"# 2D\n{len(names)} landmarks\nLabels:\n{labels}2D Image coordinates:\n{rows}")


class FileFrame:
    """A camera as the files of a scan state it, whose points are x_file = turn x_mm / unit + shift.

    A scale makes no difference to where points are seen, so millimetres become the file's unit.
    """

    def __init__(
        self, camera: Camera, turn: Array, unit_mm: float = 1.0, shift: Array | None = None
    ) -> None:
        pose = camera.canonical_to_camera
        moved = np.zeros(3) if shift is None else shift
        self.camera = camera
        self.rotation = pose[:3, :3] @ turn.T
        self.translation = pose[:3, 3] / unit_mm - self.rotation @ moved
        self.centre = -self.rotation.T @ self.translation


def smaller(camera: Camera, times: int) -> Camera:
    """The camera of a photo that was made so many times smaller."""
    # the middle of its first pixel was at (times - 1) / 2
    middle = (1 / times - 1) / 2
    to_new = np.array([[1 / times, 0, middle], [0, 1 / times, middle], [0, 0, 1]])
    return camera.moved(to_new, camera.height // times, camera.width // times)


def tka(seen: FileFrame) -> Write:
    """3dMD's calibration."""
    camera, pixel_mm = seen.camera, 0.005
    fx, fy = camera.matrix_px[0, 0], camera.matrix_px[1, 1]
    across, down = camera.matrix_px[:2, 2]
    rows = "".join(" ".join(f"{x:.12g}" for x in row) + " \n" for row in seen.rotation)
    x, y, z = seen.centre
    return text(
        f"%M\n{rows}%X {x:.9g}\n%Y {y:.9g}\n%Z {z:.9g}\n%f {fx * pixel_mm:.9g}\n%K 0\n%K2 0\n%S 1\n"
        f"%x {pixel_mm:.9g}\n%y {pixel_mm * fx / fy:.9g}\n%a {across:.9g}\n%b {down:.9g}\n"
        f"%is {camera.width} {camera.height}\n%c 0\n"
    )


def params_json(cameras: Mapping[int, FileFrame], invalid: Sequence[int] = ()) -> Write:
    """FaceScape's cameras of one capture."""
    told: dict[str, object] = {}
    for number, seen in cameras.items():
        told |= {
            f"{number}_K": seen.camera.matrix_px.tolist(),
            f"{number}_Rt": np.column_stack([seen.rotation, seen.translation]).tolist(),
            f"{number}_distortion": [0.0] * 5,
            f"{number}_width": seen.camera.width,
            f"{number}_height": seen.camera.height,
            f"{number}_valid": number not in invalid,
            f"{number}_matches": 100,
            f"{number}_sn": "000",
            f"{number}_ori": f"{number}.jpg",
        }
    return text(json.dumps(told) + "\n")


def cameras_npz(cameras: Mapping[int, FileFrame]) -> Write:
    """Cameras of a scene as IDR and H3DS have them: world_mat is K (R t)."""
    told: dict[str, Array] = {}
    for number, seen in cameras.items():
        world = np.eye(4)
        world[:3] = seen.camera.matrix_px @ np.column_stack([seen.rotation, seen.translation])
        told |= {f"world_mat_{number}": world, f"scale_mat_{number}": np.diag([150.0] * 3 + [1.0])}

    def write(path: Path) -> None:
        np.savez(path, **told)

    return write
