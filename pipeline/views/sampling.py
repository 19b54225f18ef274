"""How a render is made: its camera, lights and background, drawn from a seed and recorded."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.registry.views import Views
from pipeline.types import Array
from pipeline.views.backgrounds import Background, draw_background
from pipeline.views.camera import Camera, pinhole_matrix
from pipeline.views.lights import Lights, draw_lights

HEAD_MM = 320.0
"""What a picture spans at the face's distance, which holds a head."""
FACING = np.diag([1.0, -1.0, -1.0])
"""Canonical axes to those of a camera that looks straight at the face."""


@dataclass(frozen=True)
class Recipe:
    """All that a render depends on besides the scan. The same recipe gives the same pixels."""

    seed: int
    yaw_deg: float
    """The head's turn to its left, as the camera sees it."""
    pitch_deg: float
    """Its turn up."""
    roll_deg: float
    """Its tilt towards its left shoulder: clockwise in the picture."""
    distance_mm: float
    """From the camera to what it looks at."""
    focal_px: float | None
    """Of the picture that the face is cropped from; None: none is made, but the crop itself."""
    lights: Lights
    background: Background

    @property
    def columns(self) -> dict[str, str]:
        """Lights and background as JSON, as the table of views has them."""
        return {
            "lights": json.dumps(asdict(self.lights), sort_keys=True),
            "background": json.dumps(asdict(self.background), sort_keys=True),
        }


def sample_recipe(section: Views, seed: int) -> Recipe:
    """What a registry's `views` allow, drawn from the seed: angles and the tilt evenly between
    their limits, distance and focal length evenly in the logarithm."""
    rng = np.random.default_rng(seed)

    def between(limits: tuple[float, float]) -> float:
        return round(float(rng.uniform(*limits)), 3)

    def in_logarithm(limits: tuple[float, float]) -> float:
        return round(math.exp(rng.uniform(*np.log(limits))), 2)

    return Recipe(
        seed,
        between(section.yaw_deg),
        between(section.pitch_deg),
        between(section.roll_deg),
        in_logarithm(section.distance_mm),
        None if section.focal_px is None else in_logarithm(section.focal_px),
        draw_lights(section.lights, rng),
        draw_background(section.backgrounds, rng),
    )


def camera_of(recipe: Recipe, target_mm: Array, picture_px: int = 224) -> Camera:
    """The camera at the recipe's distance that looks at a point (3,) of the canonical frame.

    Its picture is a square of HEAD_MM around the point: of as many pixels as that takes with the
    recipe's focal length; without one, of `picture_px`.
    """
    size = picture_px
    focal = picture_px * recipe.distance_mm / HEAD_MM
    if recipe.focal_px is not None:
        focal = recipe.focal_px
        size = math.ceil(HEAD_MM * focal / recipe.distance_mm)
    turned = head_rotation(recipe.yaw_deg, recipe.pitch_deg, recipe.roll_deg)
    pose = looking_at(target_mm, turned, recipe.distance_mm)
    return Camera(pinhole_matrix(focal, size, size), pose, size, size)


def looking_at(target_mm: Array, turned: Array, distance_mm: float) -> Array:
    """(4,4) canonical frame to that of a camera in the middle of whose picture lies the point (3,),
    and to which a head is `turned` (3,3) by `head_rotation`."""
    pose = np.eye(4)
    pose[:3, :3] = FACING @ turned
    pose[:3, 3] = [0.0, 0.0, distance_mm] - pose[:3, :3] @ np.asarray(target_mm, np.float64)
    return pose


def head_rotation(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Array:
    """(3,3): the head turned to its left about +y, then up about x, then tilted about the line of
    sight towards its left shoulder, in the frame of a head that faces the camera."""
    turned = Rotation.from_euler("yxz", [yaw_deg, -pitch_deg, -roll_deg], degrees=True)
    return np.asarray(turned.as_matrix())


def head_angles(canonical_to_camera: Array) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of the head that a camera (4,4) sees: `head_rotation` back."""
    turned = FACING @ np.asarray(canonical_to_camera, np.float64)[:3, :3]
    yaw, pitch, roll = Rotation.from_matrix(turned).as_euler("yxz", degrees=True).tolist()
    return yaw, -pitch, -roll
