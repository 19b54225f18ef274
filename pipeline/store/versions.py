"""The versions of a store: the published one, and earlier ones that readers may still hold."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store.layout import FILES, RUN, VERSIONS, current_version, unsealed


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
            written = (path / FILES).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):  # no version, or one that is being removed
            continue
        size, is_current = bytes_below(path), path.name == current.name
        found.append(Version(path, _published(path, written), size, is_current))
    return sorted(found, key=lambda version: (version.published, version.name), reverse=True)


def _published(version: Path, written: float) -> datetime:
    """As the publisher noted; where it did not, or the note is damaged, when the last of the
    version's own files was `written` (seconds), which a copy of the folder may change."""
    try:
        return datetime.fromisoformat(unsealed(version / RUN)["published"])
    except (StoreError, KeyError, ValueError):
        return datetime.fromtimestamp(written, timezone.utc)


def bytes_below(folder: Path) -> int:
    """Sizes of all files in it, together; of those that vanish meanwhile nothing."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += Path(parent, name).lstat().st_size
    return size
