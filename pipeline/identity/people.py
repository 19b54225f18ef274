"""One name a person, within and across sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache

from pipeline.errors import FacefoldError
from pipeline.types import ScanRecord


def identities(records: Iterable[ScanRecord], same_as: Mapping[str, str]) -> dict[str, str]:
    """Scan id -> identity: `source:subject`, or the one `same_as` leads to.

    `same_as` maps a `source:subject` to the `source:subject` that is the same person; chains are
    followed to their end. Raises FacefoldError for a chain that comes back to itself.
    """
    person = cache(lambda source, subject: chain_of(f"{source}:{subject}", same_as)[-1])
    return {r.scan_id: person(r.source, r.subject) for r in records}


def names_of(
    records: Iterable[ScanRecord], identity: Mapping[str, str], same_as: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """Identity -> all names of that person: the identity, the `source:subject` of each scan, and
    those that `same_as` leads them to, whether or not their source is in the build.

    `identity` is by scan id, and may unite more people than `same_as` does. Raises FacefoldError
    as `identities`.
    """
    found: dict[str, set[str]] = defaultdict(set)
    own = {(identity[r.scan_id], f"{r.source}:{r.subject}") for r in records}
    for person, name in own:
        found[person].update((person, *chain_of(name, same_as)))
    return {person: frozenset(found[person]) for person in sorted(found)}


def chain_of(name: str, same_as: Mapping[str, str]) -> list[str]:
    """A name and those that `same_as` leads to, one after the other.

    Raises FacefoldError for a chain that comes back to itself.
    """
    chain = [name]
    while chain[-1] in same_as:
        chain.append(same_as[chain[-1]])
        if chain[-1] in chain[:-1]:
            raise FacefoldError(
                f"subjects.same_as goes in a circle: {' -> '.join(chain)}; let all but one of them "
                "point to that one"
            )
    return chain
