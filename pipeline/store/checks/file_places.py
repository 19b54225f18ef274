"""Where the files of a version lie, for who checks them: a folder here, or below a URL."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """What a check needs: `Folder` here, `remote.objects.Place` below a URL. Names are relative."""

    def sizes(self) -> dict[str, int]: ...

    def read(self, name: str) -> bytes: ...

    def pieces(self, name: str, size: int) -> Iterable[bytes]: ...


class Folder:
    """Files below a folder. What cannot be read is an OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def sizes(self) -> dict[str, int]:
        """Of all that is no folder; -1 of what is no file either: a link, a pipe."""
        sizes = {}
        for path in self.path.rglob("*"):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                size = status.st_size if stat.S_ISREG(status.st_mode) else -1
                sizes[path.relative_to(self.path).as_posix()] = size
        return sizes

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        with (self.path / name).open("rb") as file:
            while piece := file.read(1 << 22):
                yield piece
