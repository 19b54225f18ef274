"""Morphable models: mean, principal components and variances of people's heads, in millimetres.

Heads are placed onto their mean rigidly (generalised Procrustes analysis, Gower 1975) and never
scaled, so that size is shape. Components are orthonormal; in files they are scaled to one standard
deviation a unit, as FLAME's are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import torch

from pipeline.errors import ModelError
from pipeline.flame.model import PART, FlameModel, LandmarkEmbedding
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.rigid import umeyama
from pipeline.types import Array

FEWEST_PEOPLE = 3
"""Of fewer there is no spread beside a single difference."""
NOTHING = 1e-10
"""A share of the variance, or mm², that is rounding: people who are alike have no component of
their own."""
STILL_MM, ROUNDS = 1e-4, 20
"""Heads are placed onto their mean until it moves by less, at most so often."""
EMBEDDED_MM = 0.05
"""Landmarks lie as near to a template's surface, where vertices may be stored in steps of 5 µm."""


@dataclass(frozen=True, eq=False)
class Morphable:
    """A Gaussian of heads: mean + Σ c_k components_k, c_k ~ N(0, variances_k)."""

    mean_mm: Array  # (V,3) float64
    components: Array  # (K,3V) float64, orthonormal rows, by descending variance
    variances_mm2: Array  # (K,) of people along each component, n − 1 in the denominator
    total_mm2: float
    """The variance of all coordinates together, whatever the components hold."""
    people: int
    exact: bool = True
    """Or found by a randomised decomposition, which is near to it."""

    def __len__(self) -> int:
        return len(self.components)

    def first(self, count: int) -> Morphable:
        """Its first components alone."""
        return replace(
            self, components=self.components[:count], variances_mm2=self.variances_mm2[:count]
        )

    def coefficients(self, heads_mm: Array) -> Array:
        """(n,V,3) or (n,3V) -> (n,K) mm along each component: the least squares fit."""
        flat = np.asarray(heads_mm, np.float64).reshape(-1, self.mean_mm.size)
        found: Array = (flat - self.mean_mm.ravel()) @ self.components.T
        return found

    def heads_mm(self, coefficients: Array) -> Array:
        """(n,k) mm of the first k ≤ K components -> (n,V,3) mm."""
        moved = coefficients @ self.components[: coefficients.shape[1]]
        heads: Array = self.mean_mm + moved.reshape(len(moved), -1, 3)
        return heads


def placed(heads_mm: Array, reference_mm: Array) -> Array:
    """(n,V,3) float64: heads moved and turned onto the reference (V,3), by all vertices alike."""
    heads = torch.from_numpy(np.asarray(heads_mm, np.float64))
    onto = torch.from_numpy(np.asarray(reference_mm, np.float64)).expand_as(heads)
    rotation, shift = umeyama(heads, onto)
    return np.asarray(heads @ rotation.mT + shift[:, None])


def common_mean(mean_onto: Callable[[Array | None], Array]) -> Array:
    """(V,3) the mean onto which all heads are placed, of which it is the mean.

    `mean_onto` gives the mean of the heads placed onto a reference, of None as they are.
    """
    reference = mean_onto(None)
    for _ in range(ROUNDS):
        before, reference = reference, mean_onto(reference)
        if np.abs(reference - before).max() < STILL_MM:
            break
    return reference


def placed_mutually(heads_mm: Array) -> Array:
    """(n,V,3) heads, each placed onto the mean of all."""

    def mean_onto(reference: Array | None) -> Array:
        heads = heads_mm if reference is None else placed(heads_mm, reference)
        mean: Array = heads.mean(0)
        return mean

    return placed(heads_mm, common_mean(mean_onto))


def morphable_of(heads_mm: Array, count: int) -> Morphable:
    """The model of (n,V,3) heads as they stand: their first `count` principal components, exactly.

    From the eigenvectors of the smaller of the two matrices of products (Turk, Pentland 1991).
    Components that hold nothing but rounding are left out, so there may be fewer. Raises ModelError
    for heads or components of which there is no such model.
    """
    people = len(heads_mm)
    check_counts(people, count)
    flat = np.array(heads_mm, np.float64).reshape(people, -1)
    mean = flat.mean(0)
    flat -= mean
    total = float(np.square(flat).sum() / (people - 1))
    of_people = people <= flat.shape[1]
    products = flat @ flat.T if of_people else flat.T @ flat
    last = len(products) - 1
    kept = last + 1 - min(count, last + 1), last
    values, vectors = scipy.linalg.eigh(products, subset_by_index=kept, overwrite_a=True)
    components = (flat.T @ vectors if of_people else vectors).T[::-1]
    return settled(mean, components, values[::-1] / (people - 1), total, people)


def settled(
    mean: Array,
    components: Array,
    variances_mm2: Array,
    total_mm2: float,
    people: int,
    exact: bool = True,
) -> Morphable:
    """A model of components found somehow: of length 1, without those of rounding, and each turned
    so that its largest entry is positive, for an eigenvector's sign is arbitrary.

    Raises ModelError if all people have the same head.
    """
    held = variances_mm2 > NOTHING * max(total_mm2, 1.0)
    if not held.any():
        raise ModelError(
            f"the heads of {people} people are the same, expected people who differ; is the field "
            "that the model is made of filled?"
        )
    found = np.ascontiguousarray(components[held], np.float64)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    largest = np.take_along_axis(found, np.abs(found).argmax(1)[:, None], 1)
    mean_mm = np.asarray(mean, np.float64).reshape(-1, 3)
    turned = found * np.sign(largest)
    return Morphable(mean_mm, turned, variances_mm2[held], total_mm2, people, exact)


def check_counts(people: int, count: int) -> None:
    """Raises ModelError unless so many people can have so many components."""
    if people < FEWEST_PEOPLE:
        raise ModelError(
            f"got {people} people, expected at least {FEWEST_PEOPLE} to say how people differ; "
            "ask for another split, or for less"
        )
    if not 1 <= count <= people - 1:
        raise ModelError(
            f"got {count} components of {people} people, expected 1 … {people - 1}: so many "
            "people differ in one dimension less; ask for fewer"
        )


def vertex_distances(model: Morphable, heads_mm: Array, counts: Sequence[int]) -> Array:
    """(len(counts),n,V) mm from the vertices of (n,V,3) heads to what the model's first components
    make of them."""
    heads = np.asarray(heads_mm, np.float64)
    left = heads - model.mean_mm
    coefficients = model.coefficients(heads)
    found, done = np.empty((len(counts), *heads.shape[:2])), 0
    for place in np.argsort(counts, kind="stable"):
        these = slice(done, max(counts[place], done))
        explained = coefficients[:, these] @ model.components[these]
        left -= explained.reshape(left.shape)
        found[place], done = np.linalg.norm(left, axis=2), these.stop
    return found


def embedding_of(vertices_mm: Array, landmarks_mm: Array, faces: Array) -> LandmarkEmbedding | None:
    """The embedding by which landmarks (n,68,3) lie on meshes (n,V,3) of one topology (F,3).

    NaN are landmarks that the embedding has not; None if it has none. Where surfaces touch several
    triangles may be a landmark's: it is the one that holds it in all meshes. Raises ModelError for
    landmarks that are nowhere on the surface.
    """
    meshes, marks = np.asarray(vertices_mm, np.float64), np.asarray(landmarks_mm, np.float64)
    known = np.flatnonzero(np.isfinite(marks).all((0, 2)))
    if not len(known):
        return None
    candidates = np.stack([SurfaceIndex(m, faces).query(x[known]).triangle
                           for m, x in zip(meshes, marks, strict=True)])  # fmt: skip
    triangles, barycentric = np.empty(len(known), np.int64), np.empty((len(known), 3))
    for place, landmark in enumerate(known):
        fits = [(*_place_in(meshes[:, faces[t]], marks[:, landmark]), t)
                for t in np.unique(candidates[:, place])]  # fmt: skip
        error, barycentric[place], triangles[place] = min(fits, key=lambda fit: fit[0])
        if error > EMBEDDED_MM:
            raise ModelError(
                f"landmark {landmark}: {error:.3g} mm off the registered surface, expected at most "
                f"{EMBEDDED_MM}; name the model's embedding"
            )
    return LandmarkEmbedding(known.astype(np.int64), triangles, barycentric)


def _place_in(corners: Array, points: Array) -> tuple[float, Array]:
    """Largest error, and the barycentric coordinates that put all (n,3) points where they are in
    one triangle of n meshes (n,3,3)."""
    edges = (corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1).reshape(-1, 2)
    two = np.linalg.lstsq(edges, (points - corners[:, 0]).ravel(), rcond=None)[0]
    weights = np.array([1 - two.sum(), *two])
    found = np.einsum("nkd,k->nd", corners, weights)
    return float(np.linalg.norm(found - points, axis=1).max()), weights


def model_arrays(
    model: Morphable,
    faces: Array,
    regions: Mapping[str, Array],
    landmarks: LandmarkEmbedding | None,
    other: FlameModel | None = None,
) -> dict[str, Array]:
    """What `assets.load_model` takes, by FLAME's keys, in metres; components of one standard
    deviation a unit.

    `other`, of the same topology, gives expressions, joints and what bends with them.
    """
    n = len(model.mean_mm)
    scaled = model.components.T.reshape(n, 3, -1) * np.sqrt(model.variances_mm2)
    arrays: dict[str, Array] = {"v_template": model.mean_mm / 1000, "f": faces}
    basis = [scaled] if other is None else [scaled, other.expression_basis_mm]
    arrays["shapedirs"] = np.concatenate(basis, axis=2).astype(np.float32) / np.float32(1000)
    arrays["n_shape"] = np.array(len(model))
    if other is not None and len(other.parents):
        joints = np.arange(len(other.parents))
        arrays |= {
            "posedirs": other.pose_basis_mm / 1000,
            "J_regressor": other.joint_regressor,
            "weights": other.weights,
            "kintree_table": np.stack([other.parents, joints]),
        }
    if landmarks is not None:
        arrays |= {f"landmark_{name}": array for name, array in vars(landmarks).items()}
    own = {name: v for name, v in sorted(regions.items()) if not name.startswith(PART)}
    if own:
        masks = np.zeros((len(own), n), bool)
        for mask, vertices in zip(masks, own.values(), strict=True):
            mask[vertices] = True
        arrays |= {"region_names": np.array(list(own)), "region_masks": masks}
    return arrays
