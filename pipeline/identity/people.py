"""Who is who: one name a person within and across sources, and the split each person falls into."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from functools import cache

from pipeline.errors import FacefoldError
from pipeline.types import ScanRecord

BENCHMARK_SPLIT = "test"
"""Where people of a benchmark go, so that nothing trains on them."""


def identities(records: Iterable[ScanRecord], same_as: Mapping[str, str]) -> dict[str, str]:
    """Scan id -> identity: `source:subject`, or the one `same_as` leads to.

    `same_as` maps a `source:subject` to the `source:subject` that is the same person; chains are
    followed to their end. Raises FacefoldError for a chain that comes back to itself.
    """
    person = cache(lambda source, subject: _followed(f"{source}:{subject}", same_as))
    return {r.scan_id: person(r.source, r.subject) for r in records}


def _followed(identity: str, same_as: Mapping[str, str]) -> str:
    chain = [identity]
    while chain[-1] in same_as:
        chain.append(same_as[chain[-1]])
        if chain[-1] in chain[:-1]:
            raise FacefoldError(
                f"subjects.same_as goes in a circle: {' -> '.join(chain)}; let all but one of them "
                "point to that one"
            )
    return chain[-1]


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
