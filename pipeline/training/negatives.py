"""Heads that do not match a picture, by recipe: what a critic of shapes learns to refuse.

A recipe is a kind, a seed and an amount. Heads are made from it when they are needed; nothing of
them is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.errors import FacefoldError
from pipeline.geometry.rigid import rotation_matrices
from pipeline.loaders import FaceDataset
from pipeline.store.reader import Store
from pipeline.training.decoder import Decoder

JAW = 6
"""Where a pose (global, neck, jaw, eyes) begins to be part of an expression."""
LEAST_CHANGE = 0.5
"""Norm of the difference between coefficients that count as another expression."""
STEADY = 0.2
"""How much less landmarks leave open of pose and place than of shape."""
MOST_PEOPLE = 100
"""Of whom the mean distance between two is taken."""


@dataclass(frozen=True)
class Recipe:
    """How a head is made that does not match. What `amount` says depends on the kind.

    identity: the shape of another person, with this scan's expression and pose. shape: a random
    direction among shapes, as far as moves the face by `amount` × the mean distance between two
    people's faces. expression: that of another scan. pose: turned by `amount` degrees about a
    random axis through the head's middle. all: shape, expression, pose and place at once, each
    coefficient by a normal step of `amount` × its standard deviation.
    """

    kind: str
    seed: int
    amount: float

    @classmethod
    def usual(cls, kind: str, seed: int) -> Recipe:
        """Of the usual amount. Raises FacefoldError for a kind that there is none of."""
        if kind not in AMOUNTS:
            raise FacefoldError(f"negative of kind {kind!r}: expected one of {', '.join(AMOUNTS)}")
        return cls(kind, seed, AMOUNTS[kind])


AMOUNTS = {"identity": 1.0, "shape": 0.5, "expression": 1.0, "pose": 10.0, "all": 0.5}
"""Kind -> its usual amount; those of identity and expression are all or nothing."""


class Heads(NamedTuple):
    """Coefficients of B heads, and how each is turned afterwards."""

    shape: Tensor  # (B,S)
    expression: Tensor  # (B,E)
    pose: Tensor  # (B,P) axis-angle
    translation_mm: Tensor  # (B,3)
    turn: Tensor  # (B,3) axis-angle about the mean of the vertices

    @classmethod
    def of(cls, sample: Mapping[str, Tensor]) -> Heads:
        """As a store's scans have them."""
        shape, expression, pose, place = (sample[name] for name in FIELDS)
        return cls(shape, expression, pose, place, torch.zeros_like(place))

    def row(self, i: int) -> Heads:
        """One head, without the first axis."""
        return Heads(*(values[i] for values in self))


FIELDS = ("shape", "expression", "pose", "translation_mm")


@dataclass(frozen=True, eq=False)
class Pool:
    """The scans of a split, from which other people's shapes and expressions are taken."""

    people: Tensor  # (N,) int64 codes, of each scan
    heads: Heads
    face_basis_mm: Tensor  # (S,M,3) by which a unit of each component moves the face
    distance_mm: float
    """Mean distance of the face's vertices between two people at rest."""

    @cached_property
    def spread(self) -> Heads:
        """Standard deviation of each coefficient, without a first axis."""
        return Heads(*(values.std(0) for values in self.heads))

    @classmethod
    def of(cls, store: Store, split: str, decoder: Decoder) -> Pool:
        """Raises FacefoldError for a split of one person."""
        sample = FaceDataset(store, split, (*FIELDS, "identity"))[:]
        people, heads = sample["identity"], Heads.of(sample)
        model = decoder.model
        face = torch.as_tensor(model.shape_basis_mm[model.regions["face"]])
        basis = face.permute(2, 0, 1).float()[: heads.shape.shape[1]]
        first = torch.tensor([int((people == who).nonzero()[0]) for who in people.unique()])
        if len(first) < 2:
            raise FacefoldError(
                f"split {split!r} has scans of one person; negatives need two or more: name another"
            )
        some = torch.einsum("ns,smd->nmd", heads.shape[first[:MOST_PEOPLE]], basis)
        apart = [(some[i + 1 :] - some[i]).norm(dim=-1).mean(-1) for i in range(len(some) - 1)]
        return cls(people, heads, basis, float(torch.cat(apart).mean()))


def changed(head: Heads, person: int, recipe: Recipe, pool: Pool) -> Heads:
    """One head (no first axis) as the recipe changes it."""
    if recipe.kind not in _CHANGES:
        raise FacefoldError(
            f"negative of kind {recipe.kind!r}: expected one of {', '.join(AMOUNTS)}"
        )
    generator = torch.Generator().manual_seed(recipe.seed)
    return _CHANGES[recipe.kind](head, person, recipe.amount, pool, generator)


def negatives(heads: Heads, people: Tensor, recipes: Sequence[Recipe], pool: Pool) -> Heads:
    """B heads that do not match, of as many and (B,) the codes of their people."""
    host, who = Heads(*(values.cpu() for values in heads)), people.tolist()
    found = [
        changed(host.row(i), person, recipe, pool)
        for i, (person, recipe) in enumerate(zip(who, recipes, strict=True))
    ]
    return Heads(*(torch.stack(values).to(people.device) for values in zip(*found, strict=True)))


def moved(decoder: Decoder, vertices_mm: Tensor, before: Heads, after: Heads) -> Tensor:
    """(B,V,3) mm: vertices move as the model says between the coefficients before and after. What a
    registration has beyond the model stays."""
    both = (torch.cat([a, b]) for a, b in zip(before[:4], after[:4], strict=True))
    was, becomes = decoder(*both).chunk(2)
    found = vertices_mm + becomes - was
    middle = found.mean(1, keepdim=True)
    turned: Tensor = (found - middle) @ rotation_matrices(after.turn).mT + middle
    return turned


def _identity(head: Heads, person: int, amount: float, pool: Pool, g: torch.Generator) -> Heads:
    return head._replace(shape=pool.heads.shape[_one_of(pool.people != person, g, "person")])


def _shape(head: Heads, person: int, amount: float, pool: Pool, g: torch.Generator) -> Heads:
    direction = torch.randn(len(pool.face_basis_mm), generator=g)
    moved = torch.einsum("s,smd->md", direction, pool.face_basis_mm).norm(dim=-1).mean()
    return head._replace(shape=head.shape + amount * pool.distance_mm / moved * direction)


def _expression(head: Heads, person: int, amount: float, pool: Pool, g: torch.Generator) -> Heads:
    expression, pose = pool.heads.expression, pool.heads.pose[:, JAW:]
    apart = [
        (theirs - own).square().sum(-1)
        for theirs, own in (
            (expression, head.expression),
            (pose, head.pose[JAW:]),
        )
    ]
    other = _one_of(apart[0] + apart[1] > LEAST_CHANGE**2, g, "expression")
    pose = torch.cat([head.pose[:JAW], pool.heads.pose[other, JAW:]])
    return head._replace(expression=pool.heads.expression[other], pose=pose)


def _pose(head: Heads, person: int, amount: float, pool: Pool, g: torch.Generator) -> Heads:
    axis = torch.nn.functional.normalize(torch.randn(3, generator=g), dim=0)
    return head._replace(turn=axis * torch.pi / 180 * amount)


def _all(head: Heads, person: int, amount: float, pool: Pool, g: torch.Generator) -> Heads:
    sizes = amount, amount, STEADY * amount, STEADY * amount, 0.0
    return Heads(
        *(
            own + size * spread * torch.randn(len(own), generator=g)
            for own, spread, size in zip(head, pool.spread, sizes, strict=True)
        )
    )


def _one_of(rows: Tensor, g: torch.Generator, what: str) -> int:
    """One of the pool's scans that fit."""
    found = rows.nonzero()[:, 0]
    if not len(found):
        raise FacefoldError(f"no scan of another {what} to make a negative of; leave out its kind")
    return int(found[int(torch.randint(len(found), (), generator=g))])


_Change = Callable[[Heads, int, float, Pool, torch.Generator], Heads]
_CHANGES: dict[str, _Change] = {
    "identity": _identity,
    "shape": _shape,
    "expression": _expression,
    "pose": _pose,
    "all": _all,
}
