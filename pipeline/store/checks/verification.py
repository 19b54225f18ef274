"""Checking a store, in a folder or below a URL."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

from pipeline.errors import StoreError
from pipeline.store.checks.consistency import contradictions
from pipeline.store.checks.content import faults_of_file
from pipeline.store.checks.file_places import Files, Folder
from pipeline.store.documents import LARGEST, unsealed_content
from pipeline.store.head import current_version
from pipeline.store.listing import listing_in, version_of
from pipeline.store.paths import FILES, RUN, VERSIONS, is_there, strangers
from pipeline.store.remote.head import published_version
from pipeline.store.remote.objects import Place, is_url

FILES_AT_ONCE = 4


def verify(store: Path | str) -> list[str]:
    """Every fault of a store's published version, or of one version; empty = sound.

    `store` is a folder or a URL. Reads every byte: finds each flipped bit, truncation, missing and
    foreign file, and names the damaged rows of an array. Raises StoreError where a URL cannot be
    read at all.
    """
    place: Place | Folder = Place(str(store)) if is_url(store) else Folder(Path(store))
    try:
        if isinstance(place, Folder) and not is_there(place.path):
            return [f"{store}: there is no such folder"]
    except StoreError as error:
        return [str(error)]
    names = place.sizes()
    if FILES in names:
        return _faults(place)
    try:
        version = (
            published_version(place)
            if isinstance(place, Place)
            else Folder(current_version(place.path))
        )
    except StoreError as error:
        return [str(error)]
    foreign = strangers({name.partition("/")[0] for name in names})
    return [f"{name}: does not belong to the store" for name in foreign] + _faults(version)


def faults_of_version(
    version: Path, quick: bool = False, unread: Collection[str] = ()
) -> list[str]:
    """Every fault of one version's folder, each beginning with the file it concerns.

    `quick` compares the CRC-32C of those files whose listing has it, in a tenth of the time. Of
    the files `unread` only the size is compared.
    """
    return _faults(Folder(version), quick, unread)


def _faults(version: Files, quick: bool = False, unread: Collection[str] = ()) -> list[str]:
    sizes = version.sizes()
    if FILES not in sizes:
        return [f"{version}/{FILES}: missing; this is no published version of a store"]
    if large := [f for f in (FILES, RUN) if not 0 <= sizes.get(f, 0) <= LARGEST]:
        return [f"{large[0]}: is no regular file of at most {LARGEST:,} bytes"]
    try:
        listing = listing_in(version.read(FILES), f"{version}/{FILES}")
    except StoreError as error:
        return [str(error)]
    faults = []
    where = PurePosixPath(str(version))
    if where.parent.name == VERSIONS and where.name != version_of(listing):
        faults.append(f"{where.name}: the folder's name is not its content's digest")
    files = listing["files"]
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        check = partial(faults_of_file, version, sizes, quick, unread)
        found = pool.map(check, files, files.values())
        faults += [fault for some in found for fault in some]
    try:
        if RUN not in sizes:
            faults.append(f"{RUN}: missing")
        else:
            unsealed_content(version.read(RUN), f"{version}/{RUN}")
    except StoreError as error:
        faults.append(str(error))
    foreign = sizes.keys() - files.keys() - {FILES, RUN}
    faults += [f"{name}: does not belong to the version" for name in sorted(foreign)]
    return faults or ([] if quick else contradictions(version, files))
