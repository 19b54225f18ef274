"""Where files hold what they must not: names and bytes, whatever they are packed in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import zarr


def leaks(needles: Iterable[bytes | str], *folders: Path) -> list[str]:
    """Each file below the folders that holds a needle, in capitals or not if it is text; tables and
    arrays of text are unpacked for it. Names of files count too."""
    raw = [needle for needle in needles if isinstance(needle, bytes)]
    texts = [needle.casefold() for needle in needles if isinstance(needle, str)]
    found = []
    for folder in folders:
        for path, content in _contents(folder):
            lower = content.decode("latin-1").casefold()
            held = [text for text in texts if text in lower or text in str(path).casefold()]
            held += [needle.hex()[:16] for needle in raw if needle in content]
            found += [f"{path}: {', '.join(held)}"] if held else []
    return found


def _contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder.parent), path.read_bytes()
            if path.suffix == ".parquet":
                rows = pq.read_table(path).to_pylist()
                yield path.relative_to(folder.parent), repr(rows).encode()
        elif path.name == "scan_id":
            names = zarr.open_array(path, mode="r")[:]
            yield path.relative_to(folder.parent), "\n".join(map(str, names)).encode()
