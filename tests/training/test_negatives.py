"""Negatives are what their recipes say, and the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.errors import FacefoldError
from pipeline.flame.assets import load_model
from pipeline.geometry.rigid import umeyama
from pipeline.loaders import FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.store.reader import open_store
from pipeline.training.decoder import Decoder
from pipeline.training.negatives import (
    AMOUNTS,
    FIELDS,
    Heads,
    Pool,
    Recipe,
    changed,
    moved,
    negatives,
)

DECODER = Decoder(load_model("stand-in"))
FACE = torch.as_tensor(DECODER.model.regions["face"])


@pytest.fixture(scope="module")
def pool(made_people: Path) -> Pool:
    return Pool.of(open_store(made_people), "train", DECODER)


@pytest.fixture(scope="module")
def batch(made_people: Path) -> Sample:
    return FaceDataset(made_people, "train", ("vertices_mm", *FIELDS, "identity"))[4:8]


def others(batch: Sample, pool: Pool, kind: str) -> Heads:
    recipes = [Recipe.usual(kind, seed) for seed in range(4)]
    return negatives(Heads.of(batch), batch["identity"], recipes, pool)


@pytest.mark.parametrize("kind", AMOUNTS)
def test_a_recipe_always_makes_the_same_head(kind: str, batch: Sample, pool: Pool) -> None:
    head, person = Heads.of(batch).row(1), int(batch["identity"][1])
    first, again, other = (
        changed(head, person, Recipe.usual(kind, seed), pool) for seed in (5, 5, 6)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, head, strict=True))


def test_another_identity_is_that_of_another_person_in_the_same_expression(
    batch: Sample, pool: Pool
) -> None:
    found, own = others(batch, pool, "identity"), Heads.of(batch)
    for shape, person in zip(found.shape, batch["identity"], strict=True):
        same = (pool.heads.shape == shape).all(1)
        assert same.any() and not (pool.people[same] == person).any()
    assert torch.equal(found.expression, own.expression) and torch.equal(found.pose, own.pose)


def test_a_shape_moves_the_face_by_half_the_distance_between_people(
    batch: Sample, pool: Pool
) -> None:
    own, found = (
        DECODER(h.shape)[:, FACE] for h in (Heads.of(batch), others(batch, pool, "shape"))
    )
    assert torch.allclose((found - own).norm(dim=-1).mean(1) / pool.distance_mm, torch.tensor(0.5))
    people = [int((pool.people == who).nonzero()[0]) for who in pool.people.unique()]
    faces = DECODER(pool.heads.shape[people])[:, FACE]
    apart = (faces[:, None] - faces).norm(dim=-1).mean(-1)
    n = len(faces)
    assert pool.distance_mm == pytest.approx(float(apart.sum() / (n * n - n)), rel=1e-4)


def test_another_expression_is_that_of_another_scan(batch: Sample, pool: Pool) -> None:
    found, own = others(batch, pool, "expression"), Heads.of(batch)
    for expression, before in zip(found.expression, own.expression, strict=True):
        assert (pool.heads.expression == expression).all(1).any()
        assert not torch.equal(expression, before)
    assert torch.equal(found.shape, own.shape) and torch.equal(found.pose[:, :6], own.pose[:, :6])


def test_a_pose_is_turned_by_ten_degrees_where_the_head_is(batch: Sample, pool: Pool) -> None:
    true = batch["vertices_mm"]
    found = moved(DECODER, true, Heads.of(batch), others(batch, pool, "pose"))
    rotation, _ = umeyama(true.double(), found.double())
    trace = rotation.diagonal(dim1=1, dim2=2).sum(1)
    assert torch.allclose(torch.rad2deg(torch.acos((trace - 1) / 2)), torch.tensor(10.0).double())
    assert torch.allclose(found.mean(1), true.mean(1), atol=1e-3)


def test_all_at_once_grows_with_its_amount(batch: Sample, pool: Pool) -> None:
    head, person = Heads.of(batch).row(0), int(batch["identity"][0])
    small, large = (changed(head, person, Recipe("all", 3, a), pool) for a in (0.1, 0.2))
    for a, b, own in zip(small, large, head, strict=True):
        assert torch.allclose(2 * (a - own), b - own, atol=1e-5)
    assert not torch.equal(small.shape, head.shape) and not torch.equal(small.pose, head.pose)


def test_what_a_registration_has_beyond_the_model_stays(batch: Sample, pool: Pool) -> None:
    beyond = torch.randn(5023, 3, generator=torch.Generator().manual_seed(0))
    own, after = Heads.of(batch), others(batch, pool, "identity")
    found = moved(DECODER, batch["vertices_mm"] + beyond, own, after)
    assert torch.allclose(found, DECODER(*after[:4]) + beyond, atol=2e-3)


def test_what_cannot_be_made_is_said(made_people: Path, batch: Sample, pool: Pool) -> None:
    head = Heads.of(batch).row(0)
    with pytest.raises(FacefoldError, match=r"kind 'hat': expected one of identity, shape"):
        Recipe.usual("hat", 0)
    with pytest.raises(FacefoldError, match="kind 'hat'"):
        changed(head, 0, Recipe("hat", 0, 1.0), pool)
    alone = Pool(pool.people[:1], Heads(*(v[:1] for v in pool.heads)), pool.face_basis_mm, 4.0)
    with pytest.raises(FacefoldError, match="no scan of another person"):
        changed(head, int(pool.people[0]), Recipe.usual("identity", 0), alone)
    with pytest.raises(FacefoldError, match="no scan of another expression"):
        changed(alone.heads.row(0), 0, Recipe.usual("expression", 0), alone)
