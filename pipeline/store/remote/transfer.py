"""Between a store in a folder and one below a URL: `push` and `pull`."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import StoreError
from pipeline.store.checks.content import content_digest
from pipeline.store.checks.verification import FILES_AT_ONCE, faults_of_version
from pipeline.store.checksums import Sums, file_digest
from pipeline.store.durable_files import disk_faults_told, write_file, write_parts
from pipeline.store.form import Form, attributes_in, form_in, form_of
from pipeline.store.head import current_version, move_head, version_name
from pipeline.store.listing import check_shards, file_entry, listing_in, listing_of, version_of
from pipeline.store.locks import publishing
from pipeline.store.paths import FILES, GROUP, HEAD, RUN, VERSIONS
from pipeline.store.publishing import put_in_place
from pipeline.store.remote.head import published_version, swap_head
from pipeline.store.remote.objects import Place
from pipeline.store.staging import check_model, new_staging, removed_on_fault

OBJECTS_AT_ONCE = 1000
"""That one request may remove."""


def push(store: Path | str, url: str) -> str:
    """Publish a store's version below a URL too; returns the version's own URL.

    Every object that is sent is read back and compared before HEAD is swapped, and HEAD only where
    it still is what it was at the start: a reader sees the old version or the new one. Objects that
    are there already, from a push that was broken off, are compared and not sent again. Those that
    the version published there has too are copied from it by the object store, and not read.

    Raises StoreError where the objects cannot be written or are not what was sent, where foreign
    ones are among them, where another push came first, or where the store there was made with
    another model.
    """
    version, place = current_version(store), Place(url)
    published, seen = place.look(HEAD)
    before = version_name(f"{place}/{HEAD}", published) if published is not None else ""
    target = place / VERSIONS / version.name
    old = place / VERSIONS / before if before not in ("", version.name) else None
    if old is not None:
        _same_model(old, form_of(version))
    listing = listing_of(version)["files"]
    there = target.sizes()
    if foreign := sorted(there.keys() - listing.keys() - {FILES, RUN}):
        raise StoreError(
            f"{target}/{foreign[0]}: does not belong to the version; remove it, then push again"
        )
    common = _in_common(old, listing) - there.keys() if old else frozenset()

    def bring(name: str) -> None:
        if name not in common or not _copied(place, before, version.name, name):
            _sent(version, target, there, name, listing[name])

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        list(pool.map(bring, listing))
    for name in (RUN, FILES):  # the listing says that all else is there: it is the last
        if (version / name).exists():
            _sent(version, target, there, name, file_entry(version / name))
    swap_head(place, version.name, before, seen)
    return str(target)


def prune_url(url: str) -> list[str]:
    """Removes all versions below a URL but the published one, whose HEAD is read first; returns
    their names.

    Buckets that keep old versions of objects, and their backups, are not reached from here.
    """
    place = Place(url)
    name = version_name(f"{place}/{HEAD}", place.read(HEAD))
    below = (place / VERSIONS).sizes()
    old = sorted(path for path in below if path.partition("/")[0] != name)
    # the listing first: what is broken off is no version any more
    old.sort(key=lambda path: not path.endswith(f"/{FILES}"))
    for start in range(0, len(old), OBJECTS_AT_ONCE):
        (place / VERSIONS).delete(old[start : start + OBJECTS_AT_ONCE])
    return sorted({path.partition("/")[0] for path in old})


def _in_common(old: Place, listing: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Files that the version `old` has too, in full size; what they hold was compared when they
    came there."""
    content, sizes = old.look(FILES)[0], old.sizes()
    try:
        known = listing_in(content or b"", f"{old}/{FILES}")["files"]
    except StoreError:  # damaged: nothing is taken from it
        return frozenset()
    return frozenset(
        name
        for name, entry in listing.items()
        if known.get(name) == entry and sizes.get(name) == entry["bytes"]
    )


def _copied(place: Place, old: str, new: str, name: str) -> bool:
    """False where it has to be sent: it has gone meanwhile, or is too large for one request."""
    try:
        place.copy(f"{VERSIONS}/{old}/{name}", f"{VERSIONS}/{new}/{name}")
    except StoreError:
        return False
    return True


def _sent(
    version: Path, target: Place, there: Mapping[str, int], name: str, entry: Mapping[str, Any]
) -> None:
    def arrived() -> bool:
        expected: str = entry["sha256"]
        return content_digest(target, name, entry["bytes"]) == expected

    if there.get(name) == entry["bytes"] and arrived():
        return
    try:
        target.send(name, version / name)
    except OSError as error:
        fault = "missing" if isinstance(error, FileNotFoundError) else error.strerror
        raise StoreError(
            f"{version / name}: {fault}; verify the store, then publish again"
        ) from error
    if arrived():
        return
    if file_digest(version / name) != entry["sha256"]:
        raise StoreError(f"{version / name}: damaged; verify the store, then publish again")
    raise StoreError(f"{target}/{name}: is not what was sent; push again")


def _same_model(version: Place, form: Form) -> None:
    group = f"{version}/{GROUP}"
    there = form_in(attributes_in(version.read(GROUP), group), str(version))
    if there.model.digest != form.model.digest:
        raise StoreError(
            f"{version}: made with the model {there.model.name!r}, the store to push with "
            f"{form.model.name!r}; choose another URL"
        )


def pull(url: str, out: Path | str) -> Path:
    """Publish the version that a URL's HEAD names (or that the URL is) in the store `out` too.

    Everything is read back and compared before HEAD is swapped; returns the version's folder.
    Raises StoreError where objects are missing or damaged, where the disk is full, and where `out`
    was made with another model.
    """
    source, out = published_version(Place(url)), Path(out)
    content = source.read(FILES)
    listing = listed(source, content)
    version = out / VERSIONS / version_of(listing)
    if version.exists() and not faults_of_version(version):
        with publishing(out):
            move_head(out, version)
        return version
    staging = new_staging(out)
    with removed_on_fault(staging), disk_faults_told(staging):
        fetch_small(source, content, staging)
        form = form_of(staging)
        check_shards(form, listing["files"], f"{source}/{FILES}")
        check_model(out, form.model)
        shards = {name: entry for name, entry in listing["files"].items() if "field" in entry}
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            list(pool.map(partial(_received, source, staging), shards, shards.values()))
        return put_in_place(out, staging)


def listed(version: Place, content: bytes) -> dict[str, Any]:
    """What a version's `files.json` says. Raises StoreError where it is damaged or another's."""
    listing = listing_in(content, f"{version}/{FILES}")
    name = PurePosixPath(version.url).name
    if PurePosixPath(version.url).parent.name == VERSIONS and version_of(listing) != name:
        raise StoreError(f"{version}/{FILES}: is that of another version; push this one again")
    return listing


def fetch_small(version: Place, listing: bytes, folder: Path) -> None:
    """Write all of a version but its shards; `listing` is its `files.json`.

    Raises StoreError where an object is missing or damaged.
    """
    files = listed(version, listing)["files"]
    small = {name: entry for name, entry in files.items() if "field" not in entry}
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        list(pool.map(partial(_received, version, folder), small, small.values()))
    run = version.look(RUN)[0]
    if run is not None:
        write_file(folder / RUN, run)
    write_file(folder / FILES, listing)


def _received(version: Place, folder: Path, name: str, entry: Mapping[str, Any]) -> None:
    sums = Sums()
    write_parts(folder / name, sums.passing(version.pieces(name, entry["bytes"])))
    if sums.taken()["sha256"] != entry["sha256"]:
        raise StoreError(f"{version}/{name}: damaged; verify {version}, then push it again")
