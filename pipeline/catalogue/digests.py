"""SHA-256 of files; what a cache knows with the same size and time of change is not opened."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from pipeline.catalogue.tree import Entry
from pipeline.errors import database_error

BATCH = 256
"""Files hashed between two writes to the cache: an interrupted run loses no more."""
THREADS = 4

_SCHEMA = """
CREATE TABLE IF NOT EXISTS digests (
    root TEXT NOT NULL,
    path TEXT NOT NULL,       -- relative to the root
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    PRIMARY KEY (root, path)
) WITHOUT ROWID
"""


class Digest(NamedTuple):
    """A file's digest and the state that it was read in."""

    size: int
    mtime_ns: int
    sha256: bytes


Digests = Mapping[str, Digest | OSError]
"""Relative path -> its digest, or why it cannot be read."""


def file_digests(
    root: Path, listed: Mapping[str, Entry | None], cache: Path | None, hide: bool = False
) -> Digests:
    """The digests of files: relative path -> the file as it was listed, None where it was not.

    `cache` is an SQLite file, made where it is missing; with `hide` it holds hashes of paths.
    FacefoldError where it is another file.
    """
    base = os.path.realpath(root)
    if cache is None:
        return dict(_hashed(base, list(listed)))
    cache.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(cache, timeout=60)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(_SCHEMA)
            if hide:
                _hide(database, base)
            found = _cached(database, base, listed, hide)
    except sqlite3.DatabaseError as error:
        raise database_error(cache, "cache of hashes", error, "delete it") from error
    return found


def forget(cache: Path, keeps: Callable[[str, str, bytes], bool]) -> int:
    """Removes from a cache the files that `keeps(root, path, sha256)` does not, to the last byte;
    returns how many they were."""
    if not cache.is_file():
        return 0
    try:
        with closing(sqlite3.connect(cache, timeout=60)) as database:
            database.execute(_SCHEMA)
            rows = database.execute("SELECT root, path, sha256 FROM digests").fetchall()
            gone = [(root, path) for root, path, sha256 in rows if not keeps(root, path, sha256)]
            with database:
                database.executemany("DELETE FROM digests WHERE root = ? AND path = ?", gone)
            scrub(database)
            return len(gone)
    except sqlite3.DatabaseError as error:
        raise database_error(cache, "cache of hashes", error, "delete it") from error


def scrub(database: sqlite3.Connection) -> None:
    """Writes a database anew, so that nothing of deleted rows is left in its files."""
    database.execute("VACUUM")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def cached_path(path: str, hide: bool) -> str:
    """What the cache has in place of a path."""
    if not hide:
        return path
    return f"#{hashlib.sha256(path.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _hide(database: sqlite3.Connection, base: str) -> None:
    """Hashes in place of the paths that a cache got before they were to be hidden."""
    rows = "FROM digests WHERE root = ? AND NOT path GLOB '#*'"
    old = [path for (path,) in database.execute(f"SELECT path {rows}", (base,))]
    if old:
        named = [(cached_path(path, True), base, path) for path in old]
        with database:
            database.executemany(
                "UPDATE OR REPLACE digests SET path = ? WHERE root = ? AND path = ?", named
            )
        scrub(database)


def _cached(
    database: sqlite3.Connection,
    base: str,
    listed: Mapping[str, Entry | None],
    hide: bool,
) -> Digests:
    rows = database.execute(
        "SELECT path, size, mtime_ns, sha256 FROM digests WHERE root = ?", (base,)
    )
    paths = {cached_path(path, hide): path for path in listed}
    found: dict[str, Digest | OSError] = {
        paths[name]: Digest(size, mtime_ns, sha256)
        for name, size, mtime_ns, sha256 in rows
        if name in paths
        and (file := listed[paths[name]])
        and (file.size, file.mtime_ns) == (size, mtime_ns)
    }
    fresh: list[tuple[str, str, int, int, bytes]] = []
    todo = [path for path in listed if path not in found]
    for n, (path, digest) in enumerate(_hashed(base, todo), 1):
        found[path] = digest
        if isinstance(digest, Digest) and _unchanged(base, path, digest):
            fresh.append((base, cached_path(path, hide), *digest))
        if n % BATCH == 0 or n == len(todo):
            with database:
                database.executemany("REPLACE INTO digests VALUES (?, ?, ?, ?, ?)", fresh)
            fresh.clear()
    return found


def _unchanged(base: str, path: str, digest: Digest) -> bool:
    try:
        status = os.stat(f"{base}/{path}")  # noqa: PTH116 - for every file of a source
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == digest[:2]


def _hashed(base: str, paths: Sequence[str]) -> Iterator[tuple[str, Digest | OSError]]:
    batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in pool.map(lambda some: list(_digests(base, some)), batches):
            yield from batch


def _digests(base: str, paths: Iterable[str]) -> Iterator[tuple[str, Digest | OSError]]:
    for path in paths:
        try:
            yield path, _digest(f"{base}/{path}")
        except OSError as error:
            yield path, error


def _digest(path: str) -> Digest:
    sha = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - for every file of a source
        status = os.fstat(file.fileno())
        while block := file.read(1 << 20):
            sha.update(block)
    return Digest(status.st_size, status.st_mtime_ns, sha.digest())
