"""One name a person, within and across sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from pipeline.errors import FacefoldError
from pipeline.types import ScanRecord


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
