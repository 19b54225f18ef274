"""The versions of a store: the published one, and earlier ones that readers may still hold."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store.documents import content_of, unsealed
from pipeline.store.head import current_version
from pipeline.store.listing import listing_in
from pipeline.store.paths import FILES, RUN, VERSIONS


@dataclass(frozen=True)
class Version:
    """A folder of `versions/`."""

    path: Path
    published: datetime
    """When it was published first; UTC."""
    bytes: int
    is_current: bool
    """HEAD names it."""

    @property
    def name(self) -> str:
        return self.path.name


def list_versions(store: Path | str) -> list[Version]:
    """All versions of a store, the latest first. What is in `versions/` besides is left out.

    Raises StoreError where there is no store or nothing has been published.
    """
    current, found = current_version(store), []
    for path in (Path(store) / VERSIONS).iterdir():
        try:
            published, size = _published(path), _bytes(path)
        except (FileNotFoundError, NotADirectoryError):  # no version, or one that is being removed
            continue
        found.append(Version(path, published, size, path.name == current.name))
    return sorted(found, key=lambda version: (version.published, version.name), reverse=True)


def _published(version: Path) -> datetime:
    """As the publisher noted; where it did not, or the note is damaged, when the last of the
    version's own files was written, which a copy of the folder may change."""
    written = (version / FILES).stat().st_mtime
    try:
        noted = datetime.fromisoformat(unsealed(version / RUN)["published"])
    except (StoreError, KeyError, ValueError, TypeError):
        return datetime.fromtimestamp(written, UTC)
    return noted if noted.tzinfo else noted.replace(tzinfo=UTC)


def _bytes(version: Path) -> int:
    """As listed, for there may be many thousand files; counted where the listing is damaged."""
    try:
        content = content_of(version / FILES)
        files = listing_in(content, version / FILES)["files"]
    except StoreError:
        return bytes_below(version)
    run, listed = version / RUN, sum(int(entry["bytes"]) for entry in files.values())
    return len(content) + listed + (run.stat().st_size if run.exists() else 0)


def bytes_below(folder: Path) -> int:
    """Sizes of all files in it, together; of those that vanish meanwhile nothing."""
    return sum(status.st_size for status in _files_below(folder))


def bytes_freed(folders: Iterable[Path]) -> int:
    """What goes from the disk with the folders: not what other versions have in common with them,
    which are the same files."""
    names: Counter[tuple[int, int]] = Counter()
    files = {}
    for status in chain.from_iterable(map(_files_below, folders)):
        file = status.st_dev, status.st_ino
        names[file] += 1
        files[file] = status
    return sum(s.st_size for file, s in files.items() if names[file] == s.st_nlink)


def _files_below(folder: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                yield Path(parent, name).lstat()
