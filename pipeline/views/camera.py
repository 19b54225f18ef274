"""Pinhole cameras, as computer vision writes them: +x right, +y down, +z forward.

Pixel coordinates are column and row from the top left pixel's middle, which lies at (0, 0), as
landmark files and OpenCV count them: a picture of `width` pixels spans −0.5 … width − 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.types import Array, Frozen


def pinhole_matrix(focal_px: float, height: int, width: int) -> Array:
    """(3,3) K of a picture whose principal point is its middle."""
    column, row = (width - 1) / 2, (height - 1) / 2
    return np.array([[focal_px, 0.0, column], [0.0, focal_px, row], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class Camera(Frozen):
    """A picture's camera. A point x of the canonical frame, in millimetres, is seen at the pixel
    K (R x + t) / z (Hartley and Zisserman, Multiple View Geometry, 2004, eq. 6.7)."""

    matrix_px: Array  # (3,3) float64 K, last row 0 0 1
    canonical_to_camera: Array  # (4,4) float64, rigid
    height: int
    width: int
    """Of the picture, pixels."""

    def __post_init__(self) -> None:
        self._check("matrix_px", (3, 3), np.float64)
        self._check("canonical_to_camera", (4, 4), np.float64)

    def in_camera(self, points_mm: Array) -> Array:
        """(N,3) mm canonical -> (N,3) float64 mm in the camera's frame."""
        pose = self.canonical_to_camera
        moved: Array = np.asarray(points_mm, np.float64) @ pose[:3, :3].T + pose[:3, 3]
        return moved

    def project(self, points_mm: Array) -> Array:
        """(N,3) mm canonical -> (N,2) float64 column and row; NaN behind the camera."""
        x, y, depth = (self.in_camera(points_mm) @ self.matrix_px.T).T
        z = np.where(depth > 0, depth, np.nan)
        return np.stack([x / z, y / z], axis=1)

    @property
    def centre_mm(self) -> Array:
        """(3,) float64: the camera's place in the canonical frame."""
        pose = self.canonical_to_camera
        return np.asarray(-pose[:3, :3].T @ pose[:3, 3])

    def rays(self, pixels: Array) -> Array:
        """(N,2) column and row -> (N,3) float64 canonical directions from `centre_mm`, unit."""
        of_pixel = np.linalg.inv(self.matrix_px).T @ self.canonical_to_camera[:3, :3]
        directions = np.asarray(pixels, np.float64) @ of_pixel[:2] + of_pixel[2]
        length = np.sqrt(np.einsum("nk,nk->n", directions, directions))
        return np.asarray(directions / length[:, None])

    def pixels(self) -> Array:
        """(height·width,2) float64: every pixel's column and row, row by row."""
        row, column = np.mgrid[: self.height, : self.width]
        return np.stack([column.ravel(), row.ravel()], axis=1).astype(np.float64)

    def moved(self, picture_to_new: Array, height: int, width: int) -> Camera:
        """The camera of a picture that was scaled, cut or turned: `picture_to_new` (3,3) maps its
        pixels to those of the new one of `height` and `width`."""
        matrix = np.asarray(picture_to_new, np.float64) @ self.matrix_px
        return Camera(matrix / matrix[2, 2], self.canonical_to_camera, height, width)
