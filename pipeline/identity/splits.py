"""The split each person falls into, whatever names the person goes by."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

from pipeline.errors import FacefoldError

BENCHMARK_SPLIT = "test"
"""Where people of a benchmark go, so that nothing trains on them."""
UNDECIDED_SPLIT = "undecided"
"""Where people go who may be a benchmark's, until a person has decided it: nothing trains or tests
on them, and of whom the decision is "different" nothing has been said before."""


def split_of(identity: str, shares: Mapping[str, float], seed: int) -> str:
    """The split of a name by its hash alone, so that no other name ever moves it.

    `shares` maps split -> share, adding up to 1. Raises FacefoldError where they do not.
    """
    total = sum(shares.values())
    if not shares or min(shares.values()) < 0 or abs(total - 1) > 1e-6:
        raise FacefoldError(f"splits: got {dict(shares)}, expected shares ≥ 0 that add up to 1")
    digest = hashlib.sha256(f"{seed}:{identity}".encode()).digest()
    place, reached = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for split, share in shares.items():
        reached += share / total
        if place < reached:
            return split
    # rounding may leave the sum a hair below 1
    return next(split for split in reversed(list(shares)) if shares[split] > 0)


def strictest_first(splits: Iterable[str]) -> tuple[str, ...]:
    """The splits of a build in the order in which they claim a person of several names: `test`,
    `undecided`, `val`, any others of the build file with the last of them first, `train`."""
    others = [name for name in splits if name not in ("test", UNDECIDED_SPLIT, "val", "train")]
    return ("test", UNDECIDED_SPLIT, "val", *reversed(others), "train")


def assign_splits(
    names: Mapping[str, Collection[str]],
    shares: Mapping[str, float],
    seed: int,
    benchmark: Collection[str] = (),
    undecided: Collection[str] = (),
    stated: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Identity -> split, in alphabetical order: the strictest of those of its names.

    `names` maps identity -> the names of that person (`names_of`), each of which has a split of its
    own: the one `stated` for it, else that of its hash. So whoever is found to be one with a person
    of `test` is in `test` as well, and nobody ever leaves it by a merge. Identities of a
    `benchmark` are in BENCHMARK_SPLIT, those that are `undecided` in UNDECIDED_SPLIT unless in
    `test` anyway. Raises FacefoldError for shares that do not add up to 1, and for a stated split
    that the build does not have.
    """
    stated = stated or {}
    order = {split: place for place, split in enumerate(strictest_first(shares))}
    if unknown := sorted(set(stated.values()) - order.keys()):
        raise FacefoldError(
            f"profile: got the split {unknown[0]!r}, expected one of {', '.join(order)}; "
            "name it under `splits` of the build file, with a share of 0 if nobody else is in it"
        )
    found = {}
    for identity in sorted(names):
        claims = {
            stated[name] if name in stated else split_of(name, shares, seed)
            for name in names[identity] or (identity,)
        }
        if identity in benchmark:
            claims.add(BENCHMARK_SPLIT)
        if identity in undecided:
            claims.add(UNDECIDED_SPLIT)
        found[identity] = min(claims, key=order.__getitem__)
    return found
