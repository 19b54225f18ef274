"""Reading a store below a URL through a folder that holds as much of it as has been asked for.

A mirror is a version's folder: its tables and metadata whole, its shards as sparse files of full
size, filled by pieces (`pieces.py`) as rows are asked for. It belongs to one machine, until that
machine starts anew: who is on another one, or finds the files after a power cut, makes another.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.store.arrays.shards import shard_index
from pipeline.store.documents import as_json, content_of, parsed
from pipeline.store.durable_files import write_file
from pipeline.store.form import Form, form_of
from pipeline.store.listing import Files, check_shards, version_of
from pipeline.store.locks import lock
from pipeline.store.paths import FILES
from pipeline.store.remote.head import published_version
from pipeline.store.remote.objects import Place
from pipeline.store.remote.pieces import create, punch
from pipeline.store.remote.transfer import fetch_small, listed

CACHE_BYTES, PIECE_BYTES = 64 << 30, 4 << 20
MIRROR, IN_USE = "mirror.json", "in_use"


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
    folder = cache / f"{version_of(listing)}-{started}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        making = lock(folder.with_suffix(".lock"), fcntl.LOCK_EX)
        try:
            if not (folder / MIRROR).exists():
                _sweep(cache, started)
                fetch_small(version, content, folder)
                _lay_out(folder, listing["files"], piece_bytes)
            _tell(folder, piece_bytes, version.url, cache_bytes)
        finally:
            os.close(making)
    except OSError as error:
        remedy = "name a cache folder on a local disk with room"
        raise StoreError(f"{folder}: {error.strerror or error}; {remedy}") from error
    return folder


def _tell(folder: Path, piece_bytes: int, url: str, cache_bytes: int) -> None:
    """Write what a mirror is of; `piece_bytes` stays as it was when the mirror was made."""
    path = folder / MIRROR
    told = parsed(content_of(path), path) if path.exists() else {"piece_bytes": piece_bytes}
    wanted = told | {"url": url, "cache_bytes": cache_bytes}
    if wanted != told:
        write_file(path, as_json(wanted))


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
            part = form.holding(entry["field"])
            _lay_out_shard(folder / path, part, entry["field"], entry["bytes"])
    create(folder, form, piece_bytes)


def _lay_out_shard(path: Path, form: Form, name: str, n_bytes: int) -> None:
    data, index = n_bytes - form.index_bytes(name), b""
    if not form.compressed:
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


_held: dict[Path, int] = {}


def hold(folder: Path) -> None:
    """Say that this process reads a mirror, until it ends."""
    if folder not in _held:
        _held[folder] = lock(folder / IN_USE, fcntl.LOCK_SH)
