"""The second family's head at rest: FLAME's mean head, refined, with what its rig needs to know.

Nothing here is learnt: weights come from the surface itself (geodesic distances, biharmonic
functions), which is cut open at the mouth and the lids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from open_models import open_model
from remeshing import unique_edges
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import dijkstra
from scipy.sparse.linalg import spsolve

from pipeline.flame.model import FlameModel
from pipeline.geometry.laplacian import cotangent_laplacian, lumped_masses
from pipeline.geometry.mesh import vertex_normals
from pipeline.types import Array

N_HEAD = 3931
"""FLAME's vertices but for the eyeballs, which come last."""


@dataclass(frozen=True, eq=False)
class MeanHead:
    """A finer mesh through FLAME's vertices; H vertices, the first N_HEAD of them FLAME's."""

    model: FlameModel
    vertices: Array  # (H,3) mm, the lips shut and touching
    faces: Array  # (K,3)
    edges: Array  # (E,2) of FLAME's mesh; the added vertices halve them
    jaw: Array  # (H,) share of the jaw's rotation
    lower_lip: Array  # (H,) bool: nearer along the surface to the lower lip than to the upper
    lower_lids: Array  # (H,) bool: the same of the lids

    @classmethod
    def load(cls, shared_data: Path) -> MeanHead:
        model = open_model(shared_data, "bare")
        coarse = model.template_mm[:N_HEAD], model.faces[(model.faces < N_HEAD).all(1)]
        vertices, faces, edges = refined(*coarse)
        marks = landmarks_of(model, model.template_mm)
        lower_lip = nearer(vertices, faces, marks[57], marks[51])
        eyes = [
            nearer(vertices, faces, marks[low].mean(0), marks[up].mean(0))
            for low, up in (([40, 41], [37, 38]), ([46, 47], [43, 44]))
        ]
        lower_lids = np.where(vertices[:, 0] < 0, *eyes)
        jaw = jaw_weights(*coarse, lower_lip[:N_HEAD])
        jaw = np.concatenate([jaw, jaw[edges].mean(1)])
        return cls(
            model, parted_lips(vertices, lower_lip), faces, edges, jaw, lower_lip, lower_lids
        )

    @cached_property
    def marks(self) -> Array:
        """(68,3) iBUG landmarks at rest, NaN on the contour."""
        return self.landmarks(self.vertices)

    @cached_property
    def eye_centres(self) -> Array:
        """(2,3) right and left."""
        return np.stack([self.model.template_mm[ball].mean(0) for ball in self.eyeballs])

    @cached_property
    def skin(self) -> Array:
        """(5023,) bool: FLAME's vertices that scanners see, and the lips' insides."""
        result = np.arange(len(self.model.template_mm)) < N_HEAD
        result[self.model.regions["hidden"]] = False
        result[self.model.regions["lips"]] = True
        return result

    @property
    def eyeballs(self) -> tuple[Array, Array]:
        """Their vertices of FLAME's, right and left."""
        return self.model.regions["right_eyeball"], self.model.regions["left_eyeball"]

    def landmarks(self, vertices: Array) -> Array:
        """(H,3) -> (68,3) iBUG landmarks, NaN on the contour."""
        return landmarks_of(self.model, self.on_flame(vertices, self.eye_centres))

    def on_flame(self, vertices: Array, eye_centres: Array) -> Array:
        """(H,3) -> (5023,3) FLAME's vertices, the eyeballs around `eye_centres` (2,3)."""
        result = self.model.template_mm.copy()
        result[:N_HEAD] = vertices[:N_HEAD]
        for ball, old, new in zip(self.eyeballs, self.eye_centres, eye_centres, strict=True):
            result[ball] += new - old
        return result


def landmarks_of(model: FlameModel, vertices: Array) -> Array:
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(vertices, model.faces)
    marks[:17] = np.nan
    return marks


def refined(vertices: Array, faces: Array) -> tuple[Array, Array, Array]:
    """Four triangles from one, and the edges (E,2) that the added vertices halve.

    Each new vertex bulges as its edge's ends are curved:
    Phong tessellation (Boubekeur, Alexa 2008), which keeps the vertices that there are.
    """
    edges, inverse = unique_edges(faces, len(vertices))
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
    ends, turned = vertices[edges], normals[edges]
    middle = ends.mean(1, keepdims=True)
    on_planes = middle - ((middle - ends) * turned).sum(2, keepdims=True) * turned
    middle = 0.25 * middle[:, 0] + 0.75 * on_planes.mean(1)
    ab, bc, ca = (inverse.reshape(-1, 3) + len(vertices)).T
    a, b, c = faces.T
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    split = np.concatenate([np.stack(p, 1) for p in parts])
    return np.concatenate([vertices, middle]), split, edges


def nearer(vertices: Array, faces: Array, this: Array, that: Array) -> Array:
    """(H,) bool: along the edges nearer to the point `this` (3,) than to `that`."""
    edges, _ = unique_edges(faces, len(vertices))
    lengths = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    graph: csr_array = coo_array((lengths, edges.T), shape=(len(vertices),) * 2).tocsr()
    seeds = [np.linalg.norm(vertices - point, axis=1).argmin() for point in (this, that)]
    near, far = dijkstra(graph, directed=False, indices=seeds)
    return near < far


def parted_lips(vertices: Array, lower_lip: Array, softness_mm: float = 0.3) -> Array:
    """The lips of FLAME's mean head reach up to 3 mm into each other; here they touch."""
    result = vertices.copy()
    x, y, z = vertices.T
    contact = contact_line(x)
    at = (np.abs(x) < 23) & (np.abs(y - contact) < 6) & (z > 40)
    side = np.where(lower_lip, -1.0, 1.0)
    apart = np.logaddexp(0, side * (y - contact) / softness_mm) * softness_mm
    result[at, 1] = (contact + side * apart)[at]
    return result


def contact_line(x: Array) -> Array:
    """(H,) the height in mm at which the shut lips meet."""
    return -42.4 - 1.6 * (x / 24.0) ** 2


def jaw_weights(vertices: Array, faces: Array, lower_lip: Array) -> Array:
    """(H,) 1 on chin and lower lip, 0 on upper lip, upper face, nape and neck; smooth between.

    Biharmonic, so both lips move on their own although they touch.
    """
    x, y, z = vertices.T
    near_lips = (np.abs(x) < 5) & (y < -30) & (z > 38)
    moved = near_lips & lower_lip & (y > -82) | (y < -60) & (z > 34) & (np.abs(x) < 34)
    still = near_lips & ~lower_lip | (y > -14) | (z < -22) | (y < -128)
    return biharmonic(vertices, faces, moved, still).clip(0, 1)


def biharmonic(vertices: Array, faces: Array, one: Array, zero: Array) -> Array:
    """(H,) the function of least squared Laplacian that is 1 and 0 where these flags (H,) say."""
    stiffness = cotangent_laplacian(vertices, faces)
    inverse_mass = diags_array(1 / np.maximum(lumped_masses(vertices, faces), 1e-9))
    system = (stiffness @ inverse_mass @ stiffness).tocsr()
    free = ~(one | zero)
    right = -system[free][:, one].sum(1)
    result = one.astype(float)
    result[free] = spsolve(system[free][:, free].tocsc(), right)
    return result
