"""Regions found from the geometry against FLAME's own masks and against bodies of known shape."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ball import sphere

from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.flame.regions import complete_regions
from pipeline.flame.visibility import seen_share
from pipeline.types import Array


def test_a_ball_inside_a_ball_is_hidden_and_the_outer_one_is_not() -> None:
    outer, faces = sphere()
    vertices = np.concatenate([1000 * outer, 600 * outer])
    share = seen_share(vertices, np.concatenate([faces, faces + len(outer)]))
    used = np.unique(faces)
    # the poles repeat a vertex for each meridian, some without area
    inside = used[(used > 32) & (used < len(outer) - 32)]
    assert share[inside].min() > 0.9
    assert share[len(outer) :].max() == 0.0


def test_the_bottom_of_a_deep_hole_is_hidden_and_that_of_a_dent_is_not() -> None:
    grid = np.arange(-60.0, 60.5, 2.0)
    x, y = np.meshgrid(grid, grid)
    for depth, hidden in ((80.0, True), (4.0, False)):
        z = np.where(np.hypot(x, y) < 8, -depth, 0.0)
        n = len(grid)
        a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
        faces = np.concatenate(
            [np.stack([a, a + 1, a + n], 1), np.stack([a + 1, a + n + 1, a + n], 1)]
        )
        vertices = np.stack([x, y, z], axis=-1).reshape(-1, 3)
        bottom = np.flatnonzero(np.hypot(vertices[:, 0], vertices[:, 1]) < 4)
        share = seen_share(vertices, faces)
        assert (share[bottom] < 0.1).all() == hidden
        flat = np.flatnonzero(np.hypot(vertices[:, 0], vertices[:, 1]) > 20)
        assert share[flat].min() > 0.9


def bare(shared_data: Path, folder: Path) -> Path:
    """FLAME's template with nothing beside it."""
    return Path(shutil.copy(shared_data / "flame" / "head_template.obj", folder))


def overlap(a: Array, b: Array) -> float:
    return len(np.intersect1d(a, b)) / len(np.union1d(a, b))


@pytest.fixture(scope="module")
def with_masks(shared_data: Path) -> FlameModel:
    return load_model(shared_data / "flame" / "head_template.obj")


def test_geometry_agrees_with_flames_masks(
    shared_data: Path, tmp_path: Path, with_masks: FlameModel
) -> None:
    embedding = shared_data / "flame" / "landmark_embedding.npy"
    known = with_masks.regions
    for model in (
        load_model(bare(shared_data, tmp_path), embedding),
        load_model(bare(shared_data, tmp_path)),
    ):
        np.testing.assert_array_equal(model.regions["eyeballs"], known["eyeballs"])
        assert overlap(model.regions["face"], known["face"]) > 0.75
        assert not set(model.regions["face"]) & set(model.regions["hidden"])
        assert not set(model.regions["face"]) & set(known["left_ear"])
    parts = load_model(bare(shared_data, tmp_path), embedding).regions
    for name in ("nose", "eyes", "mouth"):
        assert overlap(parts[name], known[name]) > 0.5, name


def test_hidden_vertices_are_inside_mouth_nose_and_sockets(with_masks: FlameModel) -> None:
    hidden = with_masks.regions["hidden"]
    assert 150 < len(hidden) < 500
    for name in ("forehead", "scalp", "neck"):
        assert not set(hidden) & set(with_masks.regions[name]), name
    template = with_masks.template_mm
    for side in ("left", "right"):
        centre = template[with_masks.regions[f"{side}_eyeball"]].mean(0)
        socket = np.linalg.norm(template - centre, axis=1) < 13
        socket[with_masks.regions["eyeballs"]] = False
        behind = np.flatnonzero(socket & (template[:, 2] < centre[2] + 2))
        assert len(behind) > 5
        assert np.isin(behind, hidden).all()


def test_regions_a_model_brings_are_kept(with_masks: FlameModel) -> None:
    again = complete_regions(with_masks)
    assert again.regions.keys() == with_masks.regions.keys()
    for name, vertices in with_masks.regions.items():
        np.testing.assert_array_equal(again.regions[name], vertices)
