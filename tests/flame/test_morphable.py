"""Principal components of made heads, landmarks found again, and files that commands take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.flame.assets import load_model
from pipeline.flame.model import PART, LandmarkEmbedding
from pipeline.flame.morphable import (
    Morphable,
    embedding_of,
    model_arrays,
    morphable_of,
    placed,
    placed_mutually,
    settled,
    vertex_distances,
)
from pipeline.flame.stand_in import stand_in
from pipeline.types import Array


def heads(n: int, v: int, seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    return 100 + random.normal(size=(n, 12)) @ random.normal(size=(12, 3 * v)).reshape(12, 3 * v)


def made(n: int, v: int, seed: int = 0) -> Array:
    return heads(n, v, seed).reshape(n, v, 3)


@pytest.mark.parametrize(("n", "v"), [(9, 40), (60, 7)])  # fewer people than coordinates, and more
def test_components_are_those_of_the_singular_value_decomposition(n: int, v: int) -> None:
    given = made(n, v)
    model = morphable_of(given, 5)
    flat = given.reshape(n, -1)
    _, singular, right = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    assert model.mean_mm == pytest.approx(given.mean(0))
    assert model.variances_mm2 == pytest.approx(singular[:5] ** 2 / (n - 1))
    assert np.abs(model.components @ right[:5].T) == pytest.approx(np.eye(5), abs=1e-9)
    assert model.total_mm2 == pytest.approx(flat.var(0, ddof=1).sum())
    assert (model.components.max(1) == np.abs(model.components).max(1)).all()
    assert (morphable_of(given, 5).components == model.components).all()


def test_all_components_make_the_people_again_and_say_their_variance() -> None:
    given = made(9, 40)
    model = morphable_of(given, 8)
    coefficients = model.coefficients(given)
    assert model.heads_mm(coefficients) == pytest.approx(given, abs=1e-9)
    assert coefficients.var(0, ddof=1) == pytest.approx(model.variances_mm2)
    assert model.variances_mm2.sum() == pytest.approx(model.total_mm2)


def test_size_is_shape() -> None:
    """People who differ in nothing but size differ, by as much as their vertices are apart."""
    head = stand_in().template_mm
    model = morphable_of(np.array([0.9, 1.0, 1.1])[:, None, None] * head, 2)
    assert len(model) == 1
    assert model.variances_mm2[0] == pytest.approx(0.01 * np.square(head).sum())


def test_heads_are_placed_rigidly_and_keep_their_size() -> None:
    """However heads stand, they make the same model but for where it stands itself."""
    random, given = np.random.default_rng(6), posed_meshes()
    axes = np.linalg.qr(random.normal(size=(3, 3, 3)))[0]
    turns = axes * np.linalg.det(axes)[:, None, None]
    moved = given @ turns + 100 * random.normal(size=(3, 1, 3))
    ones, others = placed_mutually(given), placed_mutually(moved)
    assert np.square(ones - ones.mean(0)).sum() < np.square(given - given.mean(0)).sum()
    assert placed(others, ones.mean(0)) == pytest.approx(ones, abs=1e-2)
    for before, after in ((given, ones), (moved, others)):
        sizes = [np.linalg.norm(x - x.mean(1, keepdims=True), axis=(1, 2)) for x in (before, after)]
        assert sizes[0] == pytest.approx(sizes[1])
    mirrored = given * [-1, 1, 1]
    assert np.abs(placed(mirrored, ones.mean(0)) - ones.mean(0)).max() > 1


def test_the_mean_is_that_of_the_heads_placed_onto_it() -> None:
    heads = placed_mutually(posed_meshes())
    again = placed_mutually(heads)
    assert heads.mean(0) == pytest.approx(again.mean(0), abs=1e-3)


def test_components_of_rounding_are_left_out() -> None:
    given = made(40, 50)  # of twelve dimensions
    assert len(morphable_of(given, 39)) == 12
    same = np.repeat(given[:1], 5, axis=0)
    with pytest.raises(ModelError, match="heads of 5 people are the same"):
        morphable_of(same, 2)


@pytest.mark.parametrize(("people", "count", "said"), [
    (2, 1, "got 2 people, expected at least 3"),
    (9, 9, "got 9 components of 9 people, expected 1 … 8"),
    (9, 0, "got 0 components"),
])  # fmt: skip
def test_what_cannot_be_is_refused(people: int, count: int, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        morphable_of(made(people, 8), count)


def test_distances_by_number_of_components() -> None:
    people, unseen = made(30, 40), made(31, 40)[30:]
    model = morphable_of(people, 6)
    counts = (4, 0, 6)
    found = vertex_distances(model, unseen, counts)
    assert found.shape == (3, 1, 40)
    for count, distances in zip(counts, found, strict=True):
        first = model.first(count)
        near = first.heads_mm(first.coefficients(unseen))
        assert distances[0] == pytest.approx(np.linalg.norm(near - unseen, axis=2)[0])
    assert found[1].mean() > found[0].mean() > found[2].mean()


def test_other_decompositions_are_settled_alike() -> None:
    model = morphable_of(made(20, 10), 4)
    turned = settled(model.mean_mm, -3 * model.components, model.variances_mm2, 1.0, 20)
    assert turned.components == pytest.approx(model.components)


def posed_meshes() -> Array:
    model = stand_in()
    drawn = np.random.default_rng(4).normal(size=(3, 20))
    moved = np.einsum("ns,vds->nvd", drawn, model.shape_basis_mm[..., :20])
    return model.template_mm + moved


def test_landmarks_are_found_where_they_lie() -> None:
    model, meshes = stand_in(), posed_meshes()
    assert model.landmarks is not None
    meshes = np.round(meshes / 0.005) * 0.005  # as stores hold them in steps
    marks = np.array([model.landmarks.positions_68(mesh, model.faces) for mesh in meshes])
    marks[:, 5] = np.nan
    found = embedding_of(meshes, marks, model.faces)
    assert found is not None and found.indices_68.tolist() == [i for i in range(68) if i != 5]
    other = posed_meshes()[0] * 1.1
    placed = found.positions_68(other, model.faces)
    truth = model.landmarks.positions_68(other, model.faces)
    truth[5] = np.nan
    assert placed == pytest.approx(truth, abs=0.02, nan_ok=True)


def test_landmarks_off_the_surface_are_refused_and_none_are_none() -> None:
    model, meshes = stand_in(), posed_meshes()
    assert model.landmarks is not None
    marks = np.array([model.landmarks.positions_68(mesh, model.faces) for mesh in meshes])
    assert embedding_of(meshes, np.full_like(marks, np.nan), model.faces) is None
    marks[1, 30, 2] += 1.0
    with pytest.raises(ModelError, match=r"landmark 30: .* off the registered surface"):
        embedding_of(meshes, marks, model.faces)


def small(model_mm: Array) -> Morphable:
    drawn = np.random.default_rng(5).normal(size=(12, 6))
    moved = np.einsum("ns,vds->nvd", drawn, stand_in().shape_basis_mm[..., :6])
    return morphable_of(model_mm + moved, 5)


def test_a_file_is_a_model_again(tmp_path: Path) -> None:
    other, made = stand_in(), small(stand_in().template_mm)
    arrays = model_arrays(made, other.faces, other.regions, other.landmarks, other)
    np.savez(tmp_path / "own.npz", **arrays)
    model = load_model(tmp_path / "own.npz")
    assert model.template_mm == pytest.approx(made.mean_mm, abs=1e-9)
    scaled = made.components.T.reshape(-1, 3, 5) * np.sqrt(made.variances_mm2)
    assert model.shape_basis_mm == pytest.approx(scaled, abs=1e-5)
    for name in ("expression_basis_mm", "pose_basis_mm", "joint_regressor", "weights", "parents"):
        assert getattr(model, name) == pytest.approx(getattr(other, name), abs=1e-5), name
    assert other.landmarks is not None and model.landmarks is not None
    for name, array in vars(other.landmarks).items():
        assert (getattr(model.landmarks, name) == array).all()
    for name, vertices in other.regions.items():
        if not name.startswith(PART):
            assert (model.regions[name] == np.unique(vertices)).all(), name
    assert model.triangle_part is not None


def test_identity_alone_is_a_model_too(tmp_path: Path) -> None:
    other, made = stand_in(), small(stand_in().template_mm)
    np.savez(tmp_path / "own.npz", **model_arrays(made, other.faces, {}, None))
    model = load_model(tmp_path / "own.npz")
    assert model.expression_basis_mm.shape[2] == len(model.parents) == 0
    assert model.landmarks is None and len(model.regions["face"])


@pytest.mark.parametrize(("key", "value", "said"), [
    ("landmark_indices_68", [99] * 68, "landmark_indices_68 holds 99, expected -1 … 67"),
    ("landmark_indices_68", [0.5] * 68, "landmark_indices_68 has shape"),
    ("landmark_triangles", [10**6] * 68, "names triangle 1000000"),
    ("landmark_triangles", [0], "1 triangles but 68 barycentric"),
    ("landmark_barycentric", np.ones((68, 3)), "do not sum to 1"),
    ("region_masks", np.ones((2, 5), bool), "region_masks has shape"),
])  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, key: str, value: Array, said: str) -> None:
    other, made = stand_in(), small(stand_in().template_mm)
    arrays = model_arrays(made, other.faces, other.regions, other.landmarks)
    np.savez(tmp_path / "own.npz", **arrays | {key: np.asarray(value)})
    with pytest.raises(ModelError, match=said):
        load_model(tmp_path / "own.npz")


def test_an_embedding_that_is_named_counts_before_the_files_own(tmp_path: Path) -> None:
    other, made = stand_in(), small(stand_in().template_mm)
    assert other.landmarks is not None
    few = LandmarkEmbedding(*(array[:60] for array in vars(other.landmarks).values()))
    arrays = model_arrays(made, other.faces, {}, few)
    np.savez(tmp_path / "own.npz", **arrays)
    corners = other.faces[other.landmarks.triangles]
    nearest = corners[np.arange(68), other.landmarks.barycentric.argmax(1)]
    np.savetxt(tmp_path / "all.txt", nearest, "%d")
    model = load_model(tmp_path / "own.npz")
    assert model.landmarks is not None and len(model.landmarks.triangles) == 60
    model = load_model(tmp_path / "own.npz", tmp_path / "all.txt")
    assert model.landmarks is not None and len(model.landmarks.triangles) == 68
    assert replace(model, landmarks=None).digest == model.digest
