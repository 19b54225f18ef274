"""HEAD below a URL: which version is published there, and how another takes its place."""

from __future__ import annotations

from pipeline.errors import StoreError
from pipeline.store.head import version_name
from pipeline.store.paths import FILES, HEAD, VERSIONS
from pipeline.store.remote.objects import Place
from pipeline.store.remote.requests import MISSING, Seen


def published_version(place: Place) -> Place:
    """The version that a store's HEAD names, or `place` itself where it is a version.

    Raises StoreError where there is neither.
    """
    content = place.look(HEAD)[0]
    if content is None:
        if place.look(FILES)[0] is not None:
            return place
        raise StoreError(f"{place}: holds no published store (no {HEAD} object); {MISSING}")
    return place / VERSIONS / version_name(f"{place}/{HEAD}", content)


def swap_head(place: Place, name: str, before: str, seen: Seen) -> None:
    """`name` takes the place of the version `before`, `seen` when HEAD was read.

    Raises StoreError where HEAD names another one by now.
    """
    if place.swap(HEAD, name.encode() + b"\n", seen):
        return
    now = (place.look(HEAD)[0] or b"nothing").decode("ascii", "replace").strip()
    raise StoreError(
        f"{place}/{HEAD}: moved from {before or 'nothing'} to {now} during the push of {name}; "
        "look at what was published there, then push again"
    )
