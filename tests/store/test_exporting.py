"""Exports hold what the store holds, in the units their readers expect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from random_store import random_manifest, random_people, random_rows
from scipy.spatial import cKDTree

from pipeline.catalogue import catalogue
from pipeline.errors import StoreError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.normalise import read_record
from pipeline.registry import load_registry
from pipeline.store import ModelTag, create_staging, export, publish, write_shard
from pipeline.types import Array

N = 4


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture(scope="module")
def rows(model: FlameModel) -> dict[str, Array]:
    return random_rows(N, n_vertices=len(model.template_mm))


def published(
    folder: Path, model: FlameModel, rows: dict[str, Array], told: Sequence[dict[str, str]] = ({},)
) -> Path:
    tag = ModelTag.of(model)
    staging = create_staging(folder, N, tag, 16)
    manifest = [row | told[i % len(told)] for i, row in enumerate(random_manifest(N))]
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


def labelled(
    folder: Path, model: FlameModel, rows: dict[str, Array], told: Sequence[dict[str, str]] = ({},)
) -> tuple[Path, dict[str, Array]]:
    """`published`, with a row for each of the people."""
    tag = ModelTag.of(model)
    manifest = [row | told[i % len(told)] for i, row in enumerate(random_manifest(N))]
    names = sorted({row["identity"] for row in manifest}, reverse=True)
    people = random_people(len(names), n_vertices=len(model.template_mm))
    staging = create_staging(folder, N, tag, 16, identities=len(names))
    receipts = [
        write_shard(staging, 0, rows, tag.digest),
        write_shard(staging, 0, people, tag.digest, "identity"),
    ]
    publish(folder, staging, receipts, manifest, identities=[{"identity": n} for n in names])
    return folder, people


def test_micas_layout_of_people_who_have_rows(
    model: FlameModel, rows: dict[str, Array], tmp_path: Path
) -> None:
    """One npz an actor, read as MICA's `datasets/base.py` reads it; a mesh a scan."""
    store, people = labelled(tmp_path / "s.zarr", model, rows)
    assert export(store, tmp_path / "out", "mica", model) == N
    files = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("out/*/*/*")}
    assert files == {
        *(f"FLAME_parameters/person_000{i}/person_000{i}.npz" for i in range(2)),
        *(f"registrations/person_000{i // 2}/scan_{i}.obj" for i in range(N)),
    }
    for i in range(2):
        path = f"FLAME_parameters/person_000{i}/person_000{i}.npz"
        with np.load(tmp_path / "out" / path, allow_pickle=True) as found:
            betas, pose = found["betas"], found["pose"]
            np.testing.assert_array_equal(betas[:300], people["identity_shape"][1 - i])
            assert betas.shape == (400,) and betas.dtype == np.float32 and not betas[300:].any()
            assert pose.shape == (15,) and not pose.any() and not found["trans"].any()
            expected = people["identity_neutral_mm"][1 - i] / 1000
            np.testing.assert_array_equal(found["vertices"], expected)
    registry = load_registry("mica")
    again = catalogue(registry, tmp_path / "out")
    assert (again.excluded, again.quarantined, len(again.companions)) == ((), (), 2)
    assert export(store, tmp_path / "ply", "ply", model) == N
    assert len([*(tmp_path / "ply").rglob("*.*")]) == N


def test_two_people_of_one_name(model: FlameModel, rows: dict[str, Array], tmp_path: Path) -> None:
    told = [{"identity": name, "split": "train"} for name in ("a:b", "a_b")]
    store, _ = labelled(tmp_path / "s.zarr", model, rows, told)
    with pytest.raises(StoreError, match="a:b and a_b would be one file"):
        export(store, tmp_path / "files", "mica", model)
    assert export(store, tmp_path / "files", "ply", model) == N


def test_what_is_exported_comes_back_through_the_registry(
    model: FlameModel, rows: dict[str, Array], tmp_path: Path
) -> None:
    heads = np.stack([model.template_mm * (0.9 + 0.05 * i) for i in range(N)]).astype(np.float32)
    people = ("lab:anna", "lab:anna", "other:7", "other:ben_k")
    scans = ("lab:anna/smile", "lab:anna/neutral", "other:7_open", "other:in/ben_k/day 2")
    told = [
        {"identity": person, "scan_id": scan, "split": "train"}
        for person, scan in zip(people, scans, strict=True)
    ]
    store = published(tmp_path / "s.zarr", model, rows | {"vertices_mm": heads}, told)
    export(store, tmp_path / "mica", "mica", model)
    registry = load_registry("mica")
    found = catalogue(registry, tmp_path / "mica")
    assert (found.excluded, found.quarantined) == ((), ())
    assert len(found.companions) == N
    by_path = sorted(found.records, key=lambda record: record.path)
    assert [(r.subject, r.expression, r.neutral) for r in by_path] == [
        ("lab_anna", "neutral", True),
        ("lab_anna", "smile", False),
        ("other_7", "open", False),
        ("other_ben_k", "day 2", False),
    ]
    for record, i in zip(by_path, (1, 0, 2, 3), strict=True):
        scan = read_record(record, registry)
        shift_mm = scan.source_to_canonical[:3, 3]
        np.testing.assert_allclose(scan.source_to_canonical[:3, :3], 1000 * np.eye(3), atol=1e-9)
        apart_mm, _ = cKDTree(heads[i] + shift_mm).query(scan.vertices_mm)
        assert apart_mm.max() < 1e-4 and len(scan.vertices_mm) > 3000


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
    one = published(tmp_path / "one.zarr", model, rows, [{"identity": "a:b", "split": "train"}])
    assert export(one, tmp_path / "files", "ply", model) == N


def test_two_scans_of_one_name(model: FlameModel, rows: dict[str, Array], tmp_path: Path) -> None:
    told = [{"scan_id": f"s0:{name}"} for name in ("a/b", "a_b", "c", "d")]
    store = published(tmp_path / "s.zarr", model, rows, told)
    with pytest.raises(StoreError, match="s0:a/b and s0:a_b would be one file"):
        export(store, tmp_path / "files", "ply", model)
    assert not (tmp_path / "files").exists()


OUTSIDE = (
    ("..", "x:pwned"),
    ("../../up", "s:../../../pwned"),
    ("/tmp/absolute", "s:/tmp/absolute"),
    ("", "no colon"),
    (".", "s:"),
    ("a\0b", "s:c\x1b[2J\n"),
    ("\u202eanna", "s:\u2066"),
    ("x" * 300, "s:" + "é" * 300),
)


@pytest.mark.parametrize("layout", ["mica", "ply", "obj"])
def test_no_name_leads_out_of_the_folder(
    model: FlameModel, rows: dict[str, Array], tmp_path: Path, layout: str
) -> None:
    for i in (0, N):
        told = [{"identity": person, "scan_id": scan} for person, scan in OUTSIDE[i : i + N]]
        store = published(
            tmp_path / f"{i}.zarr", model, rows, [t | {"split": "train"} for t in told]
        )
        assert export(store, tmp_path / "exp" / "inner", layout, model) == N
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.zarr", "4.zarr", "exp"]
    assert [path.name for path in (tmp_path / "exp").iterdir()] == ["inner"]
    files = [path for path in (tmp_path / "exp" / "inner").rglob("*") if path.is_file()]
    assert len(files) == 2 * N * (2 if layout == "mica" else 1)
    assert all(path.name.isprintable() and path.parent.name.isprintable() for path in files)
    if layout == "ply":
        assert (tmp_path / "exp" / "inner" / "%2E." / "pwned.ply") in files


def test_a_link_in_the_folder_leads_nowhere(store: Path, model: FlameModel, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "person_0000").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="a link leads out of"):
        export(store, tmp_path / "out", "ply", model)
    assert not [*(tmp_path / "elsewhere").iterdir()]
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/person_0000: Not a directory; name another --out"):
        export(store, tmp_path / "file", "ply", model)
