"""Where a head is cropped or hairy, and the clutter that hair leaves in scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.synthetic.people import landmarks_68
from pipeline.types import Array


@dataclass(frozen=True, eq=False)
class HeadFrame:
    """A few places of the template, canonical mm, from which crops and hair are measured."""

    eyes: Array  # (3,) the middle of the four eye corners
    nose: Array
    chin: Array

    @classmethod
    def of(cls, model: FlameModel) -> HeadFrame:
        points = landmarks_68(model, model.template_mm)
        return cls(points[[36, 39, 42, 45]].mean(axis=0), points[30], points[8])

    def above_neck(self, template_mm: Array, below_chin_mm: float) -> Array:
        """(N,) bool: not below a plane that falls towards the back as a collar does not."""
        behind = np.clip(self.chin[2] - template_mm[:, 2], 0, 120)
        return np.asarray(template_mm[:, 1] > self.chin[1] - below_chin_mm - 0.15 * behind)

    def face_only(self, template_mm: Array, radius_mm: float = 95.0) -> Array:
        """(N,) bool: round the middle of the face, without ears and the back of the head."""
        offset = template_mm - (self.eyes + self.chin + self.nose) / 3
        near = np.linalg.norm(offset * [1.1, 0.9, 0.6], axis=1) < radius_mm
        return np.asarray(near & (template_mm[:, 2] > self.eyes[2] - 62.0))

    def hair(self, template_mm: Array) -> Array:
        """(N,) in [0, 1]: 1 within the hair, 0 on the skin, soft over 12 mm at the hairline."""
        above = template_mm[:, 1] - self.eyes[1] - 68.0
        behind = self.eyes[2] - 105.0 - template_mm[:, 2]
        over_nape = template_mm[:, 1] - self.chin[1] - 30.0
        return np.asarray(
            np.clip(np.maximum(above, np.minimum(behind, over_nape)) / 12.0, 0.0, 1.0)
        )


def bumpy_hair(frame: HeadFrame, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Hair of up to 14 mm with locks: millimetres off the skin, by place on the template."""
    waves = rng.normal(size=(3, 8)) / 14.0
    phase = rng.uniform(0, 2 * np.pi, 8)
    depth = rng.uniform(3.0, 8.0)

    def growth(template_mm: Array) -> Array:
        locks = np.sin(template_mm @ waves + phase).mean(axis=1)
        return np.asarray(frame.hair(template_mm) * np.clip(depth + 8.0 * locks, 0.5, None))

    return growth


def strands(roots_mm: Array, up: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Thin ribbons that leave the scalp: (K,3) roots -> vertices, faces."""
    steps = np.linspace(0.0, 1.0, 9)[:, None]
    vertices: list[Array] = []
    faces: list[Array] = []
    for root in roots_mm:
        outward = rng.normal(0.0, 0.4, 3) + up
        curl = rng.normal(0.0, 14.0, 3)
        middle = root + steps * outward * rng.uniform(10.0, 28.0) + steps**2 * curl
        across = np.cross(outward, curl)
        across *= rng.uniform(0.4, 1.2) / np.linalg.norm(across)
        ribbon = np.concatenate([middle - across, middle + across])
        n = len(steps)
        a = np.arange(n - 1)
        quads = np.concatenate(
            [np.stack([a, a + n, a + 1], 1), np.stack([a + 1, a + n, a + n + 1], 1)]
        )
        faces.append(quads + 2 * n * len(vertices))
        vertices.append(ribbon)
    return np.concatenate(vertices), np.concatenate(faces)


def islands(centres_mm: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Small crumpled patches that float in the air: (K,3) centres -> vertices, faces."""
    side = 5
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) - 2.0
    a = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    cells = np.concatenate(
        [np.stack([a, a + 1, a + side], 1), np.stack([a + 1, a + side + 1, a + side], 1)]
    )
    vertices, faces = [], []
    for k, centre in enumerate(centres_mm):
        frame = np.linalg.qr(rng.normal(size=(3, 3)))[0][:2]
        patch = centre + rng.uniform(0.8, 2.0) * grid @ frame
        vertices.append(patch + rng.normal(0.0, 0.4, patch.shape))
        faces.append(cells + k * side * side)
    return np.concatenate(vertices), np.concatenate(faces)
