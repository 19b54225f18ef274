"""Where files hold what they must not: names and bytes, whatever they are packed in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import zarr

HEX = "[0-9a-f]"
BY_CHANCE = 12
"""Hexadecimal digits: fewer are found in other keys and digests by chance."""


def leaks(needles: Iterable[bytes | str], *folders: Path) -> list[str]:
    """Each file below the folders that holds a needle, in capitals or not if it is text; tables and
    arrays of text are unpacked for it. Names of files count too. A name that is a few hexadecimal
    digits, such as f1001, is not sought within longer ones."""
    raw = [needle for needle in needles if isinstance(needle, bytes)]
    texts = [needle.casefold() for needle in needles if isinstance(needle, str)]
    sought = {text: _sought(text) for text in texts}
    found = []
    for folder in folders:
        for path, content in _contents(folder):
            lower = content.decode("latin-1").casefold()
            named = str(path).casefold()
            held = [t for t, it in sought.items() if it.search(lower) or it.search(named)]
            held += [needle.hex()[:16] for needle in raw if needle in content]
            found += [f"{path}: {', '.join(held)}"] if held else []
    return found


def _sought(text: str) -> re.Pattern[str]:
    short = len(text) < BY_CHANCE and re.fullmatch(f"{HEX}+", text)
    return re.compile(f"(?<!{HEX}){text}(?!{HEX})" if short else re.escape(text))


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
