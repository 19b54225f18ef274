"""The split each person falls into; people of a benchmark never train."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

from pipeline.errors import FacefoldError

BENCHMARK_SPLIT = "test"
"""Where people of a benchmark go, so that nothing trains on them."""


def split_of(identity: str, shares: Mapping[str, float], seed: int) -> str:
    """The split of an identity by its hash alone, so that no other identity ever moves it.

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


def assign_splits(
    identities: Iterable[str],
    shares: Mapping[str, float],
    seed: int,
    benchmark: Collection[str] = (),
) -> dict[str, str]:
    """Identity -> split, in alphabetical order; those of a `benchmark` are always in "test"."""
    return {
        identity: BENCHMARK_SPLIT if identity in benchmark else split_of(identity, shares, seed)
        for identity in sorted(identities)
    }
