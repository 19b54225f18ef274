"""Exports hold what the store holds, in the units their readers expect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from random_store import random_manifest, random_rows

from pipeline.errors import StoreError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.store import ModelTag, create_staging, export, publish, write_shard
from pipeline.types import Array

N = 4


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture(scope="module")
def rows(model: FlameModel) -> dict[str, Array]:
    return random_rows(N, n_vertices=len(model.template_mm))


def published(folder: Path, model: FlameModel, rows: dict[str, Array], **columns: str) -> Path:
    tag = ModelTag.of(model)
    staging = create_staging(folder, N, tag, 16)
    manifest = [row | columns for row in random_manifest(N)]
    publish(folder, staging, [write_shard(staging, 0, rows, tag.digest)], manifest)
    return folder


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, model: FlameModel, rows: dict[str, Array]
) -> Path:
    return published(tmp_path_factory.mktemp("export") / "unified.zarr", model, rows)


def test_micas_layout(
    store: Path, model: FlameModel, rows: dict[str, Array], tmp_path: Path
) -> None:
    assert export(store, tmp_path, "mica", model) == N
    for i, row in enumerate(random_manifest(N)):
        actor, scan = row["identity"].replace(":", "_"), f"scan_{i}"
        with np.load(tmp_path / "FLAME_parameters" / actor / f"{scan}.npz") as found:
            np.testing.assert_array_equal(found["betas"][:300], rows["shape"][i])
            np.testing.assert_array_equal(found["betas"][300:], rows["expression"][i])
            np.testing.assert_array_equal(found["pose"], rows["pose"][i])
            np.testing.assert_allclose(found["trans"] * 1000, rows["translation_mm"][i], rtol=1e-6)
        path = tmp_path / "registrations" / actor / f"{scan}.obj"
        mesh = trimesh.load(path, process=False, maintain_order=True)
        np.testing.assert_allclose(mesh.vertices * 1000, rows["vertices_mm"][i], atol=1e-4)
        np.testing.assert_array_equal(mesh.faces, model.faces)


@pytest.mark.parametrize("layout", ["ply", "obj"])
def test_meshes_of_the_rows_that_fit(
    store: Path, model: FlameModel, rows: dict[str, Array], tmp_path: Path, layout: str
) -> None:
    assert export(store, tmp_path, layout, model, "source == 's1'") == 2
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == [f"person_000{i // 2}/scan_{i}.{layout}" for i in (1, 3)]
    mesh = trimesh.load(tmp_path / files[1], process=False, maintain_order=True)
    np.testing.assert_allclose(mesh.vertices, rows["vertices_mm"][3], atol=1e-6)


def test_what_cannot_be(
    store: Path, model: FlameModel, rows: dict[str, Array], tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="layout 'stl', expected one of mica, ply, obj"):
        export(store, tmp_path, "stl", model)
    other = replace(model, name="other", template_mm=model.template_mm + 1)
    with pytest.raises(StoreError, match="made with the model 'stand-in', got 'other'"):
        export(store, tmp_path, "ply", other)
    one = published(tmp_path / "one.zarr", model, rows, identity="a:b", split="train")
    assert export(one, tmp_path / "files", "ply", model) == N


def test_two_scans_of_one_name(model: FlameModel, rows: dict[str, Array], tmp_path: Path) -> None:
    tag, store = ModelTag.of(model), tmp_path / "s.zarr"
    staging = create_staging(store, N, tag, 16)
    manifest = random_manifest(N)
    manifest[0]["scan_id"], manifest[1]["scan_id"] = "s0:a/b", "s0:a_b"
    publish(store, staging, [write_shard(staging, 0, rows, tag.digest)], manifest)
    with pytest.raises(StoreError, match="s0:a/b and s0:a_b would be one file"):
        export(store, tmp_path / "files", "ply", model)
    assert not (tmp_path / "files").exists()
