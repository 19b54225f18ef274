"""`synth_range`: range images from one camera, no landmarks, laid out as FRGC's."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from pipeline.synthetic.delivery import Cast, Defect, Delivery, SyntheticSource
from pipeline.synthetic.files import write_picture, write_range_image
from pipeline.synthetic.objects import vase
from pipeline.synthetic.paint import photograph
from pipeline.synthetic.people import Pose
from pipeline.types import Array
from pipeline.views.camera import Camera, pinhole_matrix

FIRST_PERSON = 200
EXTRA = 2
"""Files besides the good scans: one that is cut off, one of a vase."""
TAKES_A_PERSON = 2
ROWS, COLUMNS, FOCAL = 210, 180, 620.0
"""The camera's grid and its focal length in pixels; it looks along −z from the origin."""
PHOTO_SCALE = 2
DISTANCE_MM = 1000.0


class RangeImage(NamedTuple):
    points: Array  # (R,C,3) canonical mm
    valid: Array  # (R,C) bool
    triangle: Array  # (R,C) the mesh's triangle behind each pixel, -1 where there is none


def write_range(cast: Cast, delivery: Delivery, good: int) -> SyntheticSource:
    """`good` sound scans, two of a person, one cut off and one of a vase."""
    scans = [write_scan(cast, delivery, i) for i in range(good)]
    cut = write_scan(cast, delivery, good, truth=False)
    whole = (delivery.root / cut).read_bytes()
    (delivery.root / cut).write_bytes(whole[: len(whole) // 2])
    still_life = f"Fall2003range/{subject(good + 2)}d99.abs.gz"
    vertices, faces = vase()
    image = range_image(vertices - [0.0, 0.0, DISTANCE_MM], faces)
    write_range_image(delivery.root / still_life, delivery.to_file(image.points), image.valid)
    broken = {cut: Defect("read", "damaged"), still_life: Defect("register", "lays a face")}
    return SyntheticSource(delivery.source, delivery.root, (*scans, cut, still_life), broken)


def subject(i: int) -> str:
    return f"{4201 + i // TAKES_A_PERSON:05d}"


def write_scan(cast: Cast, delivery: Delivery, i: int, truth: bool = True) -> str:
    """Writes the i-th scan; returns its path relative to the root."""
    rng = delivery.rng(i)
    take = i % TAKES_A_PERSON
    stem = f"{('Spring2003', 'Fall2003')[take]}range/{subject(i)}d{1 + 2 * take:02d}"
    pose = cast.pose(FIRST_PERSON + i // TAKES_A_PERSON, rng)
    pose = replace(pose, vertices_mm=pose.vertices_mm - [0.0, 0.0, DISTANCE_MM])
    image = range_image(pose.vertices_mm, cast.model.faces)
    clean = image._replace(valid=image.valid & ~lost(cast, image, rng))
    noise = rng.normal(1.0, 0.25 / DISTANCE_MM, clean.valid.shape)  # along the rays
    write_range_image(
        delivery.root / f"{stem}.abs.gz",
        delivery.to_file(clean.points * noise[..., None]),
        clean.valid,
    )
    who = cast.complexion(FIRST_PERSON + i // TAKES_A_PERSON)
    picture = photograph(cast.skin_of(pose.vertices_mm), cast.painter, who, photo_camera())
    write_picture(delivery.root / f"{stem.replace('range', 'photo')}.png", picture)
    if truth:
        delivery.save_truth(stem, pose, supported(clean, pose))
    return f"{stem}.abs.gz"


def photo_camera() -> Camera:
    """The camera's colour picture, of PHOTO_SCALE times as many pixels as the grid has."""
    size = PHOTO_SCALE * ROWS, PHOTO_SCALE * COLUMNS
    matrix = pinhole_matrix(PHOTO_SCALE * FOCAL, *size)
    return Camera(matrix, np.diag([1.0, -1.0, -1.0, 1.0]), *size)


def range_image(vertices_mm: Array, faces: Array) -> RangeImage:
    """What the camera sees of a mesh (V,3), (F,3): the first hit of each pixel's ray."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    x, y = column + 0.5 - COLUMNS / 2, ROWS / 2 - row - 0.5
    directions = np.stack([x, y, np.full(x.shape, -FOCAL)], axis=-1).reshape(-1, 3)
    triangle, ray, hits = RayMeshIntersector(
        trimesh.Trimesh(vertices_mm, faces, process=False)
    ).intersects_id(
        np.zeros_like(directions), directions, multiple_hits=False, return_locations=True
    )
    points, behind = np.zeros_like(directions), np.full(len(directions), -1)
    points[ray], behind[ray] = hits, triangle
    behind = behind.reshape(row.shape)
    return RangeImage(points.reshape(ROWS, COLUMNS, 3), behind >= 0, behind)


def lost(cast: Cast, image: RangeImage, rng: np.random.Generator) -> Array:
    """(R,C) bool: pixels without a measurement: dark hair, the shoulders, holes, single pixels."""
    template = cast.model.template_mm[cast.model.faces[image.triangle]].mean(axis=2)
    flat = template.reshape(-1, 3)
    hair = cast.frame.hair(flat).reshape(image.valid.shape)
    gone = hair > rng.uniform(0.1, 1.3, hair.shape)
    gone |= ~cast.frame.above_neck(flat, 45.0).reshape(hair.shape)
    gone |= rng.random(hair.shape) < 0.002
    row, column = np.mgrid[:ROWS, :COLUMNS]
    for _ in range(4):
        at = rng.integers(0, (ROWS, COLUMNS))
        gone |= np.hypot(row - at[0], column - at[1]) < rng.uniform(2.0, 5.0)
    return gone


def supported(image: RangeImage, pose: Pose) -> Array:
    """(V,) bool: the four pixels round a vertex are valid and see the surface it lies on."""
    x, y, z = pose.vertices_mm.T
    column = FOCAL * x / -z + COLUMNS / 2 - 0.5
    row = ROWS / 2 - 0.5 - FOCAL * y / -z
    c = np.clip(np.floor(column).astype(int), 0, COLUMNS - 2)
    r = np.clip(np.floor(row).astype(int), 0, ROWS - 2)
    inside = (np.abs(column - c - 0.5) <= 0.5) & (np.abs(row - r - 0.5) <= 0.5)
    corners = [(r, c), (r, c + 1), (r + 1, c), (r + 1, c + 1)]
    valid = np.stack([image.valid[at] for at in corners])
    depths = np.stack([image.points[at][:, 2] for at in corners])
    one_surface = np.ptp(depths, axis=0) < 4.0
    v, u = row - r, column - c
    weights = np.stack([(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u])
    on_it = np.abs((weights * depths).sum(axis=0) - z) < 1.0
    return np.asarray(inside & valid.all(axis=0) & one_surface & on_it)
