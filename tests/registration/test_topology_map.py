"""Maps to remeshed heads, whose vertices lie at known places of the model's triangles."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.registration.topology_map import (
    FARTHEST_MM,
    TopologyMap,
    carried,
    carried_parts,
    load_map,
    mesh_digest,
    save_map,
    topology_map,
)
from pipeline.types import REGISTRATION_ARRAYS, Array, Registration

CUT_MM = -20.0
"""The other mesh ends behind this depth."""


class Remeshed(NamedTuple):
    """A crop of the model in another topology: corners and middles of edges, in any order."""

    vertices: Array  # (N,3)
    faces: Array  # (G,3)
    triangle: Array  # (N,) of the model
    barycentric: Array  # (N,3)


def remeshed(model: FlameModel, seed: int = 0) -> Remeshed:
    """Each triangle split into four."""
    faces, n = model.faces, len(model.template_mm)
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    each, first, which = np.unique(edges, axis=0, return_index=True, return_inverse=True)
    a, b, c = faces.T
    ab, bc, ca = n + which.reshape(-1, 3).T
    split = np.stack([[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]).transpose(2, 0, 1)
    corner = np.zeros(n, np.int64)
    corner[faces] = np.arange(3 * len(faces)).reshape(-1, 3)
    triangle = np.concatenate([corner // 3, first // 3])
    ends = np.stack([first % 3, (first % 3 + 1) % 3], 1)
    barycentric = np.concatenate([np.eye(3)[corner % 3], np.eye(3)[ends].sum(1) / 2])
    vertices = np.concatenate([model.template_mm, model.template_mm[each].mean(1)])
    order = np.random.default_rng(seed).permutation(len(vertices))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    kept = place[split.reshape(-1, 3)]
    kept = kept[(vertices[order][kept, 2] > CUT_MM).all(1)]
    return Remeshed(vertices[order], kept, triangle[order], barycentric[order])


def registration(model: FlameModel) -> Registration:
    """Of the model to itself."""
    rest, n = model.template_mm, len(model.template_mm)
    arrays = {name: np.zeros(x.shape(n), x.dtype) for name, x in REGISTRATION_ARRAYS.items()}
    arrays |= {"vertices_mm": rest, "neutral_mm": rest, "validity": np.ones(n, bool)}
    return Registration("self", model.digest, **arrays, iterations=0, status="converged")


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture(scope="module")
def other(model: FlameModel) -> Remeshed:
    return remeshed(model)


@pytest.fixture(scope="module")
def found(model: FlameModel, other: Remeshed) -> TopologyMap:
    return topology_map(model, registration(model), other.vertices, other.faces)


def silent(model: FlameModel) -> Array:
    """(V,) bool: eyeballs, and the inside of the mouth."""
    flags = np.zeros(len(model.template_mm), bool)
    for name in ("eyeballs", "mouth_interior"):
        flags[model.regions[name]] = True
    return flags


def test_vertices_are_found_where_they_were_planted(
    model: FlameModel, other: Remeshed, found: TopologyMap
) -> None:
    """A vertex on an edge or a corner has several triangles: the point is the same."""
    for places, faces, rest, points in (
        (found.to_model, model.faces, model.template_mm, other.vertices),
        (found.to_other, other.faces, other.vertices, model.template_mm),
    ):
        at = carried(rest, places, faces)
        assert np.abs(at - points)[places.valid].max() < 1e-4
        assert np.isnan(at[~places.valid]).all()
        assert places.barycentric.sum(1) == pytest.approx(1.0)
        assert places.distance_mm[places.valid].max() < 1e-4
    planted = (model.template_mm[model.faces[other.triangle]] * other.barycentric[..., None]).sum(1)
    assert np.abs(planted - other.vertices).max() < 1e-9


def test_what_the_other_does_not_show_has_no_place(
    model: FlameModel, other: Remeshed, found: TopologyMap
) -> None:
    hidden, behind = silent(model), model.template_mm[:, 2] < CUT_MM - 10
    assert not found.to_other.valid[hidden | behind].any()
    front = ~hidden & (model.template_mm[:, 2] > CUT_MM + 10)
    assert found.to_other.valid[front].mean() > 0.9
    on_silent = hidden[model.faces[other.triangle]].all(1)
    used = np.zeros(len(other.vertices), bool)
    used[other.faces] = True
    assert not found.to_model.valid[on_silent].any()
    assert found.to_model.valid[used & ~on_silent].mean() > 0.9


def test_only_what_the_registration_found_counts(model: FlameModel, other: Remeshed) -> None:
    half = registration(model)
    half.validity[model.template_mm[:, 0] < 0] = False
    found = topology_map(model, half, other.vertices, other.faces)
    assert not found.to_other.valid[model.template_mm[:, 0] < 0].any()
    assert not found.to_model.valid[other.vertices[:, 0] < -8].any()


def test_far_and_turned_surfaces_are_no_places(model: FlameModel, other: Remeshed) -> None:
    apart = other.vertices + np.array([0.0, 0.0, 3 * FARTHEST_MM])
    ahead = topology_map(model, registration(model), apart, other.faces).to_model
    flat = ahead.distance_mm > FARTHEST_MM
    assert flat.any() and not ahead.valid[flat].any()
    turned = topology_map(model, registration(model), other.vertices, other.faces[:, ::-1])
    # but where the head has a second surface close by, as between the lips
    assert turned.to_model.valid.mean() < 0.02 and turned.to_other.valid.mean() < 0.02


def test_parts_are_carried_over(model: FlameModel, other: Remeshed, found: TopologyMap) -> None:
    parts = {name: model.regions[name] for name in ("nose", "lips", "left_eyeball")}
    on_other = carried_parts(parts, found.to_model, model.faces)
    assert not len(on_other["left_eyeball"])
    corners = model.faces[other.triangle]
    for name in ("nose", "lips"):
        inside = np.zeros(len(model.template_mm))
        inside[parts[name]] = 1.0
        planted = np.where(found.to_model.valid, (inside[corners] * other.barycentric).sum(1), 0)
        surely, perhaps = np.flatnonzero(planted > 0.51), np.flatnonzero(planted > 0.49)
        assert len(surely) > 50
        assert not np.setdiff1d(surely, on_other[name]).size
        assert not np.setdiff1d(on_other[name], perhaps).size
    back = carried_parts(on_other, found.to_other, other.faces)
    both = np.intersect1d(back["nose"], parts["nose"])
    assert len(both) > 0.95 * found.to_other.valid[parts["nose"]].sum()


def test_a_map_is_read_as_it_was_written(found: TopologyMap, tmp_path: Path) -> None:
    save_map(tmp_path / "map.npz", found)
    again = load_map(tmp_path / "map.npz")
    for field in fields(TopologyMap):
        first, second = getattr(found, field.name), getattr(again, field.name)
        pairs = zip(first, second, strict=True) if isinstance(first, tuple) else [(first, second)]
        assert all(np.array_equal(a, b) for a, b in pairs), field.name


def test_what_is_no_map_is_refused(found: TopologyMap, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_map(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", v_template=np.zeros(3))
    with pytest.raises(ModelError, match="no model_digest, expected a map"):
        load_map(tmp_path / "other.npz")
    save_map(tmp_path / "bad.npz", found)
    held = dict(np.load(tmp_path / "bad.npz"))
    np.savez(tmp_path / "bad.npz", **held | {"to_model_triangle": -held["to_model_triangle"]})
    with pytest.raises(ModelError, match="to_model: names a triangle outside"):
        load_map(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", **held | {"to_other_valid": held["to_other_valid"][:-1]})
    with pytest.raises(ModelError, match="which fit no mesh"):
        load_map(tmp_path / "bad.npz")


def test_a_digest_is_of_vertices_and_triangles(other: Remeshed) -> None:
    digest = mesh_digest(other.vertices, other.faces)
    assert digest == mesh_digest(other.vertices.copy(), other.faces.astype(np.int32))
    assert digest != mesh_digest(other.vertices + 1e-9, other.faces)
    assert digest != mesh_digest(other.vertices, other.faces[::-1])
