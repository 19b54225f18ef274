"""A store of heads of known coefficients of another model than the one it was made with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flows.terminal.command import app
from pipeline.build.refit_store import OF_SCANS, refit_store
from pipeline.build.tally import Tally
from pipeline.errors import StoreError
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.loaders import FaceDataset
from pipeline.registration.anchor import anchored
from pipeline.registration.consensus import explained
from pipeline.registration.template import prepare_template
from pipeline.store import (
    ModelTag,
    create_staging,
    export,
    open_store,
    publish,
    subset,
    verify,
    write_shard,
)
from pipeline.store.reader import Store
from pipeline.store.schema import IDENTITY
from pipeline.store.topology import Topology
from pipeline.store.validity_bits import pack_validity
from pipeline.types import Array
from tests.store.random_store import people_of, random_manifest, random_people, random_rows

N, IN_SHARD = 20, 16


def other_model() -> FlameModel:
    """The stand-in in fewer components, in another order and of another size."""
    model = stand_in()
    return replace(
        model,
        name="other",
        shape_basis_mm=np.ascontiguousarray(2 * model.shape_basis_mm[..., 40::-1]),
        expression_basis_mm=np.ascontiguousarray(model.expression_basis_mm[..., :20]),
    )


def heads(model: FlameModel) -> tuple[Array, Array]:
    """(N,V,3) mm, and the identity (N,41) of each."""
    draw, tensors = torch.Generator().manual_seed(3), to_tensors(model, "cpu", torch.float64)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    shape, expression = normal(N, 41), 0.3 * normal(N, 20)
    pose = 0.1 * normal(N, 15)
    pose[:, :3] = normal(N, 3)
    vertices = pose_vertices(tensors, shape, expression, pose, 50 * normal(N, 3))
    return vertices.float().numpy(), shape.numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The back of every head is not valid, and lies anywhere."""
    store, model = tmp_path_factory.mktemp("refit") / "unified.zarr", stand_in()
    tag, n_people = ModelTag.of(model), len(people_of(N))
    rows, people = random_rows(N, n_vertices=5023), random_people(n_people, n_vertices=5023)
    vertices, shape = heads(other_model())
    valid = np.ones((N, 5023), bool)
    valid[:, model.template_mm[:, 2] < -60] = False
    vertices[~valid] += 5
    rows |= {
        "vertices_mm": vertices,
        "validity": pack_validity(valid),
        "expected_error_mm": np.full((N, 5023), 0.5, np.float32),
        "offset_mm": np.full((N, 5023, 3), 1.0, np.float32),
    }
    tensors = to_tensors(other_model(), "cpu", torch.float64)
    rest = tensors.template + torch.einsum(
        "bs,svd->bvd", torch.from_numpy(shape[:n_people]), tensors.shape_basis
    )
    people["identity_neutral_mm"] = rest.float().numpy()
    staging = create_staging(
        store, N, tag, IN_SHARD, topology=Topology.of(model), identities=n_people
    )
    receipts = [
        write_shard(staging, k, part(rows, k), tag.digest) for k in range(-(-N // IN_SHARD))
    ]
    receipts.append(write_shard(staging, 0, people, tag.digest, IDENTITY))
    publish(store, staging, receipts, random_manifest(N), identities=people_of(N))
    return store


def part(rows: dict[str, Array], shard: int) -> dict[str, Any]:
    return {name: x[shard * IN_SHARD : (shard + 1) * IN_SHARD] for name, x in rows.items()}


@pytest.fixture(scope="module")
def versions(made: Path) -> tuple[Store, Store, Tally]:
    """The store before, and after; what was seen meanwhile."""
    before, seen = open_store(made), Tally()
    done = refit_store(made, other_model(), seen)
    assert (done.scans, done.people) == (N, len(people_of(N)))
    assert done.residual_mm < 0.1 < done.before_mm == pytest.approx(3**0.5)
    assert done.version == open_store(made).path
    return before, open_store(made), seen


def test_coefficients_are_the_other_models(versions: tuple[Store, Store, Tally]) -> None:
    _, after, _ = versions
    model, (_, shape) = other_model(), heads(other_model())
    tensors = to_tensors(model, "cpu", torch.float64)
    found = after.read_fields((*OF_SCANS, "vertices_mm", "validity"), slice(None))
    given = [
        torch.from_numpy(x).double()
        for x in (
            found["shape"][:, :41],
            found["expression"][:, :20],
            found["pose"],
            found["translation_mm"],
        )
    ]
    posed = pose_vertices(tensors, *given).numpy()
    assert np.abs(posed + found["offset_mm"] - found["vertices_mm"]).max() < 1e-4
    assert np.abs(found["shape"][:, :41] - shape).max() < 0.2
    assert not found["shape"][:, 41:].any() and not found["expression"][:, 20:].any()


def test_people_are_explained_as_builds_do(versions: tuple[Store, Store, Tally]) -> None:
    _, after, _ = versions
    shape = heads(other_model())[1][: after.form.identities]
    found = after.read_identities("identity_shape", slice(None))
    assert np.abs(found[:, :41] - shape).max() < 0.25
    template = prepare_template(other_model(), "cpu", 0)
    head = torch.from_numpy(after.read_identities("identity_neutral_mm", [3]))[0].double()
    head = anchored(template, head)
    assert found[3, :41] == pytest.approx(explained(template, head)[0].numpy(), abs=1e-5)


def test_all_else_is_the_same_files(versions: tuple[Store, Store, Tally]) -> None:
    before, after, seen = versions
    replaced = {*OF_SCANS, "identity_shape"}
    assert verify(after.path) == []
    for path, file in after.listing["files"].items():
        if (name := file.get("field")) is None:
            continue
        same = (after.path / path).samefile(before.path / path)
        assert same == (name not in replaced), path
    assert seen.phases and seen.done == 0
    assert not [path for path in after.path.parent.iterdir() if path.name.startswith(".")]


def test_a_version_says_whose_coefficients_it_has(versions: tuple[Store, Store, Tally]) -> None:
    before, after, _ = versions
    assert before.coefficient_model == before.model == after.model
    assert after.coefficient_model["name"] == "other"
    assert after.coefficient_model["digest"] == other_model().digest
    told = json.loads((after.path / "zarr.json").read_text())["attributes"]["attached"]
    assert {one["name"] for one in told} == {*OF_SCANS, "identity_shape"}
    assert {one["model"]["name"] for one in told} == {"other"}
    said = json.loads((after.path / "provenance.json").read_text())["attached"]["shape"]
    assert said["model"]["digest"] == other_model().digest
    assert said["of"] == before.path.name


def test_it_is_read_shared_and_exported(
    versions: tuple[Store, Store, Tally], tmp_path: Path
) -> None:
    _, after, _ = versions
    batch = FaceDataset(after.path, fields=("shape", "vertices_mm"))[[2, 5]]
    assert batch["shape"].shape == (2, 300)
    part = open_store(subset(after.path, "source == 's1'", tmp_path / "part.zarr"))
    assert part.coefficient_model == after.coefficient_model and verify(part.path) == []
    assert export(after.path, tmp_path / "mica", "mica", other_model()) == N
    with pytest.raises(StoreError, match="coefficients made with the model 'other', got"):
        export(after.path, tmp_path / "mica", "mica", stand_in())


def test_once_more_is_the_same_version(versions: tuple[Store, Store, Tally], made: Path) -> None:
    _, after, _ = versions
    again = open_store(refit_store(made, other_model()).version)
    for name in OF_SCANS:
        assert (again.read(name, slice(None)) == after.read(name, slice(None))).all(), name


def test_another_topology_is_refused(made: Path, versions: tuple[Store, Store, Tally]) -> None:
    model, head = other_model(), open_store(made).path
    swapped = model.faces[:, ::-1].copy()
    with pytest.raises(StoreError, match="triangles of the model other are not those of the store"):
        refit_store(made, replace(model, faces=swapped))
    few = replace(
        model,
        template_mm=model.template_mm[:5000],
        faces=model.faces[(model.faces < 5000).all(1)],
        shape_basis_mm=model.shape_basis_mm[:5000],
        expression_basis_mm=model.expression_basis_mm[:5000],
        pose_basis_mm=model.pose_basis_mm[:5000],
        weights=model.weights[:5000],
        joint_regressor=model.joint_regressor[:, :5000],
    )
    with pytest.raises(StoreError, match="of 5023 vertices, the model other has 5000"):
        refit_store(made, few)
    assert open_store(made).path == head


def test_the_command_says_what_it_did(
    made: Path, versions: tuple[Store, Store, Tally], tmp_path: Path
) -> None:
    model = other_model()
    np.savez(
        tmp_path / "flame_new.npz",
        v_template=model.template_mm,
        f=model.faces,
        shapedirs=np.concatenate([model.shape_basis_mm, model.expression_basis_mm], 2),
        n_shape=41,
        posedirs=model.pose_basis_mm,
        J_regressor=model.joint_regressor,
        weights=model.weights,
        kintree_table=np.stack([model.parents, np.arange(5)]),
    )
    command = ["refit", str(made), "--model", str(tmp_path / "flame_new.npz")]
    result = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["model"] == "flame_new" and told["scans"] == N
    assert told["residual_mm"] == pytest.approx(told["before_mm"], abs=0.02)
    assert open_store(made).path == Path(told["store"])
    told = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert f"coefficients of flame_new for {N} scans and 10 people" in told


def test_a_url_is_refused() -> None:
    with pytest.raises(StoreError, match="pull it"):
        refit_store("s3://bucket/store", other_model())
