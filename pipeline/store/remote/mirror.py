"""Reading a store below a URL through a folder that holds as much of it as has been asked for.

A mirror is a version's folder: its tables and metadata whole, its shards as sparse files of full
size, filled by pieces (`pieces.py`) as rows are asked for. It belongs to one machine, until that
machine starts anew: who is on another one, or finds the files after a power cut, makes another.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import google_crc32c
import numpy as np

from pipeline.errors import StoreError
from pipeline.store.arrays.mapped import MappedField
from pipeline.store.documents import as_json, content_of, parsed
from pipeline.store.form import Form
from pipeline.store.listing import Files, check_shards
from pipeline.store.locks import lock
from pipeline.store.paths import FILES, form_of, path_of, shard_index, write_file
from pipeline.store.remote.objects import Place, published_version
from pipeline.store.remote.pieces import CHANGING, Pieces, create, now, punch
from pipeline.store.remote.transfer import fetch_small, listed
from pipeline.store.tables import CHECKSUM, read_table
from pipeline.types import Array

CACHE_BYTES, PIECE_BYTES = 64 << 30, 4 << 20
MIRROR, IN_USE = "mirror.json", "in_use"
FETCHES = 8
"""Pieces that a thread downloads at once."""


def mirrored(
    url: str,
    cache: Path | str | None = None,
    cache_bytes: int = CACHE_BYTES,
    piece_bytes: int = PIECE_BYTES,
) -> Path:
    """The mirror of the version that a URL's HEAD names, made if it is not there.

    `cache` is a folder on a disk of this machine, ~/.cache/facefold without it; `cache_bytes`
    bounds what the mirror's shards occupy there, as the last caller says. `piece_bytes` is about
    what one request fetches, as the first caller says.

    Raises StoreError where the version cannot be read, and where the folder's file system cannot
    hold a mirror.
    """
    if cache_bytes < 0 or piece_bytes < 1:
        raise StoreError(
            f"cache_bytes {cache_bytes}, piece_bytes {piece_bytes}: expected ≥ 0 and ≥ 1"
        )
    version = published_version(Place(url))
    content = version.read(FILES)
    listing = listed(version, content)
    cache = Path(cache).absolute() if cache is not None else _default_cache()
    started = _machine_start(cache)
    folder = cache / f"{listing['digest'][:16]}-{started}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        making = lock(folder.with_suffix(".lock"), fcntl.LOCK_EX)
        try:
            if (folder / MIRROR).exists():
                facts = parsed(content_of(folder / MIRROR), folder / MIRROR)
            else:
                _sweep(cache, started)
                fetch_small(version, content, folder)
                _lay_out(folder, listing["files"], piece_bytes)
                facts = {"piece_bytes": piece_bytes}
            wanted = facts | {"url": version.url, "cache_bytes": cache_bytes}
            if wanted != facts:
                write_file(folder / MIRROR, as_json(wanted))
        finally:
            os.close(making)
    except OSError as error:
        fault = error.strerror or error
        raise StoreError(
            f"{folder}: {fault}; name a cache folder on a local disk with room"
        ) from error
    return folder


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facefold"


def is_mirror(folder: Path) -> bool:
    """Whether this machine made it, since it started: a store that was copied here from elsewhere
    is not read from wherever a file in it says."""
    path = folder / MIRROR
    return path.exists() and folder.name.endswith(f"-{_machine_start(folder)}")


def _machine_start(cache: Path) -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except FileNotFoundError as error:
        raise StoreError(f"{cache}: mirrors need Linux; pull the store instead") from error


def _sweep(cache: Path, started: str) -> None:
    """Remove mirrors that nobody reads any more of machines that are not this one as it runs."""
    for folder in cache.glob("*-*"):
        if not folder.is_dir() or folder.name.endswith(started):
            continue
        try:
            with ExitStack() as held:
                for path in (folder.with_suffix(".lock"), folder / IN_USE):
                    held.callback(os.close, lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
                shutil.rmtree(folder, ignore_errors=True)
                folder.with_suffix(".lock").unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # in use, or removed by another


def _lay_out(folder: Path, files: Files, piece_bytes: int) -> None:
    """The shards as sparse files, which hold their indices alone, and no piece yet."""
    form = form_of(folder)
    check_shards(form, files, folder / FILES)
    for path, entry in files.items():
        if "field" in entry:
            _lay_out_shard(folder / path, form, entry["field"], entry["bytes"])
    create(folder, form, piece_bytes)


def _lay_out_shard(path: Path, form: Form, name: str, n_bytes: int) -> None:
    data, index = n_bytes - form.index_bytes(name), b""
    if form.profile == "training":
        chunk_bytes = form.chunk_rows(name) * form.stored(name).row_bytes
        index = shard_index(form, name, [chunk_bytes] * (data // chunk_bytes))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        os.ftruncate(descriptor, n_bytes)
        punch(descriptor, 0, data)  # where this is refused, so would be an eviction
        os.pwrite(descriptor, index, data)
    finally:
        os.close(descriptor)


class Mirrored:
    """Rows of one field of a mirror, fetched when they are first asked for: `packed.Rows`.

    `paths` are the mirror's files, `places` the (n,2) first row and number of rows of each scan
    where it has several. Every row is compared with its checksum in the manifest before
    anybody sees it. What is asked for may be larger than what the mirror keeps.

    Raises StoreError, when rows are asked for, where they cannot be fetched or are damaged, and at
    once for a version of the archive profile.
    """

    def __init__(
        self,
        folder: Path,
        form: Form,
        name: str,
        paths: Sequence[str],
        places: Array | None = None,
    ) -> None:
        facts = parsed(content_of(folder / MIRROR), folder / MIRROR)
        self._folder, self._form, self._name = folder, form, name
        self._place = Place(facts["url"])
        if form.profile != "training":
            raise StoreError(
                f"{self._place}: of the profile {form.profile!r}, whose rows cannot be read from "
                "there; pull it, or push it in the training profile"
            )
        self._rows = MappedField(form, name, paths)
        self.held = self._rows.held
        self._field, self._places = form.stored(name), places
        self._pieces = Pieces(folder, form, facts["piece_bytes"], facts["cache_bytes"])
        self._numbers = self._pieces.numbers[name]
        _hold(folder)

    def row(self, row: int) -> Array:
        return self.take(np.array([row]))[0]

    def span(self, start: int, count: int) -> Array:
        if not count:
            return np.empty((0, *self._field.shape), self._field.dtype)
        first, last = self._pieces_of(np.array([start, start + count - 1]))
        pieces = np.arange(first, last + 1)
        copied = self._if_there(pieces, lambda: np.array(self._rows.span(start, count)))
        return copied if copied is not None else self.take(np.arange(start, start + count))

    def take(self, rows: Array, out: Array | None = None) -> Array:
        pieces = self._pieces_of(rows)
        copied = self._if_there(pieces, lambda: self._rows.take(rows, out))
        if copied is not None:
            return copied
        if out is None:
            out = np.empty((len(rows), *self._field.shape), self._field.dtype)
        absent = self._copy(rows, pieces, out, np.arange(len(rows)))
        for group in _groups(np.unique(pieces[absent]).tolist()):
            asked = absent[np.isin(pieces[absent], group)]
            with self._pieces.locked(group):
                asked = self._copy(rows, pieces, out, asked)  # another may have been first
                self._fetch(rows, pieces, out, asked)
        return out

    def _if_there(self, pieces: Array, copy: Callable[[], Array]) -> Array | None:
        """A copy, where all its pieces were there from its beginning to its end."""
        before = self._pieces.filled.take(pieces)
        if before.min(initial=now()) <= CHANGING:
            return None
        copied = copy()
        self._pieces.used[pieces] = now()
        return copied if (self._pieces.filled.take(pieces) == before).all() else None

    def _copy(self, rows: Array, pieces: Array, out: Array, asked: Array) -> Array:
        """Copy what is there of out[asked]; returns those of `asked` that are not."""
        pieces = pieces[asked]
        before = self._pieces.filled[pieces]
        there = before > CHANGING
        if there.any():
            out[asked[there]] = self._rows.take(rows[asked[there]])
        self._pieces.used[pieces] = now()
        there &= self._pieces.filled[pieces] == before  # else evicted while it was copied
        return asked[~there]

    def _fetch(self, rows: Array, pieces: Array, out: Array, asked: Array) -> None:
        missing = np.unique(pieces[asked]).tolist()
        if not missing:
            return
        with ThreadPoolExecutor(len(missing)) as pool:
            for piece, content in zip(missing, pool.map(self._fetched, missing), strict=True):
                shard, _, (first, _) = self._extent(piece)
                values = np.frombuffer(content, self._field.dtype).reshape(-1, *self._field.shape)
                here = asked[pieces[asked] == piece]
                out[here] = values[rows[here] - first]
                start = (first - shard * self._form.shard_rows(self._name)) * self._field.row_bytes
                self._pieces.keep(piece, start, content)

    def _fetched(self, piece: int) -> bytes:
        shard, scans, (first, stop) = self._extent(piece)
        row_bytes = self._field.row_bytes
        start = (first - shard * self._form.shard_rows(self._name)) * row_bytes
        name = path_of(self._form, self._name, shard)
        content = self._place.read_range(name, start, (stop - first) * row_bytes)
        begins = self._begins(scans) - first
        bad = [
            scan
            for scan, begin, end in zip(scans, begins, begins[1:], strict=False)
            if google_crc32c.value(content[begin * row_bytes : end * row_bytes])
            != self._checksums[scan]
        ]
        if bad:
            raise StoreError(
                f"{self._place}/{name}: damaged (rows {bad[:5]}); verify {self._place}, then push "
                "it again"
            )
        return content

    def _extent(self, piece: int) -> tuple[int, range, tuple[int, int]]:
        """Shard, scans, and first and last + 1 row of the field's array."""
        shard, within = divmod(piece - self._numbers.first, self._numbers.per_shard)
        start = shard * self._form.rows_per_shard
        stop = start + self._form.scans(shard)
        scans = range(start, stop)[within * self._numbers.scans :][: self._numbers.scans]
        begins = self._begins(scans)
        return shard, scans, (int(begins[0]), int(begins[-1]))

    def _begins(self, scans: range) -> Array:
        """(len(scans) + 1,) first row of each scan, and of what follows the last."""
        if self._places is None:
            return np.arange(scans.start, scans.stop + 1)
        places = self._places[scans.start : scans.stop]
        return np.append(places[:, 0], places[-1].sum())

    def _pieces_of(self, rows: Array) -> Array:
        scans = rows
        if self._places is not None:  # the last scan that begins there has rows, if any has
            scans = np.searchsorted(self._places[:, 0], rows, side="right") - 1
        pieces: Array = scans // self._numbers.scans + self._numbers.first
        return pieces

    @cached_property
    def _checksums(self) -> Array:
        column = CHECKSUM + self._name
        checksums: Array = read_table(self._folder / "manifest.parquet", [column])[
            column
        ].to_numpy()
        return checksums


def _groups(pieces: list[int]) -> Iterator[list[int]]:
    return (pieces[i : i + FETCHES] for i in range(0, len(pieces), FETCHES))


_held: dict[Path, int] = {}


def _hold(folder: Path) -> None:
    """Say that this process reads a mirror, until it ends."""
    if folder not in _held:
        _held[folder] = lock(folder / IN_USE, fcntl.LOCK_SH)
